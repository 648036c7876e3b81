// UTF-8.
inline Values encode_@@NAME@@(const std::string &text) {
  static const ek_words words(ek_rule_@@NAME@@);
  const std::vector<int32_t> row = words.encode(text);
  return Values(row.begin(), row.end());
}
