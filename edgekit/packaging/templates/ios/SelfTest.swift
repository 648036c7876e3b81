// @@HEAD@@
//
// Whether the model computes on this device what its card promises, and the preprocessing what edgekit's does.
import Foundation

/// `blobs`: the resource selftest.bin; `run`: `model.runHeld`. Throws where something differs.
public enum SelfTest {
    public static func run(_ blobs: Data, _ run: ([Data]) throws -> [Data]) throws -> [String] {
        var lines = try preprocessing(blobs)
        let feed = [@@FEED@@]
        let made = zip(try run(feed), Spec.outputs).map { $0.1.real($0.0) }
@@EXPECTED@@        return lines
    }

    /// The part that needs no model.
    public static func preprocessing(_ blobs: Data) throws -> [String] {
        var lines = [String]()
@@SAMPLES@@        return lines
    }

    private static func compare(_ name: String, _ found: [Float], _ wanted: [Float], _ tolerance: Double) throws -> String {
        if found.count < wanted.count {
            throw InputError(description: "\(name) has \(found.count) values, \(wanted.count) were expected")
        }
        var off = 0.0
        for (one, other) in zip(found, wanted) {
            let here = abs(Double(one) - Double(other))
            if here >= off || here.isNaN { off = here }
        }
        if !(off <= tolerance) { throw InputError(description: "\(name) is off by \(off), allowed is \(tolerance)") }
        return "passed: \(name), off by \(off), allowed \(tolerance)"
    }

    private static func part(_ blobs: Data, _ offset: Int, _ count: Int) -> Data {
        let place = blobs.startIndex + offset
        return blobs.subdata(in: place..<(place + count))
    }

    private static func floats(_ blobs: Data, _ offset: Int, _ count: Int) -> [Float] {
        let data = part(blobs, offset, 4 * count)
        return (0..<count).map { load(data, $0, Float.self) }
    }

    private static func integers(_ blobs: Data, _ offset: Int, _ count: Int, _ width: Int) -> [Float] {
        let data = part(blobs, offset, width * count)
        return (0..<count).map { width == 8 ? Float(load(data, $0, Int64.self)) : Float(load(data, $0, Int32.self)) }
    }
}
