    private let interpreter: Interpreter

    /// `path`: of the model file, which lies in the app's bundle.
    public init(path: String, threads: Int = 1) throws {
        var options = Interpreter.Options()
        options.threadCount = threads
        interpreter = try Interpreter(modelPath: path, options: options)
        for tensor in Spec.inputs {
            try interpreter.resizeInput(at: tensor.position, to: Tensor.Shape(tensor.shape))
        }
        try interpreter.allocateTensors()
    }

    /// Tensors as the file holds them, in the order of `Spec.inputs` -> those of `Spec.outputs`.
    public func runHeld(_ inputs: [Data]) throws -> [Data] {
        if inputs.count != Spec.inputs.count { throw InputError(description: "one tensor an input is needed") }
@@RESET@@        for (data, tensor) in zip(inputs, Spec.inputs) {
            try interpreter.copy(data, toInputAt: tensor.position)
        }
        try interpreter.invoke()
        return try Spec.outputs.map { try interpreter.output(at: $0.position).data }
    }
