
    /** The number of the class of each pixel, @@HEIGHT@@ rows of @@WIDTH@@. */
    fun answer(outputs: List<FloatArray>): IntArray {
        val scores = outputs[@@OUTPUT@@]
        return IntArray(@@HEIGHT@@ * @@WIDTH@@) { pixel ->
            if (@@CLASSES@@ == 1) (if (scores[pixel] > 0f) 1 else 0)
            else (0 until @@CLASSES@@).maxByOrNull { scores[pixel * @@PIXEL@@ + it * @@STEP@@] }!!
        }
    }
