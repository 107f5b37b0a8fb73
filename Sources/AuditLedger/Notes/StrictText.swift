internal import Primitives

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
        text.reserveCapacity(text.count + (bytes.count + 2) / 3 * 4)
        var next = 0
        while next < bytes.count {
            let count = min(3, bytes.count - next)
            var group = UInt32(0)
            for offset in 0..<3 { group = group << 8 | (offset < count ? UInt32(bytes[next + offset]) : 0) }
            for place in 0..<4 {
                text.append(
                    place <= count
                        ? Self.alphabet[Int(group >> UInt32(18 - 6 * place) & 63)] : UInt8(ascii: "=")
                )
            }
            next += count
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

/// Reads texts made of lines, strictly: what is accepted has exactly one spelling.
struct LineReader {
    private let bytes: ArraySlice<UInt8>
    private var next: Int
    /// The number of the line that was read last, from 1.
    private(set) var line = 0

    /// - Throws: ``NoteError`` `.tooLarge` when there are more than `bytesMax` bytes.
    init(_ bytes: ArraySlice<UInt8>, bytesMax: Int) throws(NoteError) {
        guard bytes.count <= bytesMax else { throw NoteError(.tooLarge, "more than \(bytesMax) bytes") }
        self.bytes = bytes
        self.next = bytes.startIndex
    }

    var isAtEnd: Bool { self.next == self.bytes.endIndex }
    var rest: ArraySlice<UInt8> { self.bytes[self.next...] }

    /// The next line without its newline.
    ///
    /// - Throws: ``NoteError`` `.truncated` when there is no complete line left.
    mutating func readLine() throws(NoteError) -> ArraySlice<UInt8> {
        self.line += 1
        guard let end = self.bytes[self.next...].firstIndex(of: UInt8(ascii: "\n")) else {
            throw NoteError(.truncated, "line \(self.line) is missing or not complete")
        }
        defer { self.next = end + 1 }
        return self.bytes[self.next..<end]
    }

    /// The next `count` bytes, whatever they are.
    ///
    /// - Throws: ``NoteError`` `.truncated` when there are fewer.
    mutating func read(count: Int) throws(NoteError) -> ArraySlice<UInt8> {
        guard count >= 0, count <= self.bytes.endIndex - self.next else {
            throw NoteError(.truncated, "fewer than \(count) bytes after line \(self.line)")
        }
        defer { self.next += count }
        return self.bytes[self.next..<self.next + count]
    }
}

/// The pieces of which lines are made.
enum StrictText {
    /// Reads an ASCII decimal up to 2^63 − 1 without sign and leading zeros.
    ///
    /// - Throws: ``NoteError`` `.malformedNumber`, `.numberTooLarge`.
    static func number(_ text: ArraySlice<UInt8>, line: Int) throws(NoteError) -> UInt64 {
        guard let first = text.first, text.count == 1 || first != UInt8(ascii: "0"),
            text.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) })
        else { throw NoteError(.malformedNumber, "line \(line): no decimal number without leading zeros") }
        var value = UInt64(0)
        for digit in text {
            let (product, overflowed) = value.multipliedReportingOverflow(by: 10)
            value = product &+ UInt64(digit - UInt8(ascii: "0"))
            guard !overflowed, value <= MerkleTree.sizeMax else {
                throw NoteError(.numberTooLarge, "line \(line): a number beyond 2^63 - 1")
            }
        }
        return value
    }

    /// - Throws: ``NoteError`` `.nonCanonicalBase64`.
    static func base64(_ text: ArraySlice<UInt8>, line: Int) throws(NoteError) -> [UInt8] {
        guard let bytes = Base64.decode(text) else {
            throw NoteError(.nonCanonicalBase64, "line \(line): not canonical base64")
        }
        return bytes
    }

    /// Reads the base64 of 32 bytes.
    ///
    /// - Throws: ``NoteError`` `.nonCanonicalBase64`, `.malformedHash`.
    static func digest(_ text: ArraySlice<UInt8>, line: Int) throws(NoteError) -> Digest {
        guard let digest = Digest(bytes: try self.base64(text, line: line)) else {
            throw NoteError(.malformedHash, "line \(line): a hash is 32 bytes")
        }
        return digest
    }

    /// Checks for UTF-8 without control characters other than newline (C2SP signed-note, section Format).
    ///
    /// - Throws: ``NoteError`` `.invalidText`.
    static func checkText(_ bytes: ArraySlice<UInt8>) throws(NoteError) {
        guard bytes.allSatisfy({ $0 >= 0x20 || $0 == UInt8(ascii: "\n") }) else {
            throw NoteError(.invalidText, "a control character other than newline")
        }
        guard String(validating: bytes, as: UTF8.self) != nil else { throw NoteError(.invalidText, "not UTF-8") }
    }

    static func append(_ number: UInt64, to text: inout [UInt8]) { text.append(contentsOf: String(number).utf8) }

    static func appendLine(_ digest: Digest, to text: inout [UInt8]) {
        Base64.append(digest.bytes, to: &text)
        text.append(UInt8(ascii: "\n"))
    }
}
