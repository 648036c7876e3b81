// @@HEAD@@
//
// How a raw sample becomes the model's input. Nothing of Android is needed here.
package @@PACKAGE@@

import kotlin.math.PI
import kotlin.math.abs
import kotlin.math.ceil
import kotlin.math.cos
import kotlin.math.ln
import kotlin.math.max
import kotlin.math.min
import kotlin.math.round
import kotlin.math.sin

/** A picture: [pixels] of 0..255 in rows from the top, RGB side by side (3 channels) or grey (1). */
class Picture(val pixels: ByteArray, val height: Int, val width: Int, val channels: Int)

/** Real value = byte * factor + offset of its channel; resized by [filter], the centre cut out. */
class ImageRule(
    val height: Int, val width: Int, val channels: Int, val channelsFirst: Boolean, val bgr: Boolean,
    val filter: String, val shorter: Int, val resizeHeight: Int, val resizeWidth: Int, val bars: Int,
    val factor: FloatArray, val offset: FloatArray,
) {
    fun encode(picture: Picture): FloatArray {
        val pixels = fitted(picture)
        val area = height * width
        return FloatArray(area * channels) { k ->
            val c = if (channelsFirst) k / area else k % channels
            val pixel = if (channelsFirst) k % area else k / channels
            val from = if (bgr) channels - 1 - c else c
            (pixels[pixel * channels + from].toInt() and 255).toFloat() * factor[c] + offset[c]
        }
    }

    private fun fitted(picture: Picture): ByteArray {
        val same = converted(picture)
        if (picture.height == height && picture.width == width) return same
        var toHeight = resizeHeight
        var toWidth = resizeWidth
        if (shorter > 0) {
            val scale = shorter.toDouble() / min(picture.height, picture.width)
            toHeight = max(height, (picture.height * scale).toInt())
            toWidth = max(width, (picture.width * scale).toInt())
        }
        if (bars >= 0) {  // shown whole
            val scale = min(height.toDouble() / picture.height, width.toDouble() / picture.width)
            toHeight = max(1, round(picture.height * scale).toInt())
            toWidth = max(1, round(picture.width * scale).toInt())
        }
        val resized = resize(same, picture.height, picture.width, toHeight, toWidth)
        val top = if (bars < 0) round((toHeight - height) / 2.0).toInt() else -((height - toHeight) / 2)
        val left = if (bars < 0) round((toWidth - width) / 2.0).toInt() else -((width - toWidth) / 2)
        val cut = ByteArray(height * width * channels) { max(bars, 0).toByte() }
        for (y in 0 until height) for (x in 0 until width) {
            val fromY = y + top
            val fromX = x + left
            if (fromY in 0 until toHeight && fromX in 0 until toWidth) {
                resized.copyInto(cut, (y * width + x) * channels, (fromY * toWidth + fromX) * channels, (fromY * toWidth + fromX + 1) * channels)
            }
        }
        return cut
    }

    private fun converted(picture: Picture): ByteArray {
        if (picture.channels == channels) return picture.pixels
        fun at(k: Int) = picture.pixels[k].toInt() and 255
        val count = picture.height * picture.width
        if (channels == 1) {
            return ByteArray(count) { k -> ((at(3 * k) * 19595 + at(3 * k + 1) * 38470 + at(3 * k + 2) * 7471 + 0x8000) shr 16).toByte() }
        }
        return ByteArray(count * channels) { k -> picture.pixels[k / channels] }
    }

    // Pillow's filters up to release 12: they widen as they reduce, in fixed point, horizontally first.
    private fun resize(from: ByteArray, h: Int, w: Int, toHeight: Int, toWidth: Int): ByteArray {
        if (filter == "nearest") {
            return ByteArray(toHeight * toWidth * channels) { k ->
                val pixel = k / channels
                val y = ((pixel / toWidth + 0.5) * h / toHeight).toInt()
                val x = ((pixel % toWidth + 0.5) * w / toWidth).toInt()
                from[(y * w + x) * channels + k % channels]
            }
        }
        val wide = if (w == toWidth) from else {
            ByteArray(h * toWidth * channels).also { axis(from, w, it, toWidth, h, channels, w * channels, channels, toWidth * channels) }
        }
        if (h == toHeight) return wide
        val line = toWidth * channels
        return ByteArray(toHeight * line).also { axis(wide, h, it, toHeight, toWidth, line, channels, line, channels) }
    }

    private fun axis(source: ByteArray, from: Int, made: ByteArray, to: Int, lines: Int, inStep: Int, inLine: Int, outStep: Int, outLine: Int) {
        val scale = from.toDouble() / to
        val widened = max(scale, 1.0)
        val support = supports.getValue(filter) * widened
        for (x in 0 until to) {
            val centre = (x + 0.5) * scale
            val first = max((centre - support + 0.5).toInt(), 0)
            val last = min((centre + support + 0.5).toInt(), from)
            val exact = DoubleArray(last - first) { weight((it + first - centre + 0.5) / widened) }
            val sum = exact.sum()
            val weights = IntArray(exact.size) { k ->
                val share = if (sum != 0.0) exact[k] / sum else exact[k]
                (share * (1 shl 22) + if (share < 0) -0.5 else 0.5).toInt()
            }
            for (line in 0 until lines) for (c in 0 until channels) {
                var value = 1 shl 21
                for (k in weights.indices) value += (source[line * inLine + (first + k) * inStep + c].toInt() and 255) * weights[k]
                made[line * outLine + x * outStep + c] = (value shr 22).coerceIn(0, 255).toByte()
            }
        }
    }

    private fun weight(at: Double): Double {
        val x = abs(at)
        return when (filter) {
            "box" -> if (at > -0.5 && at <= 0.5) 1.0 else 0.0
            "bilinear" -> if (x < 1.0) 1.0 - x else 0.0
            "hamming" -> if (x < 1.0) sinc(x) * (0.54 + 0.46 * cos(x * PI)) else 0.0
            "bicubic" -> if (x < 1.0) (1.5 * x - 2.5) * x * x + 1.0 else if (x < 2.0) (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5 else 0.0
            else -> if (x < 3.0) sinc(x) * sinc(x / 3.0) else 0.0
        }
    }

    private fun sinc(x: Double) = if (x == 0.0) 1.0 else sin(x * PI) / (x * PI)

    private companion object {
        val supports = mapOf("box" to 0.5, "bilinear" to 1.0, "hamming" to 1.0, "bicubic" to 2.0, "lanczos" to 3.0)
    }
}

/** ln(max(power @ triangles, floor)) of frames under a periodic Hann window; triangles on the HTK mel scale, peaks at 1. */
class AudioRule(
    val rate: Int, val window: Int, val hop: Int, val transform: Int, val bands: Int, val frames: Int,
    val peak: Boolean, val padBack: Boolean, val floor: Double, val corners: DoubleArray,
    val factor: FloatArray, val offset: FloatArray,
    /** Above 0: every frame is measured against the loudest sample so far, which is this one at first. */
    val least: Double = 0.0,
) {
    /** Samples of one channel in -1..1. */
    fun encode(samples: FloatArray, samplingRate: Int): FloatArray {
        require(samplingRate == rate) { "the model takes $rate Hz; resample the recording of $samplingRate Hz first" }
        require(samples.isNotEmpty()) { "the recording holds no sound" }
        val length = window + (frames - 1) * hop
        val start = if (samples.size > length) loudest(samples, length) else 0
        val part = samples.copyOfRange(start, start + min(samples.size, length))
        val top = part.maxOf { abs(it) }
        if (peak && top > 0f) for (k in part.indices) part[k] /= top
        val wave = FloatArray(length)
        part.copyInto(wave, if (padBack) 0 else length - part.size)
        return features(wave)
    }

    /** Where the first stretch begins that holds 98% of the energy of the loudest. */
    private fun loudest(samples: FloatArray, length: Int): Int {
        val energy = DoubleArray(samples.size + 1)
        for (k in samples.indices) energy[k + 1] = energy[k] + samples[k].toDouble() * samples[k]
        val stretches = DoubleArray(energy.size - length) { energy[it + length] - energy[it] }
        val most = stretches.max()
        return stretches.indexOfFirst { it >= 0.98 * most }
    }

    private fun features(wave: FloatArray): FloatArray {
        val bins = transform / 2 + 1
        val cosines = DoubleArray(transform) { cos(2.0 * PI * it / transform) }
        val sines = DoubleArray(transform) { sin(2.0 * PI * it / transform) }
        val hann = DoubleArray(window) { 0.5 - 0.5 * cos(2.0 * PI * it / window) }
        val made = FloatArray(frames * bands)
        val power = DoubleArray(bins)
        var level = least
        var heard = 0
        for (t in 0 until frames) {
            while (heard < t * hop + window) level = max(level, abs(wave[heard++]).toDouble())
            for (k in 0 until bins) {
                var real = 0.0
                var imaginary = 0.0
                for (n in 0 until window) {
                    val value = wave[t * hop + n] * hann[n]
                    val at = (n.toLong() * k % transform).toInt()
                    real += value * cosines[at]
                    imaginary -= value * sines[at]
                }
                power[k] = real * real + imaginary * imaginary
            }
            for (b in 0 until bands) {
                var sum = 0.0
                for (k in 0 until bins) {
                    val hz = k * (rate.toDouble() / transform)
                    val weight = min((hz - corners[b]) / (corners[b + 1] - corners[b]), (corners[b + 2] - hz) / (corners[b + 2] - corners[b + 1]))
                    if (weight > 0.0) sum += power[k] * weight
                }
                if (least > 0.0) sum /= level * level
                made[t * bands + b] = ln(max(sum, floor)).toFloat() * factor[b] + offset[b]
            }
        }
        return made
    }
}

/** Words as numbers: 0 padding, 1 unknown; the first of [words] is number 2. */
class TextRule(val length: Int, val beginning: Int, val lower: Boolean, val english: Boolean, words: String) {
    private val known = words.split(' ')
    private val numbers = known.withIndex().associate { (k, word) -> word to k + 2 }

    fun encode(text: String): FloatArray {
        val plain = text.replace('\u2019', '\'').let { if (lower) it.lowercase(java.util.Locale.ROOT) else it }
        val points = plain.codePoints().toArray()
        val row = FloatArray(length)
        var found = 0
        var at = 0
        while (at < points.size && found < length) {
            val size = token(points, at)
            if (size == 0) {
                at++
                continue
            }
            val word = String(points, at, size)
            val number = numbers[word] ?: if ((at until at + size).any { alphanumeric(points[it]) }) alike(word) else null
            if (number != null) row[found++] = number.toFloat()
            at += size
        }
        require(found > 0) { "the text holds no word" }
        return row
    }

    private fun alphanumeric(c: Int) = Character.isLetter(c) || when (Character.getType(c).toByte()) {
        Character.DECIMAL_DIGIT_NUMBER, Character.LETTER_NUMBER, Character.OTHER_NUMBER -> true
        else -> false
    }

    private fun inWord(c: Int) = c == '_'.code || alphanumeric(c)

    private fun follows(t: IntArray, at: Int, text: String) =
        at + text.length <= t.size && text.indices.all { t[at + it] == text[it].code } &&
            (at + text.length == t.size || !inWord(t[at + text.length]))

    /** Length of the token that begins at [at]; 0: none does. */
    private fun token(t: IntArray, at: Int): Int {
        var end = at
        if (!english) {
            while (end < t.size && inWord(t[end])) end++
            return end - at
        }
        if (follows(t, at, "n't")) return 3
        while (end < t.size && inWord(t[end])) {
            end++
            if (follows(t, end, "n't")) return end - at
        }
        if (end > at) return end - at
        if (t[at] == '\''.code) {
            for (tail in listOf("s", "re", "ve", "ll", "m", "d")) if (follows(t, at + 1, tail)) return 1 + tail.length
        }
        return if (t[at] < 128 && t[at].toChar() in ".,;:!?") 1 else 0
    }

    private fun alphabetic(word: String) = word.codePoints().allMatch(Character::isLetter)

    /** The first (most frequent) known word with the longest beginning in common, and 3 fifths of its letters in it. */
    private fun alike(word: String): Int {
        if (beginning < 1 || !alphabetic(word)) return 1
        val most = known.filter(::alphabetic).maxOfOrNull { it.commonPrefixWith(word).length } ?: 0
        if (most < max(beginning.toDouble(), 0.6 * word.length)) return 1
        val index = known.indexOfFirst { alphabetic(it) && it.commonPrefixWith(word).length >= most && ceil(0.6 * it.length) <= most }
        return if (index < 0) 1 else index + 2
    }
}

/** Rows of numbers side by side, the newest last; of more than [rows] the last. */
class ColumnsRule(val rows: Int, val columns: Int, val factor: FloatArray, val offset: FloatArray) {
    fun encode(values: FloatArray): FloatArray {
        require(values.size % columns == 0 && values.size >= rows * columns) { "$rows rows of $columns numbers or more are needed" }
        val start = values.size - rows * columns
        return FloatArray(rows * columns) { values[start + it] * factor[it % columns] + offset[it % columns] }
    }
}
