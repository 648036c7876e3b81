  // Real values an input -> real values an output.
  std::vector<Values> run(const std::vector<Values> &inputs) {
    std::vector<Bytes> given;
    for (size_t k = 0; k < inputs.size(); k++) given.push_back(held(inputs[k], kInputs.at(k)));
    const std::vector<Bytes> made = run_held(std::move(given));
    std::vector<Values> outputs;
    for (size_t k = 0; k < made.size(); k++) outputs.push_back(real(made[k], kOutputs[k]));
    return outputs;
  }
