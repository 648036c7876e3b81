
    /** The next values, in the units of the data. */
    fun answer(outputs: List<FloatArray>): FloatArray = outputs[0].map { it * @@STD@@f + @@MEAN@@f }.toFloatArray()
