    private val interpreter = Interpreter(
        context.assets.open(Spec.MODEL).use { it.readBytes() }.let { bytes ->
            ByteBuffer.allocateDirect(bytes.size).order(ByteOrder.nativeOrder()).put(bytes).also { it.rewind() }
        },
        Interpreter.Options().setNumThreads(threads),
    )

    /** Tensors as the file holds them, in the order of [Spec.inputs] -> those of [Spec.outputs]. */
    fun runHeld(inputs: List<ByteBuffer>): List<ByteBuffer> {
        require(inputs.size == Spec.inputs.size) { "one tensor an input is needed" }
        for (tensor in Spec.inputs) interpreter.resizeInput(tensor.position, tensor.shape)
@@RESET@@        val given = arrayOfNulls<Any>(inputs.size)
        inputs.zip(Spec.inputs) { buffer, tensor -> given[tensor.position] = buffer.also { it.rewind() } }
        val made = Spec.outputs.map { ByteBuffer.allocateDirect(it.bytes).order(ByteOrder.nativeOrder()) }
        val places = HashMap<Int, Any>()
        made.zip(Spec.outputs) { buffer, tensor -> places[tensor.position] = buffer }
        interpreter.runForMultipleInputsOutputs(given, places)
        made.forEach { it.rewind() }
        return made
    }

    override fun close() = interpreter.close()

