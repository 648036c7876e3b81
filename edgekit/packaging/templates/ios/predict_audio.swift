
    /// What the outputs for a recording are: samples of one channel in -1..1.
    public func predict(_ samples: [Float], samplingRate: Int) throws -> @@TYPE@@ {
        return @@ANSWER@@(try run([try Spec.@@RULE@@.encode(samples, samplingRate: samplingRate)]))
    }
