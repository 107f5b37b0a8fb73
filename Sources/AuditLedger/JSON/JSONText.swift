/// The rules of JSON strings, on bytes: UTF-8, escapes, and the key order of RFC 8785.
///
/// Bytes and not `String`, because `String` compares canonically equivalent texts as equal ("é" composed and
/// decomposed are two different keys) and sorts by code point, not by UTF-16 code unit.
enum JSONText {
    static let quote = UInt8(ascii: "\"")
    static let backslash = UInt8(ascii: "\\")
    static let `true` = Array("true".utf8)
    static let `false` = Array("false".utf8)
    static let null = Array("null".utf8)

    /// The first place from `start` on that a string's plain run ends at: a quote, a backslash, a control character, or
    /// a byte of a longer UTF-8 sequence; `end` when there is none.
    ///
    /// Looks at eight bytes at a time.
    static func plainRunEnd(_ bytes: [UInt8], from start: Int, to end: Int) -> Int {
        precondition(start >= 0 && start <= end && end <= bytes.count, "the run lies in the text")
        return bytes.withUnsafeBytes { text in
            var place = start
            while place + 8 <= end {
                let marks = self.marks(text.loadUnaligned(fromByteOffset: place, as: UInt64.self))
                if marks != 0 { return place + marks.trailingZeroBitCount >> 3 }
                place += 8
            }
            while place < end {
                let byte = text[place]
                guard byte >= 0x20, byte < 0x80, byte != self.quote, byte != self.backslash else { break }
                place += 1
            }
            return place
        }
    }

    /// A word of eight bytes of a string, the first the lowest: the lowest bit that is set is the top one of the first
    /// byte that ends a plain run; bits above it may be wrong.
    ///
    /// A byte is below `n` when subtracting `n` borrows into its top bit; a borrow can mark a byte above that one too.
    static func marks(_ word: UInt64) -> UInt64 {
        let ones: UInt64 = 0x0101_0101_0101_0101
        let tops: UInt64 = 0x8080_8080_8080_8080
        let text = UInt64(littleEndian: word)
        let quotes = text ^ (ones &* UInt64(self.quote))
        let backslashes = text ^ (ones &* UInt64(self.backslash))
        return (text | (text &- ones &* 0x20) | (quotes &- ones) | (backslashes &- ones)) & tops
    }

    /// The place of the first line feed from `start` on, or the end of the text.
    static func lineEnd(_ bytes: [UInt8], from start: Int) -> Int {
        bytes.withUnsafeBytes { text in
            let ones: UInt64 = 0x0101_0101_0101_0101
            let tops: UInt64 = 0x8080_8080_8080_8080
            var place = start
            while place + 8 <= text.count {
                let word = UInt64(littleEndian: text.loadUnaligned(fromByteOffset: place, as: UInt64.self))
                let feeds = word ^ (ones &* 0x0A)
                // As in `marks`; a byte of 0x80 or more is no line feed.
                let marks = (feeds &- ones) & ~feeds & tops
                if marks != 0 { return place + marks.trailingZeroBitCount >> 3 }
                place += 8
            }
            while place < text.count, text[place] != 0x0A { place += 1 }
            return place
        }
    }

    /// The length of the well-formed UTF-8 sequence of more than one byte at `start`, or nil (RFC 3629, table 3-7
    /// of the Unicode standard).
    static func multibyteLength(_ bytes: [UInt8], at start: Int, end: Int) -> Int? {
        precondition(start >= 0 && start < end && end <= bytes.count, "the sequence lies in the text")
        return bytes.withUnsafeBufferPointer { text in
            text.baseAddress.flatMap { self.multibyteLength($0 + start, end: $0 + end) }
        }
    }

    /// The same for bytes that are lent, of which there is at least one.
    static func multibyteLength(_ bytes: UnsafePointer<UInt8>, end: UnsafePointer<UInt8>) -> Int? {
        let length: Int
        var low = UInt8(0x80)
        var high = UInt8(0xBF)
        switch bytes.pointee {
        case 0xC2...0xDF: length = 2
        case 0xE0:
            length = 3
            low = 0xA0
        case 0xE1...0xEC, 0xEE...0xEF: length = 3
        case 0xED:
            length = 3
            high = 0x9F
        case 0xF0:
            length = 4
            low = 0x90
        case 0xF1...0xF3: length = 4
        case 0xF4:
            length = 4
            high = 0x8F
        default: return nil
        }
        guard end - bytes >= length else { return nil }
        guard bytes[1] >= low, bytes[1] <= high else { return nil }
        var offset = 2
        while offset < length {
            guard bytes[offset] & 0xC0 == 0x80 else { return nil }
            offset += 1
        }
        return length
    }

