internal import AuditLedger
internal import Primitives

/// Judges a package, by keys and a policy that the auditor got elsewhere.
///
/// In this order: the archive's form → manifest and checkpoint → policy, log and signatures → every record from its own
/// bytes, up to the signed root → the earlier checkpoints. Nothing that the package says of itself decides what is
/// checked: how many records there must be, the signed checkpoint says.
package struct PackageVerifier: Sendable {
    private let trust: PackageTrust
    /// Parts that are checked at once.
    private let width: Int

    package init(trust: PackageTrust, width: Int = 4) {
        self.trust = trust
        self.width = max(1, width)
    }

    /// Reads and judges a whole package; reading blocks threads of the concurrent pool.
    ///
    /// - Throws: ``PackageError`` when there is nothing that could be judged: the package is unreadable.
    package func verify(_ bytes: any PackageBytes) async throws -> PackageReport {
        let parts = try PackageParts(bytes)
        var judged = try JudgedPackage(parts, self.trust)
        let checkpoint = judged.checkpoint.checkpoint
        guard checkpoint.size > 0, checkpoint.size <= PackageExport.recordsMax || parts.manifest.kind == .selection
        else { throw PackageError(.tooLarge, "the checkpoint is of \(checkpoint.size) records") }
        let content: ContentResult
        let completeness: PackageReport.Completeness
        switch parts.manifest.kind {
        case .full:
            let check = try await FullCheck(
                parts,
                checkpoint: checkpoint,
                organization: judged.organization,
                width: self.width
            )
            content = check.result
            completeness = .complete
            try judged.compareEarlier(self.trust, shown: checkpoint.size) { size throws(PackageError) in
                try check.root(at: size)
            }
            try judged.checkSupplement { size throws(PackageError) in try check.root(at: size) }
        case .selection:
            let check = try await OutlineCheck(
                parts,
                checkpoint: checkpoint,
                organization: judged.organization,
                width: self.width
            )
            content = check.result
            completeness = judged.completeness(shown: check.shownCount, hidden: check.hidden)
            try judged.compareEarlier(self.trust, shown: check.shownCount) { _ throws(PackageError) in nil }
            try judged.checkSupplement { _ throws(PackageError) in nil }
        }
        return judged.report(content, completeness)
    }
}

/// What is known of a package besides its records.
private struct JudgedPackage {
    let parts: PackageParts
    let checkpoint: SignedCheckpoint
    let organization: OrganizationKey
    private let verifier: CheckpointVerifier
    private let verdict: CheckpointVerdict
    private let source: PackageTrust.Source
    private var result = ContentResult()
    private var remarks: [String] = []
    private var manifestSigners: [NoteVerifierKey] = []
    /// Those that the auditor brings, or the package's own.
    private let keys: [PackageKey]

    init(_ parts: PackageParts, _ trust: PackageTrust) throws {
        self.parts = parts
        let part = try parts.part(PackageLayout.checkpoint)
        guard let bytes = part.bytes else {
            throw PackageError(.missingPart, "the package has no \(PackageLayout.checkpoint)")
        }
        self.result.add(part)
        do {
            self.checkpoint = try SignedCheckpoint(parsing: bytes)
        } catch {
            throw PackageError(.malformed, "the checkpoint cannot be read", cause: error)
        }
        let name = self.checkpoint.checkpoint.origin.bytes.split(separator: UInt8(ascii: "/")).last ?? []
        guard let organization = OrganizationKey(String(decoding: name, as: UTF8.self)) else {
            throw PackageError(.malformed, "the checkpoint's origin names no organization")
        }
        self.organization = organization
        let own = try Self.ownTrust(parts, &self.result)
        self.keys = trust.keys.isEmpty ? own.keys : trust.keys
        do {
            guard
                let resolved = try trust.resolve(
                    for: self.checkpoint,
                    packagePolicy: own.policy,
                    packageKeys: own.keys
                )
            else { throw PackageError(.missingPart, "no keys were given, and the package has no policy") }
            (self.verifier, self.source) = resolved
        } catch let error as NoteError {
            throw PackageError(.malformed, "the keys make no policy", cause: error)
        }
        self.verdict = self.verifier.verify(self.checkpoint, nowSeconds: trust.nowSeconds)
        self.addSignatureFindings(self.verdict, file: PackageLayout.checkpoint)
        try self.addNames()
        self.compareManifest(own.policyBytes)
        try self.verifyManifest(self.keys)
    }

    /// Policy and keys of the package; they count only when the auditor brings none.
    private static func ownTrust(
        _ parts: PackageParts,
        _ result: inout ContentResult
    ) throws(PackageError) -> (policy: TrustPolicy?, policyBytes: [UInt8]?, keys: [PackageKey]) {
        let policy = try parts.part(PackageLayout.policy)
        let keys = try parts.part(PackageLayout.keys)
        result.add(policy)
        result.add(keys)
        return (
            policy.bytes.flatMap { try? TrustPolicy(parsing: $0) }, policy.bytes,
            keys.bytes.flatMap { try? PackageKey.parse($0) } ?? []
        )
    }

