
    /// What the outputs for rows of numbers are, side by side, the newest last.
    public func predict(_ rows: [Float]) throws -> @@TYPE@@ {
        return @@ANSWER@@(try run([try Spec.@@RULE@@.encode(rows)]))
    }
