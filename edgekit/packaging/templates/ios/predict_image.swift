
    /// What the outputs for a picture are; `image` of any size, upright, transparency on white.
    public func predict(_ image: CGImage) throws -> @@TYPE@@ {
        return @@ANSWER@@(try run([Spec.@@RULE@@.encode(try Model.picture(image))]))
    }

    private static func picture(_ image: CGImage) throws -> Picture {
        var bytes = [UInt8](repeating: 255, count: image.width * image.height * 4)
        let drawn: Bool = bytes.withUnsafeMutableBytes { buffer in
            guard
                let context = CGContext(
                    data: buffer.baseAddress, width: image.width, height: image.height, bitsPerComponent: 8,
                    bytesPerRow: image.width * 4, space: CGColorSpaceCreateDeviceRGB(),
                    bitmapInfo: CGImageAlphaInfo.noneSkipLast.rawValue)
            else { return false }
            let all = CGRect(x: 0, y: 0, width: image.width, height: image.height)
            context.setFillColor(red: 1, green: 1, blue: 1, alpha: 1)
            context.fill(all)
            context.draw(image, in: all)
            return true
        }
        if !drawn { throw InputError(description: "the picture cannot be drawn") }
        let pixels = (0..<(image.width * image.height * 3)).map { bytes[$0 / 3 * 4 + $0 % 3] }
        return Picture(pixels: pixels, height: image.height, width: image.width, channels: 3)
    }
