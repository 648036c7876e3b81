// @@HEAD@@
//
// Whether the model computes on this target what its card promises, and the preprocessing what edgekit's does.
#include <cmath>
#include <cstdio>
#include <cstring>

#include "model.h"
#include "selftest_data.h"
#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/schema/schema_generated.h"

using namespace @@NAME@@;

namespace {

alignas(16) uint8_t arena[kArenaBytes];

template <typename Found>
int compare(const char *name, size_t count, const float *wanted, double tolerance, Found found) {
  double off = 0.0;
  for (size_t k = 0; k < count; k++) {
    const double here = std::fabs((double)found(k) - (double)wanted[k]);
    off = here >= off || here != here ? here : off;
  }
  const bool passed = off <= tolerance;
  std::printf("%s: %s, off by %.3g, allowed %.3g\n", passed ? "passed" : "FAILED", name, off, tolerance);
  return passed ? 0 : 1;
}

}  // namespace

// 0 where it does. Call it from your own main, or build with -DSELFTEST_MAIN.
int @@NAME@@_selftest() {
  const tflite::Model *model = tflite::GetModel(@@NAME@@_model);
  Resolver resolver;
  if (register_operators(resolver) != kTfLiteOk) return 1;
  tflite::MicroInterpreter interpreter(model, resolver, arena, kArenaBytes);
  if (interpreter.AllocateTensors() != kTfLiteOk) {
    std::printf("FAILED: %u bytes are too few for the tensors\n", (unsigned)kArenaBytes);
    return 1;
  }
  int failed = 0;
@@SAMPLES@@@@FEED@@  if (interpreter.Invoke() != kTfLiteOk) return 1;
@@EXPECTED@@  return failed ? 1 : 0;
}

#ifdef SELFTEST_MAIN
int main() { return @@NAME@@_selftest(); }
#endif
