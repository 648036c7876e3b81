    private val environment = OrtEnvironment.getEnvironment()
    private val session = environment.createSession(
        context.assets.open(Spec.MODEL).use { it.readBytes() },
        OrtSession.SessionOptions().apply { setIntraOpNumThreads(threads) },
    )

    /** Tensors as the file holds them, in the order of [Spec.inputs] -> those of [Spec.outputs]. */
    fun runHeld(inputs: List<ByteBuffer>): List<ByteBuffer> {
        require(inputs.size == Spec.inputs.size) { "one tensor an input is needed" }
        val given = HashMap<String, OnnxTensor>()
        try {
            inputs.zip(Spec.inputs) { buffer, tensor ->
                val shape = LongArray(tensor.shape.size) { tensor.shape[it].toLong() }
                buffer.rewind()
                given[tensor.fileName] = OnnxTensor.createTensor(environment, buffer, shape, OnnxJavaType.valueOf(tensor.type.onnx))
            }
            session.run(given).use { results ->
                return Spec.outputs.map { tensor ->
                    val found = (results.get(tensor.fileName).get() as OnnxTensor).byteBuffer
                    ByteBuffer.allocateDirect(found.remaining()).order(ByteOrder.nativeOrder()).put(found).also { it.rewind() }
                }
            }
        } finally {
            given.values.forEach { it.close() }
        }
    }

    override fun close() = session.close()

