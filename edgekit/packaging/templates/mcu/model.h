// @@HEAD@@
//
// What TensorFlow Lite for Microcontrollers needs to run the model, and how a raw sample becomes its input.
#ifndef @@GUARD@@
#define @@GUARD@@

#include <cstddef>
#include <cstdint>

#include "model_data.h"
#include "preprocess.h"
#include "tensorflow/lite/c/common.h"
#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"

namespace @@NAME@@ {

// @@ARENA_WORDS@@
constexpr size_t kArenaBytes = @@ARENA@@;
constexpr int kOperators = @@COUNT@@;
using Resolver = tflite::MicroMutableOpResolver<kOperators>;

inline TfLiteStatus register_operators(Resolver &resolver) {
@@REGISTER@@  return kTfLiteOk;
}

@@LABELS@@// Inputs and outputs by their place in the file: interpreter.input(kInput_NAME), interpreter.output(kOutput_NAME).
@@PLACES@@
// A real value as element k of a tensor, quantized where the tensor is.
inline void store(TfLiteTensor *tensor, size_t k, float value) {
  const float scale = tensor->params.scale;
  const int zero = tensor->params.zero_point;
  switch (tensor->type) {
    case kTfLiteInt8: tensor->data.int8[k] = (int8_t)ek_quantized(value, scale, zero, -128, 127); break;
    case kTfLiteUInt8: tensor->data.uint8[k] = (uint8_t)ek_quantized(value, scale, zero, 0, 255); break;
    case kTfLiteInt16: tensor->data.i16[k] = (int16_t)ek_quantized(value, scale, zero, -32768, 32767); break;
    case kTfLiteInt32: tensor->data.i32[k] = (int32_t)value; break;
    default: tensor->data.f[k] = value;
  }
}

// Element k of a tensor as a real value.
inline float load(const TfLiteTensor *tensor, size_t k) {
  const float scale = tensor->params.scale;
  const int zero = tensor->params.zero_point;
  switch (tensor->type) {
    case kTfLiteInt8: return ek_real(tensor->data.int8[k], scale, zero);
    case kTfLiteUInt8: return ek_real(tensor->data.uint8[k], scale, zero);
    case kTfLiteInt16: return ek_real(tensor->data.i16[k], scale, zero);
    case kTfLiteInt32: return (float)tensor->data.i32[k];
    default: return tensor->data.f[k];
  }
}

@@ENCODERS@@@@ANSWER@@}  // namespace @@NAME@@

#endif  // @@GUARD@@
