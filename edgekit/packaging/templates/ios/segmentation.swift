
    /// The number of the class of each pixel, @@HEIGHT@@ rows of @@WIDTH@@.
    public static func answer(_ outputs: [[Float]]) -> [Int] {
        let scores = outputs[@@OUTPUT@@]
        return (0..<(@@HEIGHT@@ * @@WIDTH@@)).map { pixel in
            if @@CLASSES@@ == 1 { return scores[pixel] > 0 ? 1 : 0 }
            var best = 0
            for c in 1..<@@CLASSES@@ where scores[pixel * @@PIXEL@@ + c * @@STEP@@] > scores[pixel * @@PIXEL@@ + best * @@STEP@@] { best = c }
            return best
        }
    }
