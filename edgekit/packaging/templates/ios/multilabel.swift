
    /// The labels whose probability reaches @@THRESHOLD@@.
    public static func answer(_ outputs: [[Float]]) -> [(label: String, probability: Double)] {
        let shares = outputs[0].map { @@LOGITS@@ ? 1 / (1 + exp(-Double($0))) : Double($0) }
        return shares.indices.filter { shares[$0] >= @@THRESHOLD@@ }.map { (label: labels[$0], probability: shares[$0]) }
    }
