package import Primitives

/// Why a note, a key, a policy or a proof text was refused.
///
/// Names lines and keys, never contents. Nothing here is worth a retry with the same bytes.
package struct NoteError: CausedError, Sendable, CustomStringConvertible {
    /// What is wrong; the raw value is a stable name.
    package enum Code: String, Sendable, CaseIterable {
        /// More bytes, lines, signatures or members than a limit allows.
        case tooLarge = "too_large"
        /// Not UTF-8, or with a control character.
        case invalidText = "invalid_text"
        /// A text that ends too early, or lacks its last newline.
        case truncated
        /// No blank line before signatures, or no signature after it.
        case noSignatures = "no_signatures"
        /// A line where a signature is expected that is none.
        case malformedSignature = "malformed_signature"
        /// A line that does not have its form.
        case malformedLine = "malformed_line"
        /// An empty line where none may be.
        case blankLine = "blank_line"
        /// Base64 that is not the only text of its bytes: padding, spare bits, other characters.
        case nonCanonicalBase64 = "non_canonical_base64"
        /// A number with a sign, a leading zero, or none at all.
        case malformedNumber = "malformed_number"
        /// A number beyond 2^63 − 1.
        case numberTooLarge = "number_too_large"
        /// A hash that is not 32 bytes.
        case malformedHash = "malformed_hash"
        /// An origin that is empty, too long, or not one line of text.
        case malformedOrigin = "malformed_origin"
        /// A key name that is empty, too long, or contains a space, a plus sign or a control character.
        case malformedKeyName = "malformed_key_name"
        /// A key text that does not have its form.
        case malformedKey = "malformed_key"
        /// A key whose id is not that of its name and bytes.
        case keyIDMismatch = "key_id_mismatch"
        /// A signature type other than Ed25519 (1) and its timestamped cosignature (4), or the wrong one of these.
        case unsupportedSignatureType = "unsupported_signature_type"
        /// No signature is by a known key.
        case unknownSigner = "unknown_signer"
        /// Two signatures by one known key.
        case repeatedSigner = "repeated_signer"
        /// A signature that names a known key and is not by it.
        case badSignature = "bad_signature"
        /// Two known keys with the same name and id.
        case ambiguousKey = "ambiguous_key"
        /// A policy that names what it did not define before.
        case undefinedName = "undefined_name"
        /// A policy that defines a name twice, or lists it as a member twice.
        case repeatedName = "repeated_name"
        /// A policy with one public key twice.
        case repeatedKey = "repeated_key"
        /// A group that asks for no member, or for more than it has.
        case badThreshold = "bad_threshold"
        /// A policy without a quorum line, or with two.
        case badQuorum = "bad_quorum"
        /// Two notes that do not contradict each other.
        case notAFork = "not_a_fork"
    }

    package let code: Code
    package let message: String
    package let cause: (any Error)?
    package let location: ErrorLocation

    package init(_ code: Code, _ message: String, cause: (any Error)? = nil, location: ErrorLocation = .here()) {
        self.code = code
        self.message = message
        self.cause = cause
        self.location = location
    }

    package var description: String { "note \(self.code.rawValue): \(self.message)" }
}
