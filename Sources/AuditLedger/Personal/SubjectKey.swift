package import Primitives

internal import enum Crypto.ChaChaPoly
internal import struct Crypto.SymmetricKey
internal import struct Foundation.Data

/// The key of one data subject in one organization: with it sealed values open, without it nobody opens them again.
package struct SubjectKey: Sendable {
    /// Why a sealed value does not open.
    package struct Failure: Error, Sendable, Hashable, CustomStringConvertible {
        package enum Code: String, Sendable {
            /// The sealed bytes are not this key's, or were changed.
            case notAuthentic
            /// The value opens, and is not the one that the record commits to.
            case otherCommitment
            /// A key is 32 bytes.
            case malformedKey
        }

        package let code: Code

        package init(code: Code) { self.code = code }

        package var description: String { "sealed value \(self.code.rawValue)" }
    }

    package static let byteCount = 32

    /// The secret; never in a log, an error or a command.
    package let bytes: [UInt8]

    /// - Throws: `.malformedKey`.
    package init(_ bytes: [UInt8]) throws(Failure) {
        guard bytes.count == Self.byteCount else { throw Failure(code: .malformedKey) }
        self.bytes = bytes
    }

    /// Names the key without telling it: the first 8 bytes of SHA-256 over a domain and the key, as hexadecimal digits.
    package var fingerprint: String {
        var hash = TextHash()
        hash.update(Array("flasktrack/subject-key/1\n".utf8))
        hash.update(self.bytes)
        return String(hash.finalize().hex.prefix(16))
    }

    /// Salt and value under ChaCha20-Poly1305 (RFC 8439), bound to the commitment.
    ///
    /// The nonce is derived from the salt, which is new for every value.
    package func seal(_ personal: PersonalValue) -> [UInt8] {
        let plain = personal.salt + personal.value
        guard
            let nonce = try? ChaChaPoly.Nonce(data: Self.nonce(personal.salt)),
            let box = try? ChaChaPoly.seal(
                plain,
                using: SymmetricKey(data: self.bytes),
                nonce: nonce,
                authenticating: Array(personal.commitment.bytes)
            )
        else { preconditionFailure("a nonce of 12 bytes and a key of 32 always seal") }
        return Array(box.combined)
    }

    /// The salt and the value of a sealed value.
    /// - Throws: ``Failure``.
    package func open(
        _ sealed: [UInt8],
        commitment: Digest,
        organization: OrganizationKey
    ) throws(Failure) -> (salt: [UInt8], value: [UInt8]) {
        let plain: Data
        do {
            plain = try ChaChaPoly.open(
                try ChaChaPoly.SealedBox(combined: sealed),
                using: SymmetricKey(data: self.bytes),
                authenticating: Array(commitment.bytes)
            )
        } catch {
            throw Failure(code: .notAuthentic)
        }
        guard plain.count >= PersonalCommitment.saltBytes else { throw Failure(code: .notAuthentic) }
        let salt = Array(plain.prefix(PersonalCommitment.saltBytes))
        let value = Array(plain.dropFirst(PersonalCommitment.saltBytes))
        guard PersonalCommitment.commit(organization, salt: salt, value: value) == commitment else {
            throw Failure(code: .otherCommitment)
        }
        return (salt, value)
    }

    private static func nonce(_ salt: [UInt8]) -> [UInt8] {
        var hash = TextHash()
        hash.update(Array("flasktrack/nonce/1\n".utf8))
        hash.update(salt)
        return Array(hash.finalize().bytes.prefix(12))
    }
}
