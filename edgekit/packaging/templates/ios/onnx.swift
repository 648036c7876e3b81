    private let environment: ORTEnv
    private let session: ORTSession

    /// `path`: of the model file, which lies in the app's bundle.
    public init(path: String, threads: Int = 1) throws {
        environment = try ORTEnv(loggingLevel: ORTLoggingLevel.warning)
        let options = try ORTSessionOptions()
        try options.setIntraOpNumThreads(Int32(threads))
        session = try ORTSession(env: environment, modelPath: path, sessionOptions: options)
    }

    /// Tensors as the file holds them, in the order of `Spec.inputs` -> those of `Spec.outputs`.
    public func runHeld(_ inputs: [Data]) throws -> [Data] {
        if inputs.count != Spec.inputs.count { throw InputError(description: "one tensor an input is needed") }
        var given = [String: ORTValue]()
        for (data, tensor) in zip(inputs, Spec.inputs) {
            let shape = tensor.shape.map { NSNumber(value: $0) }
            let bytes = NSMutableData(data: data)
            given[tensor.fileName] = try ORTValue(tensorData: bytes, elementType: element(tensor.type), shape: shape)
        }
        let names = Set(Spec.outputs.map { $0.fileName })
        let made = try session.run(withInputs: given, outputNames: names, runOptions: nil)
        return try Spec.outputs.map { tensor in
            guard let value = made[tensor.fileName] else {
                throw InputError(description: "the model gave no \(tensor.name)")
            }
            return try value.tensorData() as Data
        }
    }

    private func element(_ type: ElementType) throws -> ORTTensorElementDataType {
        switch type {
        case .float32: return .float
        case .int8: return .int8
        case .uint8: return .uInt8
        case .int32: return .int32
        case .int64: return .int64
        default: throw InputError(description: "onnxruntime's Swift interface has no tensors of \(type)")
        }
    }
