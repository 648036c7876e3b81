
    /// The next values, in the units of the data.
    public static func answer(_ outputs: [[Float]]) -> [Float] {
        return outputs[0].map { $0 * @@STD@@ + @@MEAN@@ }
    }
