// @@HEAD@@
import Foundation
@@IMPORTS@@
/// The model with all that belongs to it; not safe for several threads at once.
public final class Model {
@@RUNNER@@
    /// Real values an input, in the order of `Spec.inputs` -> real values an output.
    public func run(_ inputs: [[Float]]) throws -> [[Float]] {
        let held = try zip(inputs, Spec.inputs).map { try $0.1.held($0.0) }
        return zip(try runHeld(held), Spec.outputs).map { $0.1.real($0.0) }
    }
@@PREDICT@@}
