// @@HEAD@@
package @@PACKAGE@@

import android.content.Context
@@IMPORTS@@import java.io.Closeable
import java.nio.ByteBuffer
import java.nio.ByteOrder

/** The model with all that belongs to it. [context]: its assets hold [Spec.MODEL]. Close it when it is no longer needed. */
class Model(context: Context, threads: Int = 1) : Closeable {
@@RUNNER@@
    /** Real values an input, in the order of [Spec.inputs] -> real values an output. */
    fun run(inputs: List<FloatArray>): List<FloatArray> =
        runHeld(inputs.zip(Spec.inputs) { values, tensor -> tensor.held(values) }).zip(Spec.outputs) { buffer, tensor -> tensor.real(buffer) }
@@PREDICT@@}
