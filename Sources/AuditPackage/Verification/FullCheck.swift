internal import AuditLedger
internal import Primitives

/// Checks all records of a full package: bundles side by side, then what connects them.
struct FullCheck {
    private let parts: PackageParts
    private let checkpoint: Checkpoint
    private(set) var result = ContentResult()
    /// Roots over the full bundles, from the records, where they are whole.
    private var bundleRoots: [Digest] = []
    private var lastChecksums: [Digest] = []

    init(_ parts: PackageParts, checkpoint: Checkpoint, organization: OrganizationKey, width: Int) async throws {
        self.parts = parts
        self.checkpoint = checkpoint
        let levels = try TileLevels(parts, checkpoint: checkpoint)
        let check = RecordCheck(organization: organization)
        let size = checkpoint.size
        let counts = TilePath.counts(level: 0, size: size)
        let count = Int(counts.full) + (counts.partialWidth > 0 ? 1 : 0)
        let bundles = try await parallelMap(count: count, width: width) { place in
            try TilePath.bundle(index: UInt64(place), size: size).map { path in
                try BundleCheck(
                    parts,
                    check,
                    path: path,
                    vouched: path.isFull ? nil : levels.lastChecksums,
                    vouchedRoot: path.isFull ? levels.bundleRoot(place) : nil,
                    isLast: place == count - 1
                )
            }
        }
        self.result.findings = levels.findings
        self.result.partFindings = levels.partFindings
        self.join(bundles.compactMap { $0 }, levels)
    }

    private mutating func join(_ bundles: [BundleCheck], _ levels: TileLevels) {
        var fold = SubtreeFold()
        var isWhole = true
        var link: ChainLink? = ChainLink(checksum: .zero, time: nil)
        for bundle in bundles {
            self.result.findings += bundle.findings
            self.result.partFindings += bundle.partFindings
            self.result.checkedCount += bundle.matchingCount
            self.connect(bundle, after: link)
            link = bundle.last
            guard let root = bundle.root else {
                isWhole = false
                continue
            }
            if bundle.path.isFull {
                self.bundleRoots.append(root)
                _ = fold.add(root, level: 8)
            } else {
                self.lastChecksums = bundle.checksums
                for checksum in bundle.checksums { _ = fold.add(checksum, level: 0) }
            }
        }
        if isWhole, fold.count == self.checkpoint.size, fold.root == self.checkpoint.root {
            self.result.leadsToRoot = true
            self.result.checkedCount = self.checkpoint.size
            self.addTileDifferences(bundles, levels)
        } else if isWhole, self.result.findings.allSatisfy({ $0.kind == .proofMismatch }) {
            self.result.findings.append(
                PackageFinding(.rewritten, "the records follow each other and are not those of the signed root")
            )
        }
    }

    /// The first record of a bundle against the last one of the bundle before.
    private mutating func connect(_ bundle: BundleCheck, after link: ChainLink?) {
        guard let link, let first = bundle.firstRecord else { return }
        let sequence = SequenceNumber(bundle.path.index * UInt64(TilePath.fullWidth) + 1)
        if first.previous != link.checksum {
            self.result.findings.append(
                PackageFinding(
                    .brokenChain,
                    sequence: sequence,
                    file: bundle.path.text,
                    sequence.rawValue == 1
                        ? "the first record does not begin the chain"
                        : "previous is not the checksum of record \(sequence.rawValue - 1): one of the two was changed"
                )
            )
        } else if let last = link.time, first.time < last {
            self.result.findings.append(
                PackageFinding(.malformed, sequence: sequence, file: bundle.path.text, "recorded_at goes back")
            )
        }
    }

    /// The records are right: then tiles that differ are named, and only those.
    private mutating func addTileDifferences(_ bundles: [BundleCheck], _ levels: TileLevels) {
        self.result.findings.removeAll { $0.kind == .proofMismatch }
        for bundle in bundles where !bundle.tileIsRight {
            guard let path = try? TilePath(.hashes(level: 0), index: bundle.path.index) else { continue }
            self.result.findings.append(
                PackageFinding(
                    .proofMismatch,
                    file: path.text,
                    "the tile is not that of the signed tree; the records below it are"
                )
            )
        }
        self.result.findings += levels.differences(bundleRoots: self.bundleRoots, last: self.lastChecksums)
    }

    /// The root that the records had at an earlier size; nil when they are not all there.
    func root(at size: UInt64) throws(PackageError) -> Digest? {
        guard self.result.leadsToRoot, size <= self.checkpoint.size else { return nil }
        var fold = SubtreeFold()
        let full = Int(size / UInt64(TilePath.fullWidth))
        for root in self.bundleRoots.prefix(full) { _ = fold.add(root, level: 8) }
        let rest = Int(size % UInt64(TilePath.fullWidth))
        if rest > 0 {
            guard let path = TilePath.bundle(index: UInt64(full), size: self.checkpoint.size),
                let bytes = try self.parts.part(path.text).bytes,
                let entries = try? EntryBundle.entries(path: path, parsing: bytes)
            else { return nil }
            for entry in entries.prefix(rest) { _ = fold.add(LedgerHash.leaf(Array(entry)), level: 0) }
        }
        return fold.root
    }
}
