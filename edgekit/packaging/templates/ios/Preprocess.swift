// @@HEAD@@
//
// How a raw sample becomes the model's input. Foundation only.
import Foundation

/// What a sample or tensor has that the model does not take.
public struct InputError: Error, CustomStringConvertible {
    public let description: String
}

/// A picture: bytes in rows from the top, RGB side by side (3 channels) or grey (1).
public struct Picture {
    public var pixels: [UInt8]
    public var height: Int
    public var width: Int
    public var channels: Int

    public init(pixels: [UInt8], height: Int, width: Int, channels: Int) {
        self.pixels = pixels
        self.height = height
        self.width = width
        self.channels = channels
    }
}

/// Real value = byte * factor + offset of its channel; resized by `filter`, the centre cut out.
public struct ImageRule {
    let height: Int, width: Int, channels: Int
    let channelsFirst: Bool, bgr: Bool
    let filter: String
    let shorter: Int, resizeHeight: Int, resizeWidth: Int, bars: Int
    let factor: [Float], offset: [Float]

    public func encode(_ picture: Picture) -> [Float] {
        let pixels = fitted(picture)
        let area = height * width
        return (0..<(area * channels)).map { k in
            let c = channelsFirst ? k / area : k % channels
            let pixel = channelsFirst ? k % area : k / channels
            let from = bgr ? channels - 1 - c : c
            return Float(pixels[pixel * channels + from]) * factor[c] + offset[c]
        }
    }

    private func fitted(_ picture: Picture) -> [UInt8] {
        let same = converted(picture)
        if picture.height == height && picture.width == width { return same }
        var toHeight = resizeHeight
        var toWidth = resizeWidth
        if shorter > 0 {
            let scale = Double(shorter) / Double(min(picture.height, picture.width))
            toHeight = max(height, Int(Double(picture.height) * scale))
            toWidth = max(width, Int(Double(picture.width) * scale))
        }
        var top = Int((Double(toHeight - height) / 2).rounded(.toNearestOrEven))
        var left = Int((Double(toWidth - width) / 2).rounded(.toNearestOrEven))
        if bars >= 0 {  // shown whole
            let scale = min(Double(height) / Double(picture.height), Double(width) / Double(picture.width))
            toHeight = max(1, Int((Double(picture.height) * scale).rounded(.toNearestOrEven)))
            toWidth = max(1, Int((Double(picture.width) * scale).rounded(.toNearestOrEven)))
            top = -((height - toHeight) / 2)
            left = -((width - toWidth) / 2)
        }
        let resized = resize(same, picture.height, picture.width, toHeight, toWidth)
        var cut = [UInt8](repeating: UInt8(max(bars, 0)), count: height * width * channels)
        for y in 0..<height {
            for x in 0..<width {
                let fromY = y + top
                let fromX = x + left
                if fromY < 0 || fromY >= toHeight || fromX < 0 || fromX >= toWidth { continue }
                for c in 0..<channels {
                    cut[(y * width + x) * channels + c] = resized[(fromY * toWidth + fromX) * channels + c]
                }
            }
        }
        return cut
    }

    private func converted(_ picture: Picture) -> [UInt8] {
        if picture.channels == channels { return picture.pixels }
        let count = picture.height * picture.width
        if channels == 1 {
            return (0..<count).map { k in
                let red = Int(picture.pixels[3 * k]) * 19595
                let green = Int(picture.pixels[3 * k + 1]) * 38470
                let blue = Int(picture.pixels[3 * k + 2]) * 7471
                return UInt8((red + green + blue + 0x8000) >> 16)
            }
        }
        return (0..<(count * channels)).map { picture.pixels[$0 / channels] }
    }

    // Pillow's filters up to release 12: they widen as they reduce, in fixed point, horizontally first.
    private func resize(_ from: [UInt8], _ h: Int, _ w: Int, _ toHeight: Int, _ toWidth: Int) -> [UInt8] {
        if filter == "nearest" {
            return (0..<(toHeight * toWidth * channels)).map { k in
                let pixel = k / channels
                let y = Int((Double(pixel / toWidth) + 0.5) * Double(h) / Double(toHeight))
                let x = Int((Double(pixel % toWidth) + 0.5) * Double(w) / Double(toWidth))
                return from[(y * w + x) * channels + k % channels]
            }
        }
        var wide = from
        if w != toWidth {
            wide = axis(from, w, toWidth, h, channels, w * channels, channels, toWidth * channels)
        }
        if h == toHeight { return wide }
        let line = toWidth * channels
        return axis(wide, h, toHeight, toWidth, line, channels, line, channels)
    }

