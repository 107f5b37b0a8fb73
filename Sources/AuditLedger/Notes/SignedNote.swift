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

/// What a replica or a witness signs: a checkpoint and the time at which it was the largest one it had seen.
///
/// - Source: C2SP tlog-cosignature, section Ed25519 signed message.
package enum Cosignature {
    /// The latest time, 2^63 − 1.
    package static let timeSecondsMax = UInt64(Int64.max)

    /// Two header lines before the text of the checkpoint.
    static func message(text: [UInt8], timeSeconds: UInt64) -> [UInt8] {
        Array("cosignature/v1\ntime \(timeSeconds)\n".utf8) + text
    }
}

extension NoteSignerKey {
    /// Signs the text of a note.
    ///
    /// - Throws: ``NoteError`` `.unsupportedSignatureType` when the key is for cosignatures.
    package func signature(over text: [UInt8]) throws(NoteError) -> NoteSignature {
        guard self.type == .ed25519 else {
            throw NoteError(.unsupportedSignatureType, "key \(self) is for cosignatures")
        }
        return NoteSignature(name: self.name, id: self.verifierKey.id, signature: try self.sign(text))
    }

    /// Signs a checkpoint at a time.
    ///
    /// The caller has first stored durably that it signed this size and root: ``HeadHistory``.
    /// - Throws: ``NoteError`` `.unsupportedSignatureType` when the key is not for cosignatures, `.numberTooLarge`.
    package func cosignature(over checkpoint: Checkpoint, timeSeconds: UInt64) throws(NoteError) -> NoteSignature {
        guard self.type == .cosignature else {
            throw NoteError(.unsupportedSignatureType, "key \(self) is not for cosignatures")
        }
        guard timeSeconds <= Cosignature.timeSecondsMax else {
            throw NoteError(.numberTooLarge, "a time beyond 2^63 - 1 seconds")
        }
        let message = Cosignature.message(text: checkpoint.text, timeSeconds: timeSeconds)
        let time = withUnsafeBytes(of: timeSeconds.bigEndian) { Array($0) }
        return NoteSignature(name: self.name, id: self.verifierKey.id, signature: time + (try self.sign(message)))
    }
}
