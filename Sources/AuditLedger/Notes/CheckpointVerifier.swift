package import Primitives

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

/// Decides whether a checkpoint may be believed, by a policy and keys that the caller got elsewhere.
///
/// Never take the policy or the keys from where the checkpoint comes from.
package struct CheckpointVerifier: Sendable {
    package let origin: LogOrigin
    package let policy: TrustPolicy
    private let keys: NoteKeyRing
    private let witnessNames: [NoteVerifierKey: PolicyName]
    private let validity: [NoteVerifierKey: [KeyValidity]]

    /// - Parameters:
    ///   - origin: The log that is expected; keys of the policy's other logs are not accepted.
    ///   - validity: When keys are valid; a key that is not named here always is, one that is named twice is in both.
    /// - Throws: ``NoteError`` `.ambiguousKey`.
    package init(origin: LogOrigin, policy: TrustPolicy, validity: [KeyValidity] = []) throws(NoteError) {
        self.origin = origin
        self.policy = policy
        let logs = policy.logs.map(\.key).filter { $0.name.bytes == origin.bytes }
        self.keys = try NoteKeyRing(logs + policy.witnesses.map(\.key))
        self.witnessNames = Dictionary(policy.witnesses.map { ($0.key, $0.name) }) { first, _ in first }
        self.validity = Dictionary(grouping: validity, by: \.key)
    }

    /// Judges a note as it was sent or stored.
    ///
    /// - Parameter nowSeconds: Refuses cosignatures later than this; nil when the reader has no clock to trust.
    package func verify(_ note: some Collection<UInt8>, nowSeconds: UInt64? = nil) -> CheckpointVerdict {
        do {
            return self.verify(try SignedCheckpoint(parsing: note), nowSeconds: nowSeconds)
        } catch {
            return CheckpointVerdict(
                checkpoint: nil,
                logKeys: [],
                cosigners: [],
                groups: self.policy.evaluate(cosigners: []).groups,
                quorumIsMet: false,
                unknownSignatureCount: 0,
                findings: [CheckpointFinding(.malformed, error.description)]
            )
        }
    }

    /// Judges a checkpoint that was read before.
    package func verify(_ signed: SignedCheckpoint, nowSeconds: UInt64? = nil) -> CheckpointVerdict {
        var count = SignatureCount()
        if signed.checkpoint.origin != self.origin {
            count.findings.append(CheckpointFinding(.wrongOrigin, "expected log \(self.origin)"))
        }
        for signature in signed.note.signatures {
            guard let key = self.keys.key(of: signature) else {
                count.unknown += 1
                continue
            }
            guard count.seen.insert(key).inserted else {
                count.findings.append(CheckpointFinding(.repeatedSigner, "two signatures by key \(key)"))
                continue
            }
            do {
                let verified = try signature.verify(by: key, text: signed.note.text)
                self.add(verified, of: signed.checkpoint, nowSeconds: nowSeconds, to: &count)
            } catch {
                count.findings.append(CheckpointFinding(.badSignature, error.message))
            }
        }
        if count.logKeys.isEmpty {
            count.findings.append(CheckpointFinding(.noLogSignature, "not signed by log \(self.origin)"))
        }
        let quorum = self.policy.evaluate(cosigners: Set(count.cosigners.map(\.name)))
        if !quorum.quorumIsMet {
            let missing = quorum.groups.filter { !$0.isMet }
                .map { "\($0.name) \($0.witnessedCount) of \($0.threshold)" }.joined(separator: ", ")
            count.findings.append(CheckpointFinding(.quorumNotMet, "cosignatures are missing: \(missing)"))
        }
        return CheckpointVerdict(
            checkpoint: signed,
            logKeys: count.logKeys,
            cosigners: count.cosigners,
            groups: quorum.groups,
            quorumIsMet: quorum.quorumIsMet,
            unknownSignatureCount: count.unknown,
            findings: count.findings
        )
    }

    /// Judges a receipt for the record with this checksum.
    package func verify(
        _ receipt: TransparencyProof,
        checksum: Digest,
        nowSeconds: UInt64? = nil
    ) -> ReceiptVerdict {
        let verdict = self.verify(receipt.checkpoint, nowSeconds: nowSeconds)
        do {
            try receipt.verifyInclusion(checksum: checksum)
            return ReceiptVerdict(checkpoint: verdict, inclusionError: nil)
        } catch {
            return ReceiptVerdict(checkpoint: verdict, inclusionError: error)
        }
    }

    private struct SignatureCount {
        var seen: Set<NoteVerifierKey> = []
        var logKeys: [NoteVerifierKey] = []
        var cosigners: [CheckpointVerdict.Cosigner] = []
        var unknown = 0
        var findings: [CheckpointFinding] = []
    }

    private func add(
        _ signature: VerifiedSignature,
        of checkpoint: Checkpoint,
        nowSeconds: UInt64?,
        to count: inout SignatureCount
    ) {
        let key = signature.key
        guard self.isValid(signature, size: checkpoint.size) else {
            count.findings.append(
                CheckpointFinding(.keyNotValid, "key \(key) is not valid for size \(checkpoint.size) at that time")
            )
            return
        }
        guard let time = signature.timeSeconds, let name = self.witnessNames[key] else {
            count.logKeys.append(key)
            return
        }
        guard nowSeconds.map({ time <= $0 }) ?? true else {
            count.findings.append(CheckpointFinding(.fromTheFuture, "the cosignature by \(key) is from the future"))
            return
        }
        count.cosigners.append(CheckpointVerdict.Cosigner(name: name, key: key, timeSeconds: time))
    }

    private func isValid(_ signature: VerifiedSignature, size: UInt64) -> Bool {
        guard let windows = self.validity[signature.key] else { return true }
        return windows.contains { window in
            window.sizes.contains(size) && (signature.timeSeconds.map { window.timesSeconds.contains($0) } ?? true)
        }
    }
}
