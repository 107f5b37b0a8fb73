package import Primitives

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
