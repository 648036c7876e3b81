// A picture of any size, RGB (3 channels) or grey (1), rows from the top; it becomes @@HEIGHT@@ x @@WIDTH@@.
inline Values encode_@@NAME@@(const uint8_t *pixels, int height, int width, int channels) {
  Values values(@@COUNT@@);
  if (height < 1 || width < 1 || (channels != 1 && channels != 3))
    throw std::invalid_argument("a picture has 1 or 3 channels");
  if (!ek_image(pixels, height, width, channels, &ek_rule_@@NAME@@, values.data()))
    throw std::runtime_error("no memory for the picture");
  return values;
}
