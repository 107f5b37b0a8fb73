internal import AuditLedger
internal import Primitives

/// One bundle of records against its tile and against what the signed root vouches for.
struct BundleCheck: Sendable {
    /// Findings of one bundle that are kept.
    private static let findingsMax = 32

    let path: TilePath
    private(set) var findings: [PackageFinding] = []
    private(set) var partFindings: [PackageFinding] = []
    /// The root over the records that are there; nil when one is missing or too much.
    private(set) var root: Digest?
    /// The checksums of a partial bundle, as ``root``.
    private(set) var checksums: [Digest] = []
    private(set) var matchingCount: UInt64 = 0
    /// What the first record must fit, and what the bundle after must: the bundles are checked at the same time.
    private(set) var firstRecord: (previous: Digest, time: Timestamp)?
    private(set) var last: ChainLink?
    /// Whether the level-0 tile is what the records make.
    private(set) var tileIsRight = true

    private var firstSequence: UInt64 { self.path.index * UInt64(TilePath.fullWidth) + 1 }

    /// - Parameters:
    ///   - vouched: The checksums of a partial bundle that the signed root vouches for.
    ///   - vouchedRoot: The root of a full bundle that it vouches for.
    ///   - isLast: No bundle comes behind.
    init(
        _ parts: PackageParts,
        _ check: RecordCheck,
        path: TilePath,
        vouched: [Digest]?,
        vouchedRoot: Digest?,
        isLast: Bool
    ) throws(PackageError) {
        self.path = path
        var expected = vouched
        var tileHashes: [Digest]?
        if path.isFull, let tilePath = try? TilePath(.hashes(level: 0), index: path.index) {
            let tile = try parts.part(tilePath.text)
            if let finding = tile.finding { self.partFindings.append(finding) }
            tileHashes = tile.bytes.flatMap { try? Tile(path: tilePath, parsing: $0).hashes }
            if let tileHashes, let vouchedRoot, Self.root(tileHashes) == vouchedRoot { expected = tileHashes }
        }
        let part = try parts.part(path.text)
        if let finding = part.finding { self.partFindings.append(finding) }
        guard let bytes = part.bytes else {
            self.findings.append(
                PackageFinding(
                    isLast ? .truncated : .missing,
                    sequence: SequenceNumber(self.firstSequence),
                    file: path.text,
                    "the bundle of \(path.width) records is not there"
                )
            )
            return
        }
        let records = self.split(bytes).map { RecordCheck.Record($0) }
        if let expected {
            self.compare(records, with: expected, check, isLast: isLast)
        } else {
            self.follow(records, check, isLast: isLast)
        }
        if records.count == path.width {
            let checksums = records.map(\.checksum)
            let root = Self.root(checksums)
            self.root = root
            if !path.isFull { self.checksums = checksums }
            if let tileHashes { self.tileIsRight = tileHashes == checksums }
            // The tile was changed and nothing else.
            if root == vouchedRoot { self.matchingCount = UInt64(path.width) }
        }
        if self.findings.count > Self.findingsMax { self.findings.removeLast(self.findings.count - Self.findingsMax) }
        self.setEnds(records, expected)
    }

    static func root(_ checksums: [Digest]) -> Digest {
        var tree = MerkleTree()
        for checksum in checksums { tree.push(checksum) }
        return tree.root
    }

    /// Entries, as far as their lengths lead.
    private mutating func split(_ bytes: [UInt8]) -> [ArraySlice<UInt8>] {
        var entries: [ArraySlice<UInt8>] = []
        entries.reserveCapacity(self.path.width)
        var next = 0
        while next < bytes.count, entries.count <= TilePath.fullWidth {
            guard bytes.count - next >= 2 else { break }
            let count = Int(bytes[next]) << 8 | Int(bytes[next + 1])
            guard bytes.count - next - 2 >= count else { break }
            entries.append(bytes[next + 2..<next + 2 + count])
            next += 2 + count
        }
        if next < bytes.count {
            let sequence = SequenceNumber(self.firstSequence + UInt64(entries.count))
            self.findings.append(
                PackageFinding(
                    .modified,
                    sequence: sequence,
                    file: self.path.text,
                    "the bundle's lengths lead beyond it"
                )
            )
        }
        return entries
    }

    /// Compares with checksums that the signed root vouches for: says exactly what happened to which record.
    private mutating func compare(
        _ records: [RecordCheck.Record],
        with expected: [Digest],
        _ check: RecordCheck,
        isLast: Bool
    ) {
        let isShort = records.count < expected.count
        var place = 0
        var link: ChainLink?
        for record in records {
            // Passes over records that are missing before this one.
            if isShort, place < expected.count, record.checksum != expected[place],
                let found = expected[place...].firstIndex(of: record.checksum)
            {
                self.addMissing(place..<found, .missing)
                place = found
                link = ChainLink(checksum: expected[place - 1], time: nil)
            }
            let sequence = self.firstSequence + UInt64(place)
            guard place < expected.count else {
                self.add(.unsigned, sequence, "a record that the signed tree does not have here")
                continue
            }
            if record.checksum == expected[place] {
                if let finding = check.finding(record, at: sequence, after: link, file: self.path.text) {
                    self.findings.append(finding)
                } else {
                    self.matchingCount += 1
                }
            } else {
                self.findings.append(check.difference(record, at: sequence, file: self.path.text))
            }
            link = ChainLink(checksum: expected[place], time: record.fields?.recordedAt)
            place += 1
        }
        self.addMissing(place..<expected.count, isLast ? .truncated : .missing)
    }

    /// Checks records against each other when nothing vouches for single ones.
    private mutating func follow(_ records: [RecordCheck.Record], _ check: RecordCheck, isLast: Bool) {
        var link: ChainLink?
        for (place, record) in records.enumerated() {
            let sequence = self.firstSequence + UInt64(place)
            guard place < self.path.width else {
                self.add(.unsigned, sequence, "a record that the signed tree does not have here")
                continue
            }
            if let finding = check.finding(record, at: sequence, after: link, file: self.path.text) {
                self.findings.append(finding)
            }
            link = ChainLink(checksum: record.checksum, time: record.fields?.recordedAt)
        }
        self.addMissing(records.count..<max(records.count, self.path.width), isLast ? .truncated : .missing)
    }

    private mutating func addMissing(_ places: Range<Int>, _ kind: PackageFinding.Kind) {
        guard !places.isEmpty else { return }
        let count = places.count == 1 ? "the record is" : "this and the next \(places.count - 1) records are"
        self.add(kind, self.firstSequence + UInt64(places.lowerBound), "\(count) not there")
    }

    private mutating func add(_ kind: PackageFinding.Kind, _ sequence: UInt64, _ detail: String) {
        self.findings.append(
            PackageFinding(kind, sequence: SequenceNumber(sequence), file: self.path.text, detail)
        )
    }

    private mutating func setEnds(_ records: [RecordCheck.Record], _ expected: [Digest]?) {
        if let fields = records.first?.fields, let previous = fields.previous {
            let isFirst = expected.map { records[0].checksum == $0.first } ?? true
            if isFirst { self.firstRecord = (previous, fields.recordedAt) }
        }
        let isWhole = records.count == self.path.width
        if let checksum = expected?.last ?? (isWhole ? records.last?.checksum : nil) {
            self.last = ChainLink(checksum: checksum, time: isWhole ? records.last?.fields?.recordedAt : nil)
        }
    }
}
