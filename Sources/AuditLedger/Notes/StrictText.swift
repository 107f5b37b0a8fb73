internal import Primitives

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
