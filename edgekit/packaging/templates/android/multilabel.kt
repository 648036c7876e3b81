
    /** The labels whose probability reaches @@THRESHOLD@@. */
    fun answer(outputs: List<FloatArray>): List<Pair<String, Double>> =
        outputs[0].map { if (@@LOGITS@@) 1.0 / (1.0 + kotlin.math.exp(-it.toDouble())) else it.toDouble() }
            .withIndex().filter { it.value >= @@THRESHOLD@@ }.map { labels[it.index] to it.value }
