/// Base64 of RFC 4648 section 4 with padding; each byte string has exactly one text.
package enum Base64 {
    private static let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)
    private static let invalid = UInt8(255)
    private static let values: [UInt8] = {
        var values = [UInt8](repeating: Self.invalid, count: 256)
        for (value, character) in Self.alphabet.enumerated() { values[Int(character)] = UInt8(value) }
        return values
    }()

    /// Appends the text of `bytes` to `text`.
    package static func append(_ bytes: [UInt8], to text: inout [UInt8]) {
        let padding = UInt8(ascii: "=")
        Self.alphabet.withUnsafeBufferPointer { alphabet in
            var next = 0
            while next + 3 <= bytes.count {
                let (first, second, third) = (bytes[next], bytes[next + 1], bytes[next + 2])
                text.append(alphabet[Int(first >> 2)])
                text.append(alphabet[Int((first & 3) << 4 | second >> 4)])
                text.append(alphabet[Int((second & 15) << 2 | third >> 6)])
                text.append(alphabet[Int(third & 63)])
                next += 3
            }
            guard next < bytes.count else { return }
            let first = bytes[next]
            let second = next + 1 < bytes.count ? bytes[next + 1] : 0
            text.append(alphabet[Int(first >> 2)])
            text.append(alphabet[Int((first & 3) << 4 | second >> 4)])
            text.append(next + 1 < bytes.count ? alphabet[Int((second & 15) << 2)] : padding)
            text.append(padding)
        }
    }

    /// The text of `bytes`.
    package static func encode(_ bytes: [UInt8]) -> [UInt8] {
        var text: [UInt8] = []
        Self.append(bytes, to: &text)
        return text
    }

    /// The bytes of a text.
    ///
    /// - Returns: nil for missing or surplus padding, spare bits that are not zero, and any other character.
    package static func decode(_ text: ArraySlice<UInt8>) -> [UInt8]? {
        guard text.count % 4 == 0 else { return nil }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(text.count / 4 * 3)
        let padding = text.suffix(2).reversed().prefix { $0 == UInt8(ascii: "=") }.count
        var group = UInt32(0)
        var bits = UInt32(0)
        for character in text.dropLast(padding) {
            let value = Self.values[Int(character)]
            guard value != Self.invalid else { return nil }
            group = group << 6 | UInt32(value)
            bits += 6
            if bits >= 8 {
                bits -= 8
                bytes.append(UInt8(truncatingIfNeeded: group >> bits))
                group &= (1 << bits) - 1
            }
        }
        return group == 0 ? bytes : nil
    }
}
