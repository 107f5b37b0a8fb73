internal import Primitives

/// One signature line of a note.
package struct NoteSignature: Hashable, Sendable {
    package let name: NoteKeyName
    package let id: NoteKeyID
    /// What follows the key id: 64 bytes for Ed25519, 72 for a cosignature, anything for types unknown here.
    package let signature: [UInt8]

    package init(name: NoteKeyName, id: NoteKeyID, signature: [UInt8]) {
        self.name = name
        self.id = id
        self.signature = signature
    }

    fileprivate static let lead = Array("\u{2014} ".utf8)

    /// Reads a line `— name base64(id ‖ signature)`, without its newline.
    ///
    /// - Throws: ``NoteError`` `.malformedSignature`, `.malformedKeyName`, `.nonCanonicalBase64`.
    init(line text: ArraySlice<UInt8>, number: Int) throws(NoteError) {
        guard text.starts(with: Self.lead) else {
            throw NoteError(.malformedSignature, "line \(number): a signature begins with an em dash and a space")
        }
        let parts = text.dropFirst(Self.lead.count)
            .split(separator: UInt8(ascii: " "), maxSplits: 1, omittingEmptySubsequences: false)
        guard parts.count == 2 else {
            throw NoteError(.malformedSignature, "line \(number): a signature is a name, a space and base64")
        }
        let name = try NoteKeyName(parts[0])
        let bytes = try StrictText.base64(parts[1], line: number)
        guard bytes.count > 4 else {
            throw NoteError(.malformedSignature, "line \(number): a key id of 4 bytes and a signature")
        }
        self.init(
            name: name,
            id: NoteKeyID(rawValue: bytes.prefix(4).reduce(0) { $0 << 8 | UInt32($1) }),
            signature: Array(bytes.dropFirst(4))
        )
    }

    /// The line with its newline.
    package var line: [UInt8] {
        var line = Self.lead + self.name.bytes
        line.append(UInt8(ascii: " "))
        Base64.append(self.id.bytes + self.signature, to: &line)
        line.append(UInt8(ascii: "\n"))
        return line
    }

    /// Whether this line claims to be by `key`.
    package func names(_ key: NoteVerifierKey) -> Bool { self.name == key.name && self.id == key.id }
}

/// A signature that was found to be by a known key.
package struct VerifiedSignature: Hashable, Sendable {
    package let key: NoteVerifierKey
    /// Seconds since 1970 in a cosignature; nil in a plain signature.
    package let timeSeconds: UInt64?
}

extension NoteSignature {
    /// The bytes of an Ed25519 signature.
    static let ed25519Bytes = 64
    /// The bytes of a cosignature: time and signature.
    static let cosignatureBytes = 8 + Self.ed25519Bytes

    /// Checks this signature with the key that it names.
    ///
    /// - Throws: ``NoteError`` `.badSignature`.
    func verify(by key: NoteVerifierKey, text: [UInt8]) throws(NoteError) -> VerifiedSignature {
        let bad = NoteError(.badSignature, "the signature that names key \(key) is not by it")
        switch key.type {
        case .ed25519:
            guard self.signature.count == Self.ed25519Bytes, key.isValid(self.signature[...], over: text) else {
                throw bad
            }
            return VerifiedSignature(key: key, timeSeconds: nil)
        case .cosignature:
            guard self.signature.count == Self.cosignatureBytes else { throw bad }
            let time = self.signature.prefix(8).reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
            guard time <= Cosignature.timeSecondsMax,
                key.isValid(self.signature[8...], over: Cosignature.message(text: text, timeSeconds: time))
            else { throw bad }
            return VerifiedSignature(key: key, timeSeconds: time)
        }
    }
}
