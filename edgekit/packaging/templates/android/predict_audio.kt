
    /** What the outputs for a recording are: samples of one channel in -1..1. */
    fun predict(samples: FloatArray, samplingRate: Int) = @@ANSWER@@(run(listOf(Spec.@@RULE@@.encode(samples, samplingRate))))