    private mutating func addSignatureFindings(_ verdict: CheckpointVerdict, file: String) {
        for finding in verdict.findings {
            switch finding.kind {
            case .badSignature, .repeatedSigner:
                self.result.findings.append(PackageFinding(.wrongSignature, file: file, finding.detail))
            case .keyNotValid, .fromTheFuture: self.remarks.append("\(file): \(finding.detail)")
            // The policy's affair, or what it leads to.
            case .malformed, .wrongOrigin, .noLogSignature, .quorumNotMet: break
            }
        }
    }

    // MARK: Manifest

    private mutating func addNames() throws(PackageError) {
        let plain: Set<String> = [
            PackageLayout.checkpoint, PackageLayout.earlierCheckpoint, PackageLayout.consistency, PackageLayout.policy,
            PackageLayout.keys, PackageLayout.report, PackageLayout.instructions, PackageLayout.openings,
            PackageLayout.erasures,
        ]
        let size = self.checkpoint.checkpoint.size
        let isFull = self.parts.manifest.kind == .full
        let outlines = self.parts.manifest.files.count { $0.name.hasPrefix(PackageLayout.outlineFolder) }
        let numbered = Set(
            (0..<outlines).flatMap { [PackageLayout.outline(part: $0), PackageLayout.records(part: $0)] }
        )
        let supplement = Set(
            (0..<PackageSupplement.scrubsMax).map { PackageLayout.scrub($0) }
                + (0..<PackageSupplement.forksMax).map { PackageLayout.fork($0) }
        )
        self.result.partFindings += self.parts.namesFindings { name in
            if plain.contains(name) || supplement.contains(name) || name.hasPrefix(PackageLayout.keyFolder) {
                return true
            }
            guard isFull else { return numbered.contains(name) || name.hasPrefix(PackageLayout.proofFolder) }
            guard let path = try? TilePath(parsing: name.utf8) else { return false }
            return switch path.content {
            case .entries: TilePath.bundle(index: path.index, size: size) == path
            case .hashes(let level): TilePath.tile(level: level, index: path.index, size: size) == path
            }
        }
        if isFull, size <= PackageExport.recordsMax {
            let named = Set(self.result.partFindings.compactMap(\.file))
            TilePath.forEach(size: size) { path in
                guard self.parts.archive.member(path.text) == nil, !named.contains(path.text) else { return }
                let finding = PackageFinding(.missing, file: path.text, "a tree of \(size) records has this part")
                self.result.partFindings.append(finding)
            }
        }
        // What nobody reads here is held against the manifest all the same.
        for file in self.parts.manifest.files
        where file.name == PackageLayout.report || file.name == PackageLayout.instructions
            || file.name.hasPrefix(PackageLayout.keyFolder)
        {
            self.result.add(try self.parts.part(file.name))
        }
    }

    private mutating func compareManifest(_ policy: [UInt8]?) {
        let manifest = self.parts.manifest
        let checkpoint = self.checkpoint.checkpoint
        func differs(_ detail: String) -> PackageFinding {
            PackageFinding(.manifestMismatch, file: PackageLayout.manifest, detail)
        }
        if manifest.origin != checkpoint.origin
            || !manifest.origin.bytes.elementsEqual("\(manifest.cluster)/\(manifest.organization)".utf8)
        {
            self.result.findings.append(differs("the manifest is about another log than the checkpoint"))
        }
        if manifest.size != checkpoint.size || manifest.root != checkpoint.root {
            self.result.findings.append(
                differs("the manifest is about \(manifest.size) records, the checkpoint about \(checkpoint.size)")
            )
        }
        if let policy, manifest.policyHash != PackageManifest.hash(policy) {
            self.result.findings.append(differs("the policy is not the one that the manifest names"))
        }
        if manifest.kind == .full, manifest.shownCount != manifest.size {
            self.result.findings.append(differs("a full package shows every record"))
        }
    }

    private mutating func verifyManifest(_ keys: [PackageKey]) throws(PackageError) {
        guard let member = self.parts.archive.member(PackageLayout.manifestSignature) else {
            self.remarks.append(
                "the manifest is not signed: who exported, when and with which filters is not vouched for"
            )
            return
        }
        let (bytes, isIntact) = try self.parts.archive.content(of: member)
        // The manifest cannot name the hash of its own signature; an unknown signer may be a damaged one.
        guard isIntact else {
            self.result.findings.append(
                PackageFinding(
                    .changedFile,
                    file: PackageLayout.manifestSignature,
                    "the bytes have not the archive's checksum"
                )
            )
            return
        }
        let signers = keys.compactMap {
            try? NoteVerifierKey(name: $0.key.name, type: .ed25519, publicKey: $0.key.publicKey)
        }
        do {
            self.manifestSigners = try ManifestNote.verify(bytes, manifest: self.parts.manifestBytes, keys: signers)
        } catch  where error.code == .unknownSigner {
            self.remarks.append("the manifest is signed by nobody whose key is known")
        } catch {
            let finding = PackageFinding(.wrongSignature, file: PackageLayout.manifestSignature, error.message)
            self.result.findings.append(finding)
        }
    }

    // MARK: Other checkpoints

