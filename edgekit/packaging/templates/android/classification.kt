
    /** Labels with their probabilities, the likeliest first. */
    fun answer(outputs: List<FloatArray>, most: Int = 5): List<Pair<String, Double>> {
        val scores = outputs[0]
        val top = scores.max()
        val shares = scores.map { kotlin.math.exp(it.toDouble() - top) }
        val sum = shares.sum()
        return shares.indices.sortedByDescending { shares[it] }.take(most).map { labels[it] to shares[it] / sum }
    }
