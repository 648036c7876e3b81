// The number of the class of each pixel, @@HEIGHT@@ rows of @@WIDTH@@.
inline std::vector<int> answer(const std::vector<Values> &outputs) {
  const Values &scores = outputs.at(@@OUTPUT@@);
  std::vector<int> mask(@@HEIGHT@@ * @@WIDTH@@);
  for (size_t k = 0; k < mask.size(); k++) {
    const float *pixel = scores.data() + k * @@PIXEL@@;
    if (@@CLASSES@@ == 1) mask[k] = pixel[0] > 0.0f;
    else
      for (int c = 1; c < @@CLASSES@@; c++)
        if (pixel[(size_t)c * @@STEP@@] > pixel[(size_t)mask[k] * @@STEP@@]) mask[k] = c;
  }
  return mask;
}
