internal import Primitives

internal import enum Crypto.Curve25519
internal import struct Crypto.SHA256
internal import struct Foundation.Data

/// The name of a key: UTF-8 without spaces, control characters and plus signs; compared as bytes.
///
/// - Source: C2SP signed-note, section Format.
package struct NoteKeyName: Hashable, Sendable, CustomStringConvertible {
    /// As long as a name in a cosignature may be.
    package static let bytesMax = 255

    package let bytes: [UInt8]

    /// - Throws: ``NoteError`` `.malformedKeyName`.
    package init(_ bytes: some Collection<UInt8>) throws(NoteError) {
        let bytes = Array(bytes)
        guard !bytes.isEmpty, bytes.count <= Self.bytesMax, let text = String(validating: bytes, as: UTF8.self),
            text.unicodeScalars.allSatisfy({ $0.value > 0x20 && $0 != "+" && !$0.properties.isWhitespace })
        else {
            throw NoteError(
                .malformedKeyName,
                "a key name is 1 to \(Self.bytesMax) bytes of UTF-8 without spaces, plus signs and control characters"
            )
        }
        self.bytes = bytes
    }

    package init(_ text: String) throws(NoteError) { try self.init(text.utf8) }

    package var description: String { String(decoding: self.bytes, as: UTF8.self) }
}

/// What a key of a note signs.
///
/// - Source: C2SP signed-note, section Signature types.
package enum NoteSignatureType: UInt8, Sendable, Hashable, CaseIterable {
    /// Ed25519 over the text of the note: what a log signs with.
    case ed25519 = 0x01
    /// Ed25519 over a time and a checkpoint: what a replica or a witness signs with (C2SP tlog-cosignature).
    case cosignature = 0x04
}

/// The first four bytes of SHA-256(name ‖ 0x0A ‖ type ‖ public key), big-endian: which key a signature is by.
package struct NoteKeyID: RawRepresentable, Hashable, Sendable, CustomStringConvertible {
    package let rawValue: UInt32

    package init(rawValue: UInt32) { self.rawValue = rawValue }

    init(name: NoteKeyName, typed key: [UInt8]) {
        var hash = SHA256()
        hash.update(data: name.bytes)
        hash.update(data: [UInt8(ascii: "\n")])
        hash.update(data: key)
        self.rawValue = hash.finalize().prefix(4).reduce(0) { $0 << 8 | UInt32($1) }
    }

    init?(hex: ArraySlice<UInt8>) {
        guard hex.count == 8 else { return nil }
        var value = UInt32(0)
        for digit in hex {
            // Only lowercase digits: a key has one text.
            guard let part = Hex.value(of: digit), Hex.digit(part) == digit else { return nil }
            value = value << 4 | UInt32(part)
        }
        self.rawValue = value
    }

    var bytes: [UInt8] { withUnsafeBytes(of: self.rawValue.bigEndian) { Array($0) } }

    package var description: String { Hex.encode(self.bytes) }
}

/// A public key that signatures of notes are checked with; its text is `name+id+base64(type ‖ key)`.
package struct NoteVerifierKey: Hashable, Sendable, CustomStringConvertible {
    package static let publicKeyBytes = 32
    /// A text with the longest name has no more bytes.
    static let textMax = NoteKeyName.bytesMax + 1 + 8 + 1 + 44

    package let name: NoteKeyName
    package let type: NoteSignatureType
    /// The 32 bytes of RFC 8032.
    package let publicKey: [UInt8]
    package let id: NoteKeyID

    /// - Throws: ``NoteError`` `.malformedKey` when the key is not 32 bytes.
    package init(name: NoteKeyName, type: NoteSignatureType, publicKey: [UInt8]) throws(NoteError) {
        guard publicKey.count == Self.publicKeyBytes else {
            throw NoteError(.malformedKey, "an Ed25519 public key has \(Self.publicKeyBytes) bytes")
        }
        self.name = name
        self.type = type
        self.publicKey = publicKey
        self.id = NoteKeyID(name: name, typed: [type.rawValue] + publicKey)
    }

    /// Reads `name+id+base64(type ‖ key)`.
    ///
    /// - Throws: ``NoteError`` `.malformedKey`, `.malformedKeyName`, `.nonCanonicalBase64`, `.keyIDMismatch`,
    ///   `.unsupportedSignatureType`.
    package init(parsing text: [UInt8]) throws(NoteError) {
        let parts = try NoteKeyText(text[...], bytesMax: Self.textMax)
        try self.init(name: parts.name, type: parts.type, publicKey: parts.key)
        guard self.id == parts.id else {
            throw NoteError(.keyIDMismatch, "the id of key \(self.name) is not that of its name and bytes")
        }
    }

    package init(parsing text: String) throws(NoteError) { try self.init(parsing: Array(text.utf8)) }

    /// `name+id+base64(type ‖ key)`.
    package var text: [UInt8] {
        self.name.bytes + Array("+\(self.id)+".utf8) + Base64.encode([self.type.rawValue] + self.publicKey)
    }

    package var description: String { "\(self.name)+\(self.id)" }

    /// Whether `signature` is this key's over `message`, as RFC 8032 says.
    func isValid(_ signature: ArraySlice<UInt8>, over message: [UInt8]) -> Bool {
        guard let key = try? Curve25519.Signing.PublicKey(rawRepresentation: self.publicKey) else { return false }
        return key.isValidSignature(signature, for: message)
    }
}

