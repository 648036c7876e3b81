// Samples of one channel in -1..1 at @@RATE@@ Hz.
inline Values encode_@@NAME@@(const Values &samples, int rate) {
  Values values(@@COUNT@@);
  if (rate != @@RATE@@) throw std::invalid_argument("the model takes @@RATE@@ Hz; resample the recording first");
  if (!ek_audio(samples.data(), (int)samples.size(), &ek_rule_@@NAME@@, values.data()))
    throw std::invalid_argument("a recording without samples");
  return values;
}
