// @@ROWS@@ row(s) of @@COLUMNS@@ numbers, the newest last.
inline void encode_@@NAME@@(const float *rows, TfLiteTensor *tensor) {
  float values[@@COUNT@@];
  ek_columns(rows, @@ROWS@@, &ek_rule_@@NAME@@, values);
  for (size_t k = 0; k < @@COUNT@@; k++) store(tensor, k, values[k]);
}

