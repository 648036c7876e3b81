// The number of the likeliest class: kLabels has its name.
inline size_t answer(const TfLiteTensor *scores) {
  size_t best = 0;
  for (size_t k = 1; k < sizeof(kLabels) / sizeof(kLabels[0]); k++)
    if (load(scores, k) > load(scores, best)) best = k;
  return best;
}

