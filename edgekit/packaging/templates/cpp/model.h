// @@HEAD@@
//
//   @@NAME@@::Model model("@@MODEL@@");
//   auto answer = model.run({@@NAME@@::encode_@@FIRST@@(...)});   // one vector of real values an output
//
// Needs C++17 and @@RUNTIME@@. Everything that is the model's own stands in this file.
#ifndef @@GUARD@@
#define @@GUARD@@

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <initializer_list>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

@@INCLUDE@@

namespace @@NAME@@ {

#define EK_PI 3.14159265358979323846

enum class Type { float32, int8, uint8, int16, int32, int64, boolean };

struct TensorInfo {
  const char *name;       // what the card calls it
  const char *file_name;  // what the file does
  int position;           // among the inputs or outputs of the file
  Type type;
  std::vector<int64_t> shape;
  bool quantized;  // real = scale * (integer - zero_point)
  float scale;
  int zero_point;
};

static const std::vector<TensorInfo> kInputs = {@@INPUTS@@};
static const std::vector<TensorInfo> kOutputs = {@@OUTPUTS@@};
static const std::vector<const char *> kLabels = {@@LABELS@@};

using Bytes = std::vector<uint8_t>;  // of a tensor, as the file holds it
using Values = std::vector<float>;   // real ones

static size_t count_of(const TensorInfo &info) {
  size_t count = 1;
  for (int64_t size : info.shape) count *= (size_t)size;
  return count;
}

static size_t size_of(Type type) {
  switch (type) {
    case Type::int64: return 8;
    case Type::float32: case Type::int32: return 4;
    case Type::int16: return 2;
    default: return 1;
  }
}

@@PARTS@@
template <typename T>
static void put(Bytes &bytes, size_t k, T value) {
  std::memcpy(bytes.data() + k * sizeof(T), &value, sizeof(T));
}

template <typename T>
static T get(const Bytes &bytes, size_t k) {
  T value;
  std::memcpy(&value, bytes.data() + k * sizeof(T), sizeof(T));
  return value;
}

// Real values as the file holds them, quantized where it does.
inline Bytes held(const Values &values, const TensorInfo &info) {
  if (values.size() != count_of(info))
    throw std::invalid_argument(std::string(info.name) + " has " + std::to_string(count_of(info)) + " values, got " +
                                std::to_string(values.size()));
  Bytes bytes(values.size() * size_of(info.type));
  for (size_t k = 0; k < values.size(); k++) {
    const float v = values[k];
    auto integer = [&](int32_t least, int32_t most) {
      return info.quantized ? ek_quantized(v, info.scale, info.zero_point, least, most) : (int32_t)v;
    };
    switch (info.type) {
      case Type::float32: put(bytes, k, v); break;
      case Type::int8: put(bytes, k, (int8_t)integer(-128, 127)); break;
      case Type::uint8: put(bytes, k, (uint8_t)integer(0, 255)); break;
      case Type::int16: put(bytes, k, (int16_t)integer(-32768, 32767)); break;
      case Type::int32: put(bytes, k, (int32_t)v); break;
      case Type::int64: put(bytes, k, (int64_t)v); break;
      case Type::boolean: put(bytes, k, (uint8_t)(v != 0)); break;
    }
  }
  return bytes;
}

// What the file holds as real values.
inline Values real(const Bytes &bytes, const TensorInfo &info) {
  Values values(bytes.size() / size_of(info.type));
  for (size_t k = 0; k < values.size(); k++) {
    int64_t integer = 0;
    switch (info.type) {
      case Type::float32: values[k] = get<float>(bytes, k); continue;
      case Type::int8: integer = get<int8_t>(bytes, k); break;
      case Type::uint8: case Type::boolean: integer = get<uint8_t>(bytes, k); break;
      case Type::int16: integer = get<int16_t>(bytes, k); break;
      case Type::int32: integer = get<int32_t>(bytes, k); break;
      case Type::int64: integer = get<int64_t>(bytes, k); break;
    }
    values[k] = info.quantized ? ek_real((int32_t)integer, info.scale, info.zero_point) : (float)integer;
  }
  return values;
}

@@ENCODERS@@
@@ANSWER@@
@@RUNNER@@
}  // namespace @@NAME@@

#endif  // @@GUARD@@