    private func axis(
        _ source: [UInt8], _ from: Int, _ to: Int, _ lines: Int, _ inStep: Int, _ inLine: Int, _ outStep: Int, _ outLine: Int
    ) -> [UInt8] {
        var made = [UInt8](repeating: 0, count: to * lines * channels)
        let scale = Double(from) / Double(to)
        let widened = max(scale, 1)
        let support = (["box": 0.5, "bilinear": 1, "hamming": 1, "bicubic": 2, "lanczos": 3][filter] ?? 1) * widened
        for x in 0..<to {
            let centre = (Double(x) + 0.5) * scale
            let first = max(Int(centre - support + 0.5), 0)
            let last = min(Int(centre + support + 0.5), from)
            let exact = (first..<last).map { weight((Double($0) - centre + 0.5) / widened) }
            let sum = exact.reduce(0, +)
            let weights: [Int32] = exact.map { value in
                let share = sum != 0 ? value / sum : value
                return Int32(share * Double(1 << 22) + (share < 0 ? -0.5 : 0.5))
            }
            for line in 0..<lines {
                for c in 0..<channels {
                    var value: Int32 = 1 << 21
                    for k in 0..<weights.count {
                        value += Int32(source[line * inLine + (first + k) * inStep + c]) * weights[k]
                    }
                    made[line * outLine + x * outStep + c] = UInt8(min(max(value >> 22, 0), 255))
                }
            }
        }
        return made
    }

    private func weight(_ at: Double) -> Double {
        let x = abs(at)
        switch filter {
        case "box": return at > -0.5 && at <= 0.5 ? 1 : 0
        case "bilinear": return x < 1 ? 1 - x : 0
        case "hamming": return x < 1 ? sinc(x) * (0.54 + 0.46 * cos(x * Double.pi)) : 0
        case "bicubic":
            if x < 1 { return (1.5 * x - 2.5) * x * x + 1 }
            return x < 2 ? (((x - 5) * x + 8) * x - 4) * -0.5 : 0
        default: return x < 3 ? sinc(x) * sinc(x / 3) : 0
        }
    }

    private func sinc(_ x: Double) -> Double {
        return x == 0 ? 1 : sin(x * Double.pi) / (x * Double.pi)
    }
}

/// ln(max(power @ triangles, floor)) of frames under a periodic Hann window; triangles on the HTK mel scale, peaks at 1.
public struct AudioRule {
    let rate: Int, window: Int, hop: Int, transform: Int, bands: Int, frames: Int
    let peak: Bool, padBack: Bool
    let floor: Double
    let corners: [Double]
    let factor: [Float], offset: [Float]
    /// Above 0: every frame is measured against the loudest sample so far, which is this one at first.
    var least: Double = 0

    /// Samples of one channel in -1..1.
    public func encode(_ samples: [Float], samplingRate: Int) throws -> [Float] {
        if samplingRate != rate {
            throw InputError(description: "the model takes \(rate) Hz; resample the recording of \(samplingRate) Hz first")
        }
        if samples.isEmpty { throw InputError(description: "the recording holds no sound") }
        let length = window + (frames - 1) * hop
        let start = samples.count > length ? loudest(samples, length) : 0
        var part = Array(samples[start..<(start + min(samples.count, length))])
        let top = part.map { abs($0) }.max() ?? 0
        if peak && top > 0 { part = part.map { $0 / top } }
        let silence = [Float](repeating: 0, count: length - part.count)
        return features(padBack ? part + silence : silence + part)
    }

    // Where the first stretch begins that holds 98% of the energy of the loudest.
    private func loudest(_ samples: [Float], _ length: Int) -> Int {
        var energy = [0.0]
        for sample in samples { energy.append(energy[energy.count - 1] + Double(sample) * Double(sample)) }
        let stretches = (0..<(energy.count - length)).map { energy[$0 + length] - energy[$0] }
        let most = stretches.max() ?? 0
        return stretches.firstIndex { $0 >= 0.98 * most } ?? 0
    }

    private func features(_ wave: [Float]) -> [Float] {
        let bins = transform / 2 + 1
        let cosines = (0..<transform).map { cos(2 * Double.pi * Double($0) / Double(transform)) }
        let sines = (0..<transform).map { sin(2 * Double.pi * Double($0) / Double(transform)) }
        let hann = (0..<window).map { 0.5 - 0.5 * cos(2 * Double.pi * Double($0) / Double(window)) }
        var made = [Float]()
        var level = least
        var heard = 0
        for t in 0..<frames {
            while heard < t * hop + window {
                level = max(level, Double(abs(wave[heard])))
                heard += 1
            }
            var power = [Double]()
            for k in 0..<bins {
                var real = 0.0
                var imaginary = 0.0
                for n in 0..<window {
                    let value = Double(wave[t * hop + n]) * hann[n]
                    let at = n * k % transform
                    real += value * cosines[at]
                    imaginary -= value * sines[at]
                }
                power.append(real * real + imaginary * imaginary)
            }
            for b in 0..<bands {
                var sum = 0.0
                for k in 0..<bins {
                    let hz = Double(k) * Double(rate) / Double(transform)
                    let up = (hz - corners[b]) / (corners[b + 1] - corners[b])
                    let down = (corners[b + 2] - hz) / (corners[b + 2] - corners[b + 1])
                    let weight = min(up, down)
                    if weight > 0 { sum += power[k] * weight }
                }
                if least > 0 { sum /= level * level }
                made.append(Float(log(max(sum, floor))) * factor[b] + offset[b])
            }
        }
        return made
    }
}

