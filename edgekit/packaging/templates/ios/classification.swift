
    /// Labels with their probabilities, the likeliest first.
    public static func answer(_ outputs: [[Float]], most: Int = 5) -> [(label: String, probability: Double)] {
        let scores = outputs[0]
        let top = scores.max() ?? 0
        let shares = scores.map { exp(Double($0) - Double(top)) }
        let sum = shares.reduce(0, +)
        let order = shares.indices.sorted { shares[$0] != shares[$1] ? shares[$0] > shares[$1] : $0 < $1 }
        return order.prefix(most).map { (label: labels[$0], probability: shares[$0] / sum) }
    }
