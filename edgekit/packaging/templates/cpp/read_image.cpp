// A picture as .ppm or .pgm of 8 bits (P6, P5); an app has its own decoder.
Values read(const std::string &path) {
  std::istringstream file(contents(path));
  std::string kind;
  int width = 0, height = 0, most = 0;
  file >> kind >> width >> height >> most;
  file.get();
  const int channels = kind == "P6" ? 3 : 1;
  if ((kind != "P6" && kind != "P5") || width < 1 || height < 1 || most != 255)
    throw std::runtime_error(path + " is not a .ppm or .pgm file of 8 bits");
  std::vector<uint8_t> pixels((size_t)width * height * channels);
  if (!file.read((char *)pixels.data(), (std::streamsize)pixels.size())) throw std::runtime_error(path + " is cut short");
  return encode_@@FIRST@@(pixels.data(), height, width, channels);
}
