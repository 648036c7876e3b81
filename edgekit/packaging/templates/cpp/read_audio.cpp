// A .wav file of 16-bit samples, its channels averaged.
Values read(const std::string &path) {
  const std::string content = contents(path);
  if (content.size() < 12 || content.compare(0, 4, "RIFF") != 0) throw std::runtime_error(path + " is not a WAV file");
  uint16_t channels = 1, bits = 0;
  uint32_t rate = 0, length = 0;
  for (size_t at = 12; at + 8 <= content.size(); at += 8 + length + length % 2) {
    std::memcpy(&length, &content[at + 4], 4);
    if (content.compare(at, 4, "fmt ") == 0 && at + 24 <= content.size()) {
      std::memcpy(&channels, &content[at + 10], 2);
      std::memcpy(&rate, &content[at + 12], 4);
      std::memcpy(&bits, &content[at + 22], 2);
    } else if (content.compare(at, 4, "data") == 0 && bits == 16 && channels > 0) {
      const size_t count = std::min<size_t>(length, content.size() - at - 8) / (2u * channels);
      Values samples(count);
      for (size_t k = 0; k < count; k++) {
        float sum = 0.0f;
        for (size_t c = 0; c < channels; c++) {
          int16_t value;
          std::memcpy(&value, &content[at + 8 + 2 * (k * channels + c)], 2);
          sum += (float)value / 32768.0f;
        }
        samples[k] = sum / channels;
      }
      return encode_@@FIRST@@(samples, (int)rate);
    }
  }
  throw std::runtime_error(path + " has no 16-bit samples");
}
