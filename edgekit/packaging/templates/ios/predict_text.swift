
    /// What the outputs for a text are.
    public func predict(_ text: String) throws -> @@TYPE@@ {
        return @@ANSWER@@(try run([try Spec.@@RULE@@.encode(text)]))
    }
