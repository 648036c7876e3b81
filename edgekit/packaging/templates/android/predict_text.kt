
    /** What the outputs for a text are. */
    fun predict(text: String) = @@ANSWER@@(run(listOf(Spec.@@RULE@@.encode(text))))