    /// Whether the package continues the earlier checkpoint that it brings and the one that the auditor holds.
    mutating func compareEarlier(
        _ trust: PackageTrust,
        shown: UInt64,
        rootAt: (UInt64) throws(PackageError) -> Digest?
    ) throws(PackageError) {
        let now = self.checkpoint.checkpoint
        var known: [UInt64: Digest] = [now.size: now.root]
        if let earlier = try self.earlier() { known[earlier.size] = earlier.root }
        guard let held = trust.held?.checkpoint else { return }
        guard held.origin == now.origin else {
            self.remarks.append("the checkpoint that you hold is of another log, \(held.origin)")
            return
        }
        guard held.size <= now.size else {
            let detail = "you hold a checkpoint of \(held.size) records, the package ends at \(now.size)"
            self.result.findings.append(PackageFinding(.truncated, sequence: SequenceNumber(now.size + 1), detail))
            return
        }
        let root: Digest? = if let root = known[held.size] { root } else { try rootAt(held.size) }
        guard let root else {
            self.remarks.append("the checkpoint that you hold, of \(held.size) records, could not be compared")
            return
        }
        if root != held.root {
            let detail = "the history of the first \(held.size) records is not the one of the checkpoint that you hold"
            self.result.findings.append(PackageFinding(.fork, detail))
        } else {
            self.remarks.append("the package continues the checkpoint of \(held.size) records that you hold")
        }
    }

    /// The earlier checkpoint of the package, when the consistency proof leads to it.
    private mutating func earlier() throws(PackageError) -> Checkpoint? {
        let file = PackageLayout.earlierCheckpoint
        let part = try self.parts.part(file)
        let proofPart = try self.parts.part(PackageLayout.consistency)
        self.result.add(part)
        self.result.add(proofPart)
        guard let bytes = part.bytes else { return nil }
        guard let signed = try? SignedCheckpoint(parsing: bytes),
            signed.checkpoint.origin == self.checkpoint.checkpoint.origin
        else {
            self.result.findings.append(PackageFinding(.proofMismatch, file: file, "it is no checkpoint of this log"))
            return nil
        }
        let verdict = self.verifier.verify(signed)
        self.addSignatureFindings(verdict, file: file)
        let now = self.checkpoint.checkpoint
        let proof = proofPart.bytes.flatMap { try? ConsistencyProof(parsing: $0) }
        guard let proof, proof.oldSize == signed.checkpoint.size, proof.newSize == now.size,
            (try? proof.verify(from: signed.checkpoint.head, to: now.head)) != nil
        else {
            let detail = "no proof leads from the earlier checkpoint of \(signed.checkpoint.size) records to this one"
            let kind: PackageFinding.Kind = verdict.logKeys.isEmpty ? .proofMismatch : .fork
            self.result.findings.append(PackageFinding(kind, file: file, detail))
            return nil
        }
        return verdict.logKeys.isEmpty ? nil : signed.checkpoint
    }

    /// What stands beside the records.
    mutating func checkSupplement(rootAt: (UInt64) throws(PackageError) -> Digest?) throws(PackageError) {
        let check = try SupplementCheck(
            self.parts,
            checkpoint: self.checkpoint.checkpoint,
            organization: self.organization,
            keys: self.keys,
            rootAt: rootAt
        )
        self.result.findings += check.result.findings
        self.result.partFindings += check.result.partFindings
        self.remarks += check.remarks
    }

    // MARK: Conclusion

    /// Whether a selection is all that was asked for, as far as that can be told.
    mutating func completeness(shown: UInt64, hidden: [ClosedRange<UInt64>]) -> PackageReport.Completeness {
        let manifest = self.parts.manifest
        if manifest.shownCount != shown {
            let detail = "the manifest speaks of \(manifest.shownCount) records, the outline shows \(shown)"
            self.result.findings.append(PackageFinding(.manifestMismatch, file: PackageLayout.manifest, detail))
        }
        guard manifest.filters.isEmpty, manifest.first >= 1, manifest.first <= manifest.last else { return .selection }
        let range = manifest.first...manifest.last
        if let gap = hidden.first(where: { $0.overlaps(range) }) {
            let first = SequenceNumber(max(gap.lowerBound, range.lowerBound))
            let detail = "the record is in the range that was asked for and is left out"
            self.result.findings.append(PackageFinding(.missing, sequence: first, detail))
        }
        return .completeRange(range)
    }

    func report(_ content: ContentResult, _ completeness: PackageReport.Completeness) -> PackageReport {
        var all = self.result
        all.findings += content.findings
        all.partFindings += content.partFindings
        let findings = all.sorted
        return PackageReport(
            manifest: self.parts.manifest,
            checkpoint: self.checkpoint,
            checkpointVerdict: self.verdict,
            trustSource: self.source,
            manifestSigners: self.manifestSigners,
            checkedCount: content.checkedCount,
            completeness: findings.contains(where: \.isAbsence) ? .incomplete : completeness,
            isSound: findings.allSatisfy(\.isAbsence),
            findings: Array(findings.prefix(PackageReport.findingsMax)),
            remarks: self.remarks
        )
    }
}
