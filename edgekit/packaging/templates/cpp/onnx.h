class Model {
 public:
  explicit Model(const std::string &path, int threads = 1) : api_(OrtGetApiBase()->GetApi(ORT_API_VERSION)) {
    if (api_ == nullptr) throw std::runtime_error("this onnxruntime is older than the header it was compiled with");
    check(api_->CreateEnv(ORT_LOGGING_LEVEL_WARNING, "@@NAME@@", &env_));
    OrtSessionOptions *options = nullptr;
    check(api_->CreateSessionOptions(&options));
    OrtStatus *status = api_->SetIntraOpNumThreads(options, threads);
    const std::basic_string<ORTCHAR_T> place(path.begin(), path.end());
    if (status == nullptr) status = api_->CreateSession(env_, place.c_str(), options, &session_);
    api_->ReleaseSessionOptions(options);
    check(status);
    check(api_->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory_));
  }
  Model(const Model &) = delete;
  Model &operator=(const Model &) = delete;
  ~Model() {
    if (memory_ != nullptr) api_->ReleaseMemoryInfo(memory_);
    if (session_ != nullptr) api_->ReleaseSession(session_);
    if (env_ != nullptr) api_->ReleaseEnv(env_);
  }

  // Tensors in the order of kInputs, as the file holds them -> those of kOutputs.
  std::vector<Bytes> run_held(std::vector<Bytes> inputs) {
    if (inputs.size() != kInputs.size()) throw std::invalid_argument("one tensor an input is needed");
    std::vector<const char *> given, wanted;
    std::vector<OrtValue *> values(inputs.size(), nullptr), made(kOutputs.size(), nullptr);
    OrtStatus *status = nullptr;
    for (size_t k = 0; k < inputs.size() && status == nullptr; k++) {
      const TensorInfo &info = kInputs[k];
      given.push_back(info.file_name);
      status = api_->CreateTensorWithDataAsOrtValue(memory_, inputs[k].data(), inputs[k].size(), info.shape.data(),
                                                    info.shape.size(), type_of(info.type), &values[k]);
    }
    for (const TensorInfo &info : kOutputs) wanted.push_back(info.file_name);
    if (status == nullptr)
      status = api_->Run(session_, nullptr, given.data(), values.data(), values.size(), wanted.data(), wanted.size(),
                         made.data());
    std::vector<Bytes> outputs;
    for (size_t k = 0; k < made.size() && status == nullptr; k++) {
      void *data = nullptr;
      status = api_->GetTensorMutableData(made[k], &data);
      const size_t bytes = count_of(kOutputs[k]) * size_of(kOutputs[k].type);
      if (status == nullptr) outputs.emplace_back((uint8_t *)data, (uint8_t *)data + bytes);
    }
    for (OrtValue *value : values) if (value != nullptr) api_->ReleaseValue(value);
    for (OrtValue *value : made) if (value != nullptr) api_->ReleaseValue(value);
    check(status);
    return outputs;
  }

@@RUN@@
 private:
  static ONNXTensorElementDataType type_of(Type type) {
    switch (type) {
      case Type::float32: return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
      case Type::int8: return ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8;
      case Type::uint8: return ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8;
      case Type::int16: return ONNX_TENSOR_ELEMENT_DATA_TYPE_INT16;
      case Type::int32: return ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32;
      case Type::int64: return ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64;
      default: return ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL;
    }
  }

  void check(OrtStatus *status) {
    if (status == nullptr) return;
    const std::string message = api_->GetErrorMessage(status);
    api_->ReleaseStatus(status);
    throw std::runtime_error(message);
  }

  const OrtApi *api_;
  OrtEnv *env_ = nullptr;
  OrtSession *session_ = nullptr;
  OrtMemoryInfo *memory_ = nullptr;
};