    /// Appends one scalar as RFC 8785 section 3.2.2.2 writes it inside quotes.
    static func appendCanonical(scalar: UInt32, to output: inout [UInt8]) {
        switch scalar {
        case 0x22: output.append(contentsOf: [0x5C, 0x22])
        case 0x5C: output.append(contentsOf: [0x5C, 0x5C])
        case 0x08: output.append(contentsOf: [0x5C, UInt8(ascii: "b")])
        case 0x09: output.append(contentsOf: [0x5C, UInt8(ascii: "t")])
        case 0x0A: output.append(contentsOf: [0x5C, UInt8(ascii: "n")])
        case 0x0C: output.append(contentsOf: [0x5C, UInt8(ascii: "f")])
        case 0x0D: output.append(contentsOf: [0x5C, UInt8(ascii: "r")])
        case 0..<0x20:
            output.append(contentsOf: [0x5C, UInt8(ascii: "u"), 0x30, 0x30, 0x30 + UInt8(scalar >> 4)])
            let low = UInt8(scalar & 0x0F)
            output.append(low < 10 ? 0x30 + low : UInt8(ascii: "a") + low - 10)
        default: self.appendUTF8(scalar, to: &output)
        }
    }

    /// Appends the UTF-8 form of a scalar value that is not a surrogate.
    static func appendUTF8(_ scalar: UInt32, to output: inout [UInt8]) {
        switch scalar {
        case 0..<0x80: output.append(UInt8(scalar))
        case 0x80..<0x800:
            output.append(0xC0 | UInt8(truncatingIfNeeded: scalar >> 6))
            output.append(0x80 | UInt8(truncatingIfNeeded: scalar & 0x3F))
        case 0x800..<0x1_0000:
            output.append(0xE0 | UInt8(truncatingIfNeeded: scalar >> 12))
            output.append(0x80 | UInt8(truncatingIfNeeded: scalar >> 6 & 0x3F))
            output.append(0x80 | UInt8(truncatingIfNeeded: scalar & 0x3F))
        default:
            output.append(0xF0 | UInt8(truncatingIfNeeded: scalar >> 18 & 0x07))
            output.append(0x80 | UInt8(truncatingIfNeeded: scalar >> 12 & 0x3F))
            output.append(0x80 | UInt8(truncatingIfNeeded: scalar >> 6 & 0x3F))
            output.append(0x80 | UInt8(truncatingIfNeeded: scalar & 0x3F))
        }
    }

    /// Appends valid UTF-8 as a quoted canonical string.
    static func appendQuoted(_ text: some Collection<UInt8>, to output: inout [UInt8]) {
        output.append(self.quote)
        for byte in text {
            if byte < 0x20 || byte == self.quote || byte == self.backslash {
                self.appendCanonical(scalar: UInt32(byte), to: &output)
            } else {
                output.append(byte)
            }
        }
        output.append(self.quote)
    }

    /// The same for bytes that are lent.
    static func appendQuoted(_ text: UnsafeBufferPointer<UInt8>, to output: inout [UInt8]) {
        output.append(self.quote)
        if text.allSatisfy({ $0 >= 0x20 && $0 != self.quote && $0 != self.backslash }) {
            output.append(contentsOf: text)
        } else {
            for byte in text {
                if byte < 0x80 {
                    self.appendCanonical(scalar: UInt32(byte), to: &output)
                } else {
                    output.append(byte)
                }
            }
        }
        output.append(self.quote)
    }