/// A private key that signs notes; its text is `PRIVATE+KEY+name+id+base64(type ‖ seed)`.
///
/// Its description is that of the public key; only ``secretText`` and ``seed`` reveal it.
package struct NoteSignerKey: Sendable, CustomStringConvertible {
    private static let prefix = Array("PRIVATE+KEY+".utf8)

    /// The key that checks what this one signs.
    package let verifierKey: NoteVerifierKey
    private let privateKey: Curve25519.Signing.PrivateKey

    /// - Parameter seed: The 32 bytes of RFC 8032, secret and never used for anything else.
    /// - Throws: ``NoteError`` `.malformedKey`.
    package init(name: NoteKeyName, type: NoteSignatureType, seed: [UInt8]) throws(NoteError) {
        guard let key = try? Curve25519.Signing.PrivateKey(rawRepresentation: seed) else {
            throw NoteError(.malformedKey, "an Ed25519 seed has 32 bytes")
        }
        self.privateKey = key
        self.verifierKey = try NoteVerifierKey(
            name: name,
            type: type,
            publicKey: Array(key.publicKey.rawRepresentation)
        )
    }

    /// Reads `PRIVATE+KEY+name+id+base64(type ‖ seed)`.
    ///
    /// - Throws: ``NoteError`` `.malformedKey`, `.malformedKeyName`, `.nonCanonicalBase64`, `.keyIDMismatch`,
    ///   `.unsupportedSignatureType`.
    package init(parsing text: [UInt8]) throws(NoteError) {
        guard text.starts(with: Self.prefix) else { throw NoteError(.malformedKey, "not a private key of a note") }
        let parts = try NoteKeyText(text[Self.prefix.count...], bytesMax: NoteVerifierKey.textMax)
        try self.init(name: parts.name, type: parts.type, seed: parts.key)
        guard self.verifierKey.id == parts.id else {
            throw NoteError(.keyIDMismatch, "the id of private key \(parts.name) is not that of its name and bytes")
        }
    }

    package var name: NoteKeyName { self.verifierKey.name }
    package var type: NoteSignatureType { self.verifierKey.type }
    /// The 32 secret bytes.
    package var seed: [UInt8] { Array(self.privateKey.rawRepresentation) }
    /// `PRIVATE+KEY+name+id+base64(type ‖ seed)`: secret.
    package var secretText: [UInt8] {
        Self.prefix + self.name.bytes + Array("+\(self.verifierKey.id)+".utf8)
            + Base64.encode([self.type.rawValue] + self.seed)
    }

    package var description: String { self.verifierKey.description }

    func sign(_ message: [UInt8]) throws(NoteError) -> [UInt8] {
        do {
            return Array(try self.privateKey.signature(for: message))
        } catch {
            throw NoteError(.malformedKey, "key \(self) cannot sign", cause: error)
        }
    }
}

/// The three parts of a key's text.
private struct NoteKeyText {
    let name: NoteKeyName
    let id: NoteKeyID
    let type: NoteSignatureType
    let key: [UInt8]

    init(_ text: ArraySlice<UInt8>, bytesMax: Int) throws(NoteError) {
        let parts = text.split(separator: UInt8(ascii: "+"), maxSplits: 2, omittingEmptySubsequences: false)
        guard text.count <= bytesMax, parts.count == 3, let id = NoteKeyID(hex: parts[1]) else {
            throw NoteError(.malformedKey, "a key is name+id+base64, the id 8 lowercase hexadecimal digits")
        }
        self.name = try NoteKeyName(parts[0])
        self.id = id
        let typed = try StrictText.base64(parts[2], line: 1)
        guard let first = typed.first else { throw NoteError(.malformedKey, "key \(self.name) is empty") }
        guard let type = NoteSignatureType(rawValue: first) else {
            throw NoteError(.unsupportedSignatureType, "key \(self.name) is of type \(first)")
        }
        self.type = type
        self.key = Array(typed.dropFirst())
    }
}
