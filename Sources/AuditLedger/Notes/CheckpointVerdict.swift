/// When a key's signatures count; both ends belong to it.
package struct KeyValidity: Hashable, Sendable {
    package let key: NoteVerifierKey
    /// Sizes of the checkpoints that the key may sign.
    package let sizes: ClosedRange<UInt64>
    /// Times that a cosignature may carry, seconds since 1970; a log's signature carries none.
    package let timesSeconds: ClosedRange<UInt64>

    package init(
        key: NoteVerifierKey,
        sizes: ClosedRange<UInt64> = 0...MerkleTree.sizeMax,
        timesSeconds: ClosedRange<UInt64> = 0...Cosignature.timeSecondsMax
    ) {
        self.key = key
        self.sizes = sizes
        self.timesSeconds = timesSeconds
    }
}

/// Something about a checkpoint that its reader must know.
package struct CheckpointFinding: Hashable, Sendable, CustomStringConvertible {
    /// What; the raw value is a stable name.
    package enum Kind: String, Sendable, CaseIterable {
        /// The bytes are no signed checkpoint.
        case malformed
        /// It is about another log.
        case wrongOrigin = "wrong_origin"
        /// No signature by a key of the log that is valid for this size.
        case noLogSignature = "no_log_signature"
        /// A signature names a known key and is not by it.
        case badSignature = "bad_signature"
        /// Two signatures by one known key.
        case repeatedSigner = "repeated_signer"
        /// A signature by a known key outside its validity; it does not count.
        case keyNotValid = "key_not_valid"
        /// A cosignature from the future; it does not count.
        case fromTheFuture = "from_the_future"
        /// The cosignatures that count do not satisfy the policy.
        case quorumNotMet = "quorum_not_met"
    }

    package let kind: Kind
    /// One sentence for people.
    package let detail: String

    package init(_ kind: Kind, _ detail: String) {
        self.kind = kind
        self.detail = detail
    }

    /// Whether the checkpoint must not be trusted because of this alone.
    package var isFatal: Bool {
        switch self.kind {
        case .keyNotValid, .fromTheFuture: false
        case .malformed, .wrongOrigin, .noLogSignature, .badSignature, .repeatedSigner, .quorumNotMet: true
        }
    }

    package var description: String { "checkpoint \(self.kind.rawValue): \(self.detail)" }
}

/// What a policy says of a checkpoint.
package struct CheckpointVerdict: Hashable, Sendable {
    /// A cosignature that counts.
    package struct Cosigner: Hashable, Sendable {
        package let name: PolicyName
        package let key: NoteVerifierKey
        package let timeSeconds: UInt64
    }

    /// The checkpoint; nil when it could not be read.
    package let checkpoint: SignedCheckpoint?
    /// Keys of the log whose signatures count.
    package let logKeys: [NoteVerifierKey]
    package let cosigners: [Cosigner]
    /// One for each group of the policy, in its order.
    package let groups: [TrustPolicy.GroupVerdict]
    package let quorumIsMet: Bool
    /// Signatures by keys that the policy does not know; ignored.
    package let unknownSignatureCount: Int
    package let findings: [CheckpointFinding]

    /// Whether the size and the root may be believed: signed by the log and by a quorum, and nothing forged in it.
    package var isTrusted: Bool {
        self.checkpoint != nil && !self.logKeys.isEmpty && self.quorumIsMet
            && !self.findings.contains(where: \.isFatal)
    }
}

/// What a policy says of a receipt.
package struct ReceiptVerdict: Sendable {
    package let checkpoint: CheckpointVerdict
    /// Why the record is not proven to be in the checkpoint's tree; nil when it is.
    package let inclusionError: ProofError?

    /// Whether the record is in a tree that the policy's signers vouch for.
    package var isTrusted: Bool { self.inclusionError == nil && self.checkpoint.isTrusted }
}