    /// The text between the quotes of a canonical string.
    /// - Parameter range: Of the value with its quotes; must hold a valid canonical string.
    static func unescaped(_ bytes: [UInt8], _ range: Range<Int>) -> [UInt8] {
        var text: [UInt8] = []
        guard range.count >= 2 else { return text }
        text.reserveCapacity(range.count - 2)
        var next = range.lowerBound + 1
        let end = range.upperBound - 1
        while next < end {
            let runEnd = self.plainRunEnd(bytes, from: next, to: end)
            if runEnd > next {
                text.append(contentsOf: bytes[next..<runEnd])
                next = runEnd
                continue
            }
            let byte = bytes[next]
            guard byte == self.backslash, next + 1 < end else {
                text.append(byte)
                next += 1
                continue
            }
            switch bytes[next + 1] {
            case UInt8(ascii: "b"): text.append(0x08)
            case UInt8(ascii: "t"): text.append(0x09)
            case UInt8(ascii: "n"): text.append(0x0A)
            case UInt8(ascii: "f"): text.append(0x0C)
            case UInt8(ascii: "r"): text.append(0x0D)
            case UInt8(ascii: "u"):
                guard next + 5 < end else { return text }
                var value = UInt32(0)
                for digit in bytes[next + 2..<next + 6] { value = value << 4 | (self.hexValue(digit) ?? 0) }
                self.appendUTF8(value, to: &text)
                next += 4
            default: text.append(bytes[next + 1])
            }
            next += 2
        }
        return text
    }

    /// UTF-8 bytes between the quotes of a canonical string, after unescaping.
    static func unescapedCount(_ bytes: [UInt8], _ range: Range<Int>) -> Int {
        var count = range.count - 2
        var next = range.lowerBound + 1
        let end = range.upperBound - 1
        while next < end {
            if bytes[next] == self.backslash {
                let escape = next + 1 < end && bytes[next + 1] == UInt8(ascii: "u") ? 6 : 2
                count -= escape - 1
                next += escape
            } else {
                next += 1
            }
        }
        return max(0, count)
    }

    static func hexValue(_ digit: UInt8) -> UInt32? {
        switch digit {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): UInt32(digit - UInt8(ascii: "0"))
        case UInt8(ascii: "a")...UInt8(ascii: "f"): UInt32(digit - UInt8(ascii: "a") + 10)
        case UInt8(ascii: "A")...UInt8(ascii: "F"): UInt32(digit - UInt8(ascii: "A") + 10)
        default: nil
        }
    }

    /// Three-way order of two keys by UTF-16 code units (RFC 8785 section 3.2.3): negative, zero or positive.
    ///
    /// UTF-8 orders by code point; that differs from UTF-16 only where one side has a code point above U+FFFF
    /// (lead byte F0 or more) and the other one from U+E000 to U+FFFF (lead byte EE or EF).
    static func compareUTF16(
        _ left: [UInt8],
        _ leftRange: Range<Int>,
        _ right: [UInt8],
        _ rightRange: Range<Int>
    ) -> Int {
        precondition(leftRange.upperBound <= left.count && rightRange.upperBound <= right.count, "keys lie in texts")
        return left.withUnsafeBufferPointer { left in
            right.withUnsafeBufferPointer { right in
                self.compareUTF16(
                    UnsafeBufferPointer(rebasing: left[leftRange]),
                    UnsafeBufferPointer(rebasing: right[rightRange])
                )
            }
        }
    }

    /// The same for bytes that are lent.
    static func compareUTF16(_ left: UnsafeBufferPointer<UInt8>, _ right: UnsafeBufferPointer<UInt8>) -> Int {
        let shared = min(left.count, right.count)
        var offset = 0
        while offset < shared {
            let first = left[offset]
            let second = right[offset]
            if first != second {
                let ordered = first < second ? -1 : 1
                guard first >= 0xEE, second >= 0xEE, (first >= 0xF0) != (second >= 0xF0) else { return ordered }
                return -ordered
            }
            offset += 1
        }
        return left.count - right.count
    }

    /// The same for keys that stand in canonical form between quotes, possibly with escapes.
    static func compareQuotedKeys(_ bytes: [UInt8], _ left: Range<Int>, _ right: Range<Int>, escaped: Bool) -> Int {
        guard escaped else {
            return self.compareUTF16(
                bytes,
                left.lowerBound + 1..<left.upperBound - 1,
                bytes,
                right.lowerBound + 1..<right.upperBound - 1
            )
        }
        let first = self.unescaped(bytes, left)
        let second = self.unescaped(bytes, right)
        return self.compareUTF16(first, 0..<first.count, second, 0..<second.count)
    }
}
