// @@HEAD@@
//
// Whether the model computes on this device what its card promises, and the preprocessing what edgekit's does.
package @@PACKAGE@@

import java.nio.ByteBuffer
import java.nio.ByteOrder
import kotlin.math.abs

/** [blobs]: the asset selftest.bin; [run]: Model.runHeld. Throws an AssertionError where something differs. */
object SelfTest {
    fun run(blobs: ByteArray, run: (List<ByteBuffer>) -> List<ByteBuffer>): List<String> {
        val lines = preprocessing(blobs).toMutableList()
        val feed = listOf(@@FEED@@)
        val made = run(feed).zip(Spec.outputs) { buffer, tensor -> tensor.real(buffer) }
@@EXPECTED@@        return lines
    }

    /** The part that needs no model. */
    fun preprocessing(blobs: ByteArray): List<String> {
        val lines = mutableListOf<String>()
@@SAMPLES@@        return lines
    }

    private fun compare(name: String, found: FloatArray, wanted: FloatArray, tolerance: Double): String {
        if (found.size < wanted.size) throw AssertionError("$name has ${found.size} values, ${wanted.size} were expected")
        var off = 0.0
        for (k in wanted.indices) {
            val here = abs(found[k].toDouble() - wanted[k])
            if (here >= off || here.isNaN()) off = here
        }
        if (!(off <= tolerance)) throw AssertionError("$name is off by $off, allowed is $tolerance")
        return "passed: $name, off by $off, allowed $tolerance"
    }

    private fun bytes(blobs: ByteArray, offset: Int, count: Int): ByteBuffer =
        ByteBuffer.allocateDirect(count).order(ByteOrder.nativeOrder()).put(blobs, offset, count).also { it.rewind() }

    private fun floats(blobs: ByteArray, offset: Int, count: Int): FloatArray {
        val buffer = ByteBuffer.wrap(blobs).order(ByteOrder.LITTLE_ENDIAN)
        return FloatArray(count) { buffer.getFloat(offset + 4 * it) }
    }

    private fun integers(blobs: ByteArray, offset: Int, count: Int, width: Int): FloatArray {
        val buffer = ByteBuffer.wrap(blobs).order(ByteOrder.LITTLE_ENDIAN)
        return FloatArray(count) { if (width == 8) buffer.getLong(offset + 8 * it).toFloat() else buffer.getInt(offset + 4 * it).toFloat() }
    }
}
