// @@HEAD@@
import Foundation

/// How a tensor holds its values.
public enum ElementType {
    case float32, int8, uint8, int16, int32, int64, boolean

    var bytes: Int {
        switch self {
        case .int64: return 8
        case .float32, .int32: return 4
        case .int16: return 2
        default: return 1
        }
    }
}

/// An input or output; real = scale * (integer - zeroPoint) where scale is not 0. `position`: in the file.
public struct TensorInfo {
    public let name: String, fileName: String
    public let position: Int
    public let type: ElementType
    public let shape: [Int]
    public let scale: Float
    public let zeroPoint: Int

    public var count: Int { return shape.reduce(1, *) }

    /// Real values as the file holds them.
    public func held(_ values: [Float]) throws -> Data {
        if values.count != count { throw InputError(description: "\(name) has \(count) values, got \(values.count)") }
        var data = Data(capacity: count * type.bytes)
        for value in values {
            switch type {
            case .float32: append(&data, value)
            case .int8: append(&data, Int8(integer(value, -128, 127)))
            case .uint8: append(&data, UInt8(integer(value, 0, 255)))
            case .int16: append(&data, Int16(integer(value, -32768, 32767)))
            case .int32: append(&data, Int32(value))
            case .int64: append(&data, Int64(value))
            case .boolean: append(&data, UInt8(value != 0 ? 1 : 0))
            }
        }
        return data
    }

    /// What the file holds as real values.
    public func real(_ data: Data) -> [Float] {
        return (0..<(data.count / type.bytes)).map { k in
            switch type {
            case .float32: return load(data, k, Float.self)
            case .int8: return scaled(Int(load(data, k, Int8.self)))
            case .uint8, .boolean: return scaled(Int(load(data, k, UInt8.self)))
            case .int16: return scaled(Int(load(data, k, Int16.self)))
            case .int32: return scaled(Int(load(data, k, Int32.self)))
            case .int64: return scaled(Int(load(data, k, Int64.self)))
            }
        }
    }

    private func integer(_ value: Float, _ least: Float, _ most: Float) -> Int {
        if scale == 0 { return Int(value) }
        return Int(min(max((value / scale).rounded(.toNearestOrEven) + Float(zeroPoint), least), most))
    }

    private func scaled(_ integer: Int) -> Float {
        return scale == 0 ? Float(integer) : Float(integer - zeroPoint) * scale
    }
}

func append<T>(_ data: inout Data, _ value: T) {
    withUnsafeBytes(of: value) { data.append(contentsOf: $0) }
}

func load<T>(_ data: Data, _ k: Int, _ kind: T.Type) -> T {
    let size = MemoryLayout<T>.size
    let place = data.startIndex + k * size
    return data.subdata(in: place..<(place + size)).withUnsafeBytes { $0.loadUnaligned(as: kind) }
}

/// What the model is.
public enum Spec {
    public static let model = @@MODEL@@
    public static let inputs: [TensorInfo] = [@@INPUTS@@]
    public static let outputs: [TensorInfo] = [@@OUTPUTS@@]
    public static let labels: [String] = [@@LABELS@@]
@@RULES@@@@ANSWER@@}
