// Rows of numbers with commas between, no header, columns in the order of the model.
Values read(const std::string &path) {
  std::istringstream file(contents(path));
  Values values;
  for (std::string line, cell; std::getline(file, line);) {
    std::istringstream cells(line);
    while (std::getline(cells, cell, ',')) values.push_back(std::stof(cell));
  }
  return encode_@@FIRST@@(values);
}
