class Model {
 public:
  explicit Model(const std::string &path, int threads = 1) : model_(TfLiteModelCreateFromFile(path.c_str())) {
    if (model_ == nullptr) throw std::runtime_error(path + " cannot be opened as a TFLite model");
    TfLiteInterpreterOptions *options = TfLiteInterpreterOptionsCreate();
    TfLiteInterpreterOptionsSetNumThreads(options, threads);
    interpreter_ = TfLiteInterpreterCreate(model_, options);
    TfLiteInterpreterOptionsDelete(options);
    if (interpreter_ == nullptr) throw std::runtime_error(path + " has an operator that this runtime lacks");
    check(TfLiteInterpreterAllocateTensors(interpreter_), "allocate its tensors");
    for (const TensorInfo &info : kInputs) {
      const TfLiteTensor *tensor = TfLiteInterpreterGetInputTensor(interpreter_, info.position);
      if (TfLiteTensorByteSize(tensor) == count_of(info) * size_of(info.type)) continue;
      const std::vector<int> shape(info.shape.begin(), info.shape.end());
      check(TfLiteInterpreterResizeInputTensor(interpreter_, info.position, shape.data(), (int)shape.size()), "resize");
    }
    check(TfLiteInterpreterAllocateTensors(interpreter_), "allocate its tensors");
  }
  Model(const Model &) = delete;
  Model &operator=(const Model &) = delete;
  ~Model() {
    if (interpreter_ != nullptr) TfLiteInterpreterDelete(interpreter_);
    if (model_ != nullptr) TfLiteModelDelete(model_);
  }

  // Tensors in the order of kInputs, as the file holds them -> those of kOutputs.
  std::vector<Bytes> run_held(std::vector<Bytes> inputs) {
    if (inputs.size() != kInputs.size()) throw std::invalid_argument("one tensor an input is needed");
@@RESET@@    for (size_t k = 0; k < inputs.size(); k++) {
      TfLiteTensor *tensor = TfLiteInterpreterGetInputTensor(interpreter_, kInputs[k].position);
      check(TfLiteTensorCopyFromBuffer(tensor, inputs[k].data(), inputs[k].size()), "take its input");
    }
    check(TfLiteInterpreterInvoke(interpreter_), "run");
    std::vector<Bytes> outputs;
    for (const TensorInfo &info : kOutputs) {
      const TfLiteTensor *tensor = TfLiteInterpreterGetOutputTensor(interpreter_, info.position);
      outputs.emplace_back(TfLiteTensorByteSize(tensor));
      check(TfLiteTensorCopyToBuffer(tensor, outputs.back().data(), outputs.back().size()), "give its output");
    }
    return outputs;
  }

@@RUN@@
 private:
  static void check(TfLiteStatus status, const char *what) {
    if (status != kTfLiteOk) throw std::runtime_error(std::string("the model could not ") + what);
  }

  TfLiteModel *model_;
  TfLiteInterpreter *interpreter_ = nullptr;
};
