// A picture of exactly @@HEIGHT@@ x @@WIDTH@@ with @@CHANNELS@@ bytes a pixel (@@COLOR@@), rows from the top.
inline void encode_@@NAME@@(const uint8_t *pixels, TfLiteTensor *tensor) {
  for (size_t k = 0; k < @@COUNT@@; k++) store(tensor, k, ek_image_value(pixels, &ek_rule_@@NAME@@, k));
}

