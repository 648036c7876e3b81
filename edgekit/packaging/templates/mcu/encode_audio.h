// Samples of one channel in -1..1 at @@RATE@@ Hz; takes memory from the heap while it runs. False: none left.
inline bool encode_@@NAME@@(const float *samples, int count, TfLiteTensor *tensor) {
  float *values = (float *)malloc(sizeof(float) * @@COUNT@@);
  const bool done = values != nullptr && ek_audio(samples, count, &ek_rule_@@NAME@@, values);
  for (size_t k = 0; done && k < @@COUNT@@; k++) store(tensor, k, values[k]);
  free(values);
  return done;
}

