// @@HEAD@@
//
//   @@NAME@@ [--in FOLDER] selftest    0: model and preprocessing compute here what they should
//   @@NAME@@ [--in FOLDER] INPUT       @@USAGE@@
#include "model.h"

#include <cstdio>
#include <iostream>

using namespace @@NAME@@;

namespace {

struct Blob {
  size_t offset, count;
};

std::string contents(const std::string &path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error(path + " cannot be read");
  return std::string(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
}

template <typename T>
std::vector<T> array(const std::string &blobs, Blob blob) {
  std::vector<T> values(blob.count);
  if (blob.offset + blob.count * sizeof(T) > blobs.size()) throw std::runtime_error("selftest.bin is cut short");
  std::memcpy(values.data(), blobs.data() + blob.offset, blob.count * sizeof(T));
  return values;
}

int compare(const char *name, const Values &found, const Values &wanted, double tolerance) {
  double off = found.size() < wanted.size() ? HUGE_VAL : 0.0;
  for (size_t k = 0; k < wanted.size() && k < found.size(); k++) {
    const double here = std::fabs((double)found[k] - (double)wanted[k]);
    off = here >= off || here != here ? here : off;
  }
  const bool passed = off <= tolerance;  // NaN is not
  std::printf("%s: %s, off by %.3g, allowed %.3g\n", passed ? "passed" : "FAILED", name, off, tolerance);
  return passed ? 0 : 1;
}

int selftest(const std::string &folder) {
  const std::string blobs = contents(folder + "/selftest.bin");
  int failed = 0;
@@SAMPLES@@  Model model(folder + "/@@MODEL@@");
  std::vector<Bytes> feed;
@@FEED@@  const std::vector<Bytes> made = model.run_held(feed);
@@EXPECTED@@  return failed ? 1 : 0;
}

@@READERS@@
}  // namespace

int main(int argc, char **argv) {
  std::vector<std::string> given(argv + 1, argv + argc);
  std::string folder = ".";
  try {
    if (given.size() > 1 && given[0] == "--in") {
      folder = given[1];
      given.erase(given.begin(), given.begin() + 2);
    }
    if (given.size() != 1) throw std::invalid_argument("give selftest, or one input: @@USAGE@@");
    if (given[0] == "selftest") return selftest(folder);
@@ANSWER@@  } catch (const std::exception &error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 2;
  }
  return 0;
}
