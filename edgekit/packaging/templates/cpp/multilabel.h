// The labels whose probability reaches @@THRESHOLD@@.
inline std::vector<std::pair<std::string, float>> answer(const std::vector<Values> &outputs) {
  const Values &scores = outputs.at(0);
  std::vector<std::pair<std::string, float>> found;
  for (size_t k = 0; k < scores.size(); k++) {
    const double probability = @@PROBABILITY@@;
    if (probability >= @@THRESHOLD@@) found.emplace_back(kLabels.at(k), (float)probability);
  }
  return found;
}
