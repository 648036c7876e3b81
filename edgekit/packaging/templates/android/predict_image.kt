
    /** What the outputs for a picture are; [bitmap] of any size, transparency on white. */
    fun predict(bitmap: Bitmap) = @@ANSWER@@(run(listOf(Spec.@@RULE@@.encode(picture(bitmap)))))

    private fun picture(bitmap: Bitmap): Picture {
        val colors = IntArray(bitmap.width * bitmap.height)
        bitmap.getPixels(colors, 0, bitmap.width, 0, 0, bitmap.width, bitmap.height)
        val pixels = ByteArray(colors.size * 3)
        for (k in colors.indices) {
            val alpha = colors[k] ushr 24
            for (c in 0..2) {
                val value = colors[k] shr (16 - 8 * c) and 255
                pixels[3 * k + c] = ((value * alpha + 255 * (255 - alpha) + 127) / 255).toByte()
            }
        }
        return Picture(pixels, bitmap.height, bitmap.width, 3)
    }
