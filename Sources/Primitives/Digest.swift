/// A SHA-256 value: 32 bytes, compared and ordered as bytes.
package struct Digest: Hashable, Comparable, Sendable, CustomStringConvertible {
    /// The number of bytes in a digest.
    package static let byteCount = 32

    /// The four big-endian words of the value, most significant first.
    package let words: (UInt64, UInt64, UInt64, UInt64)

    /// 32 zero bytes: what the first record of a ledger names as its `previous`.
    package static let zero = Digest(words: (0, 0, 0, 0))

    package init(words: (UInt64, UInt64, UInt64, UInt64)) { self.words = words }

    /// Takes exactly 32 bytes.
    /// - Returns: nil for any other count.
    package init?(bytes: some Collection<UInt8>) {
        guard bytes.count == Self.byteCount else { return nil }
        var parts: (UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0)
        for (offset, byte) in bytes.enumerated() {
            switch offset / 8 {
            case 0: parts.0 = parts.0 << 8 | UInt64(byte)
            case 1: parts.1 = parts.1 << 8 | UInt64(byte)
            case 2: parts.2 = parts.2 << 8 | UInt64(byte)
            default: parts.3 = parts.3 << 8 | UInt64(byte)
            }
        }
        self.words = parts
    }

    /// Takes exactly 32 bytes.
    package init?(bytes: ArraySlice<UInt8>) {
        guard bytes.count == Self.byteCount else { return nil }
        func word(_ place: Int) -> UInt64 {
            var word = UInt64(0)
            let start = bytes.startIndex + place * 8
            for offset in 0..<8 { word = word << 8 | UInt64(bytes[start + offset]) }
            return word
        }
        self.words = (word(0), word(1), word(2), word(3))
    }

    /// Takes exactly 32 bytes.
    package init?(bytes: [UInt8]) { self.init(bytes: bytes[...]) }

    /// Reads 64 hexadecimal digits of either case.
    /// - Returns: nil for anything else.
    package init?(hex: some StringProtocol) {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(Self.byteCount)
        var high: UInt8?
        for digit in hex.utf8 {
            guard let value = Hex.value(of: digit) else { return nil }
            if let first = high {
                bytes.append(first << 4 | value)
                high = nil
            } else {
                high = value
            }
        }
        guard high == nil else { return nil }
        self.init(bytes: bytes)
    }

    /// The 32 bytes.
    package var bytes: [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(Self.byteCount)
        self.append(to: &bytes)
        return bytes
    }

    /// Appends the 32 bytes to `bytes`.
    package func append(to bytes: inout [UInt8]) {
        Self.append(self.words.0, to: &bytes)
        Self.append(self.words.1, to: &bytes)
        Self.append(self.words.2, to: &bytes)
        Self.append(self.words.3, to: &bytes)
    }

    private static func append(_ word: UInt64, to bytes: inout [UInt8]) {
        var shift = UInt64(56)
        while true {
            bytes.append(UInt8(truncatingIfNeeded: word >> shift))
            if shift == 0 { break }
            shift -= 8
        }
    }

    /// Appends the 64 lowercase hexadecimal digits to `bytes`.
    package func appendHex(to bytes: inout [UInt8]) {
        Self.appendHex(self.words.0, to: &bytes)
        Self.appendHex(self.words.1, to: &bytes)
        Self.appendHex(self.words.2, to: &bytes)
        Self.appendHex(self.words.3, to: &bytes)
    }

    private static func appendHex(_ word: UInt64, to bytes: inout [UInt8]) {
        var shift = UInt64(60)
        while true {
            bytes.append(Hex.digit(UInt8(truncatingIfNeeded: word >> shift) & 0x0F))
            if shift == 0 { break }
            shift -= 4
        }
    }

    /// 64 lowercase hexadecimal digits.
    package var hex: String {
        var text: [UInt8] = []
        text.reserveCapacity(Self.byteCount * 2)
        self.appendHex(to: &text)
        return String(decoding: text, as: UTF8.self)
    }

    package var description: String { self.hex }

    package static func == (left: Self, right: Self) -> Bool { left.words == right.words }
    package static func < (left: Self, right: Self) -> Bool { left.words < right.words }
    package func hash(into hasher: inout Hasher) {
        hasher.combine(self.words.0)
        hasher.combine(self.words.3)
    }
}

/// Hexadecimal digits.
package enum Hex {
    /// The value of an ASCII hexadecimal digit of either case, or nil.
    package static func value(of digit: UInt8) -> UInt8? {
        switch digit {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): digit - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): digit - UInt8(ascii: "a") + 10
        case UInt8(ascii: "A")...UInt8(ascii: "F"): digit - UInt8(ascii: "A") + 10
        default: nil
        }
    }

    /// The lowercase digit of a value below 16.
    package static func digit(_ value: UInt8) -> UInt8 {
        value < 10 ? UInt8(ascii: "0") + value : UInt8(ascii: "a") + value - 10
    }

    /// Lowercase hexadecimal text of any bytes.
    package static func encode(_ bytes: some Collection<UInt8>) -> String {
        var text: [UInt8] = []
        text.reserveCapacity(bytes.count * 2)
        for byte in bytes {
            text.append(self.digit(byte >> 4))
            text.append(self.digit(byte & 0x0F))
        }
        return String(decoding: text, as: UTF8.self)
    }
}
