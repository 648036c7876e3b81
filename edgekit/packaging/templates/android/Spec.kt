// @@HEAD@@
package @@PACKAGE@@

import java.nio.ByteBuffer
import java.nio.ByteOrder
import kotlin.math.round

/** How a tensor holds its values; [onnx]: what onnxruntime calls it. */
enum class Type(val bytes: Int, val onnx: String) {
    FLOAT32(4, "FLOAT"), INT8(1, "INT8"), UINT8(1, "UINT8"), INT16(2, "INT16"), INT32(4, "INT32"), INT64(8, "INT64"), BOOLEAN(1, "BOOL")
}

/** An input or output; real = scale * (integer - zeroPoint) where scale is not 0. [position]: in the file. */
class TensorInfo(
    val name: String, val fileName: String, val position: Int, val type: Type, val shape: IntArray,
    val scale: Float = 0f, val zeroPoint: Int = 0,
) {
    val count = shape.fold(1) { product, size -> product * size }
    val bytes = count * type.bytes

    /** Real values as the file holds them. */
    fun held(values: FloatArray): ByteBuffer {
        require(values.size == count) { "$name has $count values, got ${values.size}" }
        val buffer = ByteBuffer.allocateDirect(bytes).order(ByteOrder.nativeOrder())
        for (value in values) when (type) {
            Type.FLOAT32 -> buffer.putFloat(value)
            Type.INT8 -> buffer.put(integer(value, -128, 127).toByte())
            Type.UINT8 -> buffer.put(integer(value, 0, 255).toByte())
            Type.INT16 -> buffer.putShort(integer(value, -32768, 32767).toShort())
            Type.INT32 -> buffer.putInt(value.toInt())
            Type.INT64 -> buffer.putLong(value.toLong())
            Type.BOOLEAN -> buffer.put(if (value != 0f) 1 else 0)
        }
        buffer.rewind()
        return buffer
    }

    /** What the file holds as real values. */
    fun real(buffer: ByteBuffer): FloatArray {
        buffer.rewind()
        return FloatArray(buffer.remaining() / type.bytes) {
            when (type) {
                Type.FLOAT32 -> buffer.getFloat()
                Type.INT8 -> scaled(buffer.get().toLong())
                Type.UINT8, Type.BOOLEAN -> scaled(buffer.get().toLong() and 255)
                Type.INT16 -> scaled(buffer.getShort().toLong())
                Type.INT32 -> scaled(buffer.getInt().toLong())
                Type.INT64 -> scaled(buffer.getLong())
            }
        }
    }

    private fun integer(value: Float, least: Int, most: Int): Int =
        if (scale == 0f) value.toInt() else (round(value / scale) + zeroPoint).coerceIn(least.toFloat(), most.toFloat()).toInt()

    private fun scaled(integer: Long): Float = if (scale == 0f) integer.toFloat() else (integer - zeroPoint) * scale
}

/** What the model is. */
object Spec {
    const val MODEL = @@MODEL@@
    val inputs = listOf(@@INPUTS@@)
    val outputs = listOf(@@OUTPUTS@@)
    val labels = listOf<String>(@@LABELS@@)
@@RULES@@@@ANSWER@@}
