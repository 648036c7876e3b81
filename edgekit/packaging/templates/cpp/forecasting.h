// The next values, in the units of the data.
inline Values answer(const std::vector<Values> &outputs) {
  Values values = outputs.at(0);
  for (float &value : values) value = value * @@STD@@ + @@MEAN@@;
  return values;
}
