/// A text with signatures (C2SP signed-note).
///
/// Nothing in it may be believed before ``verify(keys:)`` says whose it is. A note that was parsed encodes to the same
/// bytes.
package struct SignedNote: Hashable, Sendable {
    /// A note has at most this many bytes: 64 of the largest post-quantum signatures fit.
    package static let bytesMax = 512 << 10
    /// A note has at most this many signatures.
    package static let signaturesMax = 64

    /// What is signed, with its last newline.
    package let text: [UInt8]
    package private(set) var signatures: [NoteSignature]

    /// - Parameter text: Ends with a newline.
    /// - Throws: ``NoteError`` `.truncated`, `.invalidText`, `.tooLarge`.
    package init(text: [UInt8], signatures: [NoteSignature] = []) throws(NoteError) {
        guard text.last == UInt8(ascii: "\n") else {
            throw NoteError(.truncated, "the text of a note ends with a newline")
        }
        try StrictText.checkText(text[...])
        guard signatures.count <= Self.signaturesMax, text.count <= Self.bytesMax else {
            throw NoteError(.tooLarge, "more than \(Self.signaturesMax) signatures or \(Self.bytesMax) bytes")
        }
        self.text = text
        self.signatures = signatures
    }

    /// Reads a note with at least one signature.
    ///
    /// - Throws: ``NoteError`` `.tooLarge`, `.invalidText`, `.truncated`, `.noSignatures`, `.malformedSignature`,
    ///   `.malformedKeyName`, `.nonCanonicalBase64`.
    package init(parsing bytes: some Collection<UInt8>) throws(NoteError) {
        let bytes = Array(bytes)
        guard bytes.count <= Self.bytesMax else { throw NoteError(.tooLarge, "more than \(Self.bytesMax) bytes") }
        guard bytes.last == UInt8(ascii: "\n") else { throw NoteError(.truncated, "a note ends with a newline") }
        try StrictText.checkText(bytes[...])
        guard let blank = Self.lastBlankLine(of: bytes), blank > 0, blank + 1 < bytes.count else {
            throw NoteError(.noSignatures, "a note has a text, a blank line and signatures")
        }
        var reader = try LineReader(bytes[(blank + 1)...], bytesMax: Self.bytesMax)
        let lineOffset = bytes[...blank].count { $0 == UInt8(ascii: "\n") }
        var signatures: [NoteSignature] = []
        while !reader.isAtEnd {
            guard signatures.count < Self.signaturesMax else {
                throw NoteError(.tooLarge, "more than \(Self.signaturesMax) signatures")
            }
            let line = try reader.readLine()
            signatures.append(try NoteSignature(line: line, number: lineOffset + reader.line))
        }
        self.text = Array(bytes[..<blank])
        self.signatures = signatures
    }

    /// Where the newline of the last blank line stands that has a line before it.
    private static func lastBlankLine(of bytes: [UInt8]) -> Int? {
        var place = bytes.count - 1
        while place > 0 {
            if bytes[place] == UInt8(ascii: "\n"), bytes[place - 1] == UInt8(ascii: "\n") { return place }
            place -= 1
        }
        return nil
    }

    /// The note as it is sent and stored.
    package var encoded: [UInt8] { self.text + [UInt8(ascii: "\n")] + self.signatures.flatMap(\.line) }

    /// Adds a signature, in the place of one by the same key if there is one.
    ///
    /// - Throws: ``NoteError`` `.tooLarge`.
    package mutating func add(_ signature: NoteSignature) throws(NoteError) {
        if let place = self.signatures.firstIndex(where: { $0.name == signature.name && $0.id == signature.id }) {
            self.signatures[place] = signature
            return
        }
        guard self.signatures.count < Self.signaturesMax else {
            throw NoteError(.tooLarge, "more than \(Self.signaturesMax) signatures")
        }
        self.signatures.append(signature)
    }

    /// Checks every signature that is by one of `keys`; those by others are ignored, as the specification says.
    ///
    /// - Returns: At least one, in the order of the note.
    /// - Throws: ``NoteError`` `.ambiguousKey`, `.repeatedSigner`, `.badSignature` for the whole note if any known
    ///   key's signature is wrong, `.unknownSigner` when none is by a known key.
    package func verify(keys: [NoteVerifierKey]) throws(NoteError) -> [VerifiedSignature] {
        let known = try NoteKeyRing(keys)
        var verified: [VerifiedSignature] = []
        for signature in self.signatures {
            guard let key = known.key(of: signature) else { continue }
            guard !verified.contains(where: { $0.key == key }) else {
                throw NoteError(.repeatedSigner, "two signatures by key \(key)")
            }
            verified.append(try signature.verify(by: key, text: self.text))
        }
        guard !verified.isEmpty else { throw NoteError(.unknownSigner, "no signature is by a known key") }
        return verified
    }
}

/// Known keys by name and id.
struct NoteKeyRing {
    private struct Label: Hashable {
        let name: NoteKeyName
        let id: NoteKeyID
    }

    private var keys: [Label: NoteVerifierKey] = [:]

    /// - Throws: ``NoteError`` `.ambiguousKey`.
    init(_ keys: [NoteVerifierKey]) throws(NoteError) {
        for key in keys {
            let label = Label(name: key.name, id: key.id)
            guard self.keys[label].map({ $0 == key }) ?? true else {
                throw NoteError(.ambiguousKey, "two keys \(key)")
            }
            self.keys[label] = key
        }
    }

    func key(of signature: NoteSignature) -> NoteVerifierKey? {
        self.keys[Label(name: signature.name, id: signature.id)]
    }
}