/// Words as numbers: 0 padding, 1 unknown; the first of `words` is number 2.
public struct TextRule {
    let length: Int, beginning: Int
    let lower: Bool, english: Bool
    private let known: [[UInt32]]
    private let numbers: [[UInt32]: Int]

    init(length: Int, beginning: Int, lower: Bool, english: Bool, words: String) {
        self.length = length
        self.beginning = beginning
        self.lower = lower
        self.english = english
        known = words.split(separator: " ").map { $0.unicodeScalars.map { $0.value } }
        var found = [[UInt32]: Int]()
        for (k, word) in known.enumerated() { found[word] = k + 2 }
        numbers = found
    }

    public func encode(_ text: String) throws -> [Float] {
        let plain = text.replacingOccurrences(of: "\u{2019}", with: "'")
        let t = (lower ? plain.lowercased() : plain).unicodeScalars.map { $0.value }
        var row = [Float](repeating: 0, count: length)
        var found = 0
        var at = 0
        while at < t.count && found < length {
            let size = token(t, at)
            if size == 0 {
                at += 1
                continue
            }
            let word = Array(t[at..<(at + size)])
            at += size
            if let number = numbers[word] {
                row[found] = Float(number)
                found += 1
            } else if word.contains(where: alphanumeric) {
                row[found] = Float(alike(word))
                found += 1
            }
        }
        if found == 0 { throw InputError(description: "the text holds no word") }
        return row
    }

    private func letter(_ c: UInt32) -> Bool {
        guard let scalar = Unicode.Scalar(c) else { return false }
        switch scalar.properties.generalCategory {
        case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter: return true
        default: return false
        }
    }

    private func alphanumeric(_ c: UInt32) -> Bool {
        if letter(c) { return true }
        guard let scalar = Unicode.Scalar(c) else { return false }
        switch scalar.properties.generalCategory {
        case .decimalNumber, .letterNumber, .otherNumber: return true
        default: return false
        }
    }

    private func inWord(_ c: UInt32) -> Bool {
        return c == 95 || alphanumeric(c)
    }

    private func follows(_ t: [UInt32], _ at: Int, _ text: String) -> Bool {
        let tail = text.unicodeScalars.map { $0.value }
        let end = at + tail.count
        if end > t.count || Array(t[at..<end]) != tail { return false }
        return end == t.count || !inWord(t[end])
    }

    // Length of the token that begins at `at`; 0: none does.
    private func token(_ t: [UInt32], _ at: Int) -> Int {
        var end = at
        if !english {
            while end < t.count && inWord(t[end]) { end += 1 }
            return end - at
        }
        if follows(t, at, "n't") { return 3 }
        while end < t.count && inWord(t[end]) {
            end += 1
            if follows(t, end, "n't") { return end - at }
        }
        if end > at { return end - at }
        if t[at] == 39 {
            for tail in ["s", "re", "ve", "ll", "m", "d"] where follows(t, at + 1, tail) { return 1 + tail.count }
        }
        return ".,;:!?".unicodeScalars.contains { $0.value == t[at] } ? 1 : 0
    }

    private func shared(_ one: [UInt32], _ other: [UInt32]) -> Int {
        var k = 0
        while k < one.count && k < other.count && one[k] == other[k] { k += 1 }
        return k
    }

    // The first (most frequent) known word with the longest beginning in common, and 3 fifths of its letters in it.
    private func alike(_ word: [UInt32]) -> Int {
        if beginning < 1 || !word.allSatisfy(letter) { return 1 }
        var most = 0
        for other in known where other.allSatisfy(letter) { most = max(most, shared(word, other)) }
        if Double(most) < max(Double(beginning), 0.6 * Double(word.count)) { return 1 }
        for (k, other) in known.enumerated() where other.allSatisfy(letter) && shared(word, other) >= most {
            if (0.6 * Double(other.count)).rounded(.up) <= Double(most) { return k + 2 }
        }
        return 1
    }
}

/// Rows of numbers side by side, the newest last; of more than `rows` the last.
public struct ColumnsRule {
    let rows: Int, columns: Int
    let factor: [Float], offset: [Float]

    public func encode(_ values: [Float]) throws -> [Float] {
        if values.count % columns != 0 || values.count < rows * columns {
            throw InputError(description: "\(rows) rows of \(columns) numbers or more are needed")
        }
        let start = values.count - rows * columns
        return (0..<(rows * columns)).map { values[start + $0] * factor[$0 % columns] + offset[$0 % columns] }
    }
}
