
    /** What the outputs for rows of numbers are, side by side, the newest last. */
    fun predict(rows: FloatArray) = @@ANSWER@@(run(listOf(Spec.@@RULE@@.encode(rows))))
