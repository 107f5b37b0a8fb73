package import Primitives

/// Something wrong with what a package says.
package struct PackageFinding: Hashable, Sendable, CustomStringConvertible {
    /// What; the raw value is a stable name that tools print.
    package enum Kind: String, Sendable, CaseIterable {
        /// A record is not the one that was signed.
        case modified
        /// A record or part that should be there is not.
        case missing
        /// A record stands at another's place.
        case reordered
        /// The history ends earlier than somebody vouches for.
        case truncated
        /// A record of another organization.
        case foreign
        /// A record names another checksum as the one before than that of the record before.
        case brokenChain = "broken_chain"
        /// Bytes that are signed and yet no record: not canonical, a member too many, time going back.
        case malformed
        /// Records that no checkpoint vouches for.
        case unsigned
        /// All records follow each other, but they are not the history that was signed.
        case rewritten
        /// Two signed checkpoints that cannot both be true.
        case fork
        /// A signature names a known key and is not by it.
        case wrongSignature = "wrong_signature"
        /// A tile, an outline or a proof that is not that of the signed tree; the records may be sound.
        case proofMismatch = "proof_mismatch"
        /// A personal value is opened that is not the one to which the record commits.
        case openingMismatch = "opening_mismatch"
        /// The manifest contradicts the package.
        case manifestMismatch = "manifest_mismatch"
        /// A part that the manifest does not know.
        case extraFile = "extra_file"
        /// A part whose bytes are not those that the manifest names.
        case changedFile = "changed_file"
    }

    package let kind: Kind
    /// The first record concerned; nil when it is none in particular.
    package let sequence: SequenceNumber?
    /// The part of the package; nil when it is none in particular.
    package let file: String?
    /// One sentence for people; names no contents.
    package let detail: String

    package init(_ kind: Kind, sequence: SequenceNumber? = nil, file: String? = nil, _ detail: String) {
        self.kind = kind
        self.sequence = sequence
        self.file = file
        self.detail = detail
    }

    package var description: String {
        let place = self.sequence.map { "record \($0)" } ?? self.file ?? "package"
        return "\(place): \(self.kind.rawValue): \(self.detail)"
    }

    /// Whether it only says that something is not there: what is there may be sound.
    package var isAbsence: Bool {
        switch self.kind {
        case .missing, .truncated: true
        default: false
        }
    }
}
