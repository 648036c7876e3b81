// Labels with their probabilities, the likeliest first.
inline std::vector<std::pair<std::string, float>> answer(const std::vector<Values> &outputs, size_t most = 5) {
  const Values &scores = outputs.at(0);
  const float top = *std::max_element(scores.begin(), scores.end());
  double sum = 0.0;
  for (float score : scores) sum += std::exp((double)score - top);
  std::vector<size_t> order(scores.size());
  for (size_t k = 0; k < order.size(); k++) order[k] = k;
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return scores[a] > scores[b]; });
  std::vector<std::pair<std::string, float>> found;
  for (size_t k = 0; k < order.size() && k < most; k++)
    found.emplace_back(kLabels.at(order[k]), (float)(std::exp((double)scores[order[k]] - top) / sum));
  return found;
}
