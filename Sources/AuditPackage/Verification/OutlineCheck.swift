internal import AuditLedger
internal import Primitives

/// One part of a selection: its outline and its records.
private struct OutlinePart: Sendable {
    private static let findingsMax = 32

    /// Lines in order; nil in place of a line that is none.
    private(set) var lines: [OutlineLine] = []
    /// The checksum of the record that stands at a shown line, where it is another.
    private(set) var differing: [UInt64: Digest] = [:]
    private(set) var findings: [PackageFinding] = []
    private(set) var partFindings: [PackageFinding] = []
    /// Shown records that are as their line says.
    private(set) var matchingCount: UInt64 = 0
    private(set) var isWhole = true
    /// Shown records without the record before in this part: sequence and what they name as the one before.
    private(set) var firstLink: (sequence: UInt64, previous: Digest, time: Timestamp)?
    private(set) var lastTime: Timestamp?

    init(_ parts: PackageParts, _ check: RecordCheck, number: Int) throws(PackageError) {
        let outline = try parts.part(PackageLayout.outline(part: number))
        let records = try parts.part(PackageLayout.records(part: number))
        for part in [outline, records] {
            if let finding = part.finding { self.partFindings.append(finding) }
        }
        guard let outlineBytes = outline.bytes else {
            self.isWhole = false
            return
        }
        self.readLines(outlineBytes, file: outline.name)
        let shown = (records.bytes ?? []).split(separator: 0x0A, omittingEmptySubsequences: false)
        // Every record ends with a newline, so that nothing stands behind the last.
        if let last = shown.last, !last.isEmpty {
            self.findings.append(PackageFinding(.modified, file: records.name, "the last line has no end"))
        }
        self.compare(shown.dropLast().map { RecordCheck.Record($0) }, check, file: records.name)
        if self.findings.count > Self.findingsMax { self.findings.removeLast(self.findings.count - Self.findingsMax) }
    }

    private mutating func readLines(_ bytes: [UInt8], file: String) {
        for text in bytes.split(separator: 0x0A, omittingEmptySubsequences: false).dropLast() {
            guard let line = OutlineLine(text) else {
                self.findings.append(
                    PackageFinding(.proofMismatch, file: file, "line \(self.lines.count + 1) is none of an outline")
                )
                self.isWhole = false
                return
            }
            self.lines.append(line)
        }
    }

    private mutating func compare(_ records: [RecordCheck.Record], _ check: RecordCheck, file: String) {
        var next = 0
        var before: OutlineLine?
        var time: Timestamp?
        // Made only when a record is not where it should be.
        var shown: [UInt64: Digest]?
        for line in self.lines {
            defer { before = line }
            guard line.isShown else {
                time = nil
                continue
            }
            let record = next < records.count ? records[next] : nil
            if let record, record.checksum != line.hash, shown == nil {
                let places = self.lines.filter(\.isShown).map { ($0.sequence, $0.hash) }
                // When none is missing, records stand at each other's places.
                shown = places.count > records.count ? Dictionary(places) { first, _ in first } : [:]
            }
            guard let record,
                record.checksum == line.hash || !Self.isLater(record, than: line.sequence, shown ?? [:])
            else {
                self.findings.append(
                    PackageFinding(
                        .missing,
                        sequence: SequenceNumber(line.sequence),
                        file: file,
                        "the record is not there"
                    )
                )
                time = nil
                continue
            }
            next += 1
            guard record.checksum == line.hash else {
                self.differing[line.sequence] = record.checksum
                self.findings.append(check.difference(record, at: line.sequence, file: file))
                time = nil
                continue
            }
            self.matchingCount += 1
            let link = before.map { ChainLink(checksum: $0.hash, time: time) }
            let start = line.sequence == 1 ? ChainLink(checksum: .zero, time: nil) : link
            if let start, before.map({ $0.level == 0 }) ?? true {
                if let finding = check.finding(record, at: line.sequence, after: start, file: file) {
                    self.findings.append(finding)
                }
            } else if let finding = check.finding(record, at: line.sequence, after: nil, file: file) {
                self.findings.append(finding)
            } else if before == nil, let fields = record.fields, let previous = fields.previous {
                self.firstLink = (line.sequence, previous, fields.recordedAt)
            }
            time = record.fields?.recordedAt
            self.lastTime = time
        }
        if next < records.count {
            self.findings.append(
                PackageFinding(.unsigned, file: file, "\(records.count - next) lines are records that no outline shows")
            )
        }
    }

    /// Whether the record belongs behind this place: then the one that belongs here is missing.
    private static func isLater(
        _ record: RecordCheck.Record,
        than sequence: UInt64,
        _ shown: [UInt64: Digest]
    ) -> Bool {
        guard let own = record.fields?.sequence.rawValue, own > sequence else { return false }
        return shown[own] == record.checksum
    }
}

/// Checks a selection: the outline against the signed root, the records against the outline.
struct OutlineCheck {
    private(set) var result = ContentResult()
    /// Ranges of records that are left out, as far as the outline can be read.
    private(set) var hidden: [ClosedRange<UInt64>] = []
    private(set) var shownCount: UInt64 = 0

    init(_ parts: PackageParts, checkpoint: Checkpoint, organization: OrganizationKey, width: Int) async throws {
        let check = RecordCheck(organization: organization)
        let count = parts.manifest.files.count { $0.name.hasPrefix(PackageLayout.outlineFolder) }
        let outlines = try await parallelMap(count: count, width: width) { number in
            try OutlinePart(parts, check, number: number)
        }
        self.join(outlines, checkpoint)
        try self.checkProofs(parts, checkpoint, outlines)
    }

    private mutating func join(_ outlines: [OutlinePart], _ checkpoint: Checkpoint) {
        var signed = SubtreeFold()
        var given = SubtreeFold()
        var isWhole = !outlines.isEmpty
        var last: (line: OutlineLine, time: Timestamp?)?
        for (number, outline) in outlines.enumerated() {
            self.result.findings += outline.findings
            self.result.partFindings += outline.partFindings
            self.result.checkedCount += outline.matchingCount
            isWhole = isWhole && outline.isWhole
            if let first = outline.firstLink, let last {
                self.connect(first, after: last, file: PackageLayout.records(part: number))
            }
            for line in outline.lines {
                guard line.sequence == signed.count + 1, signed.add(line.hash, level: line.level) else {
                    isWhole = false
                    let detail = "record \(line.sequence) follows record \(signed.count)"
                    self.result.findings.append(
                        PackageFinding(.proofMismatch, file: PackageLayout.outline(part: number), detail)
                    )
                    break
                }
                _ = given.add(outline.differing[line.sequence] ?? line.hash, level: line.level)
                self.count(line)
            }
            if let line = outline.lines.last { last = (line, outline.lastTime) }
        }
        self.conclude(outlines, checkpoint, signed: signed, given: given, isWhole: isWhole)
    }

    private mutating func count(_ line: OutlineLine) {
        guard !line.isShown else {
            self.shownCount += 1
            return
        }
        let end = line.sequence + line.count - 1
        if let last = self.hidden.last, last.upperBound + 1 == line.sequence {
            self.hidden[self.hidden.count - 1] = last.lowerBound...end
        } else {
            self.hidden.append(line.sequence...end)
        }
    }

    private mutating func connect(
        _ first: (sequence: UInt64, previous: Digest, time: Timestamp),
        after last: (line: OutlineLine, time: Timestamp?),
        file: String
    ) {
        let place = SequenceNumber(first.sequence)
        if last.line.level != 0 || last.line.hash != first.previous {
            let detail = "previous is not the checksum of record \(first.sequence - 1)"
            self.result.findings.append(PackageFinding(.brokenChain, sequence: place, file: file, detail))
        } else if last.line.isShown, let time = last.time, first.time < time {
            self.result.findings.append(
                PackageFinding(.malformed, sequence: place, file: file, "recorded_at goes back")
            )
        }
    }

    private mutating func conclude(
        _ outlines: [OutlinePart],
        _ checkpoint: Checkpoint,
        signed: SubtreeFold,
        given: SubtreeFold,
        isWhole: Bool
    ) {
        guard isWhole, signed.count == checkpoint.size else {
            self.result.findings.append(
                PackageFinding(.missing, "the outline covers \(signed.count) of \(checkpoint.size) records")
            )
            self.result.checkedCount = 0
            return
        }
        if signed.root == checkpoint.root {
            self.result.leadsToRoot = true
            return
        }
        self.result.checkedCount = 0
        guard given.root == checkpoint.root else {
            self.result.findings.append(
                PackageFinding(.rewritten, "records and outline agree as far as is said, but not with the signed root")
            )
            return
        }
        // The records are those that were signed; what the outline says of some of them is not.
        self.result.findings.removeAll { $0.kind == .modified }
        self.result.leadsToRoot = true
        for (number, outline) in outlines.enumerated() {
            guard let first = outline.differing.keys.min() else { continue }
            self.result.findings.append(
                PackageFinding(
                    .proofMismatch,
                    sequence: SequenceNumber(first),
                    file: PackageLayout.outline(part: number),
                    "the outline names another checksum than the record has, which is the signed one"
                )
            )
        }
    }

    /// The proofs that stand beside the records, for tools of other makers.
    private mutating func checkProofs(
        _ parts: PackageParts,
        _ checkpoint: Checkpoint,
        _ outlines: [OutlinePart]
    ) throws(PackageError) {
        let names = Set(parts.manifest.files.map(\.name).filter { $0.hasPrefix(PackageLayout.proofFolder) })
        guard !names.isEmpty else { return }
        var seen = 0
        for line in outlines.flatMap(\.lines) where line.isShown && names.contains(PackageLayout.proof(line.sequence)) {
            let part = try parts.part(PackageLayout.proof(line.sequence))
            self.result.add(part)
            seen += 1
            guard let bytes = part.bytes else { continue }
            let proof = try? TransparencyProof(parsing: bytes)
            let isRight =
                proof.map {
                    $0.checkpoint.checkpoint == checkpoint && $0.inclusion.index == line.sequence - 1
                        && (try? $0.verifyInclusion(checksum: line.hash)) != nil
                } ?? false
            if !isRight {
                self.result.findings.append(
                    PackageFinding(
                        .proofMismatch,
                        sequence: SequenceNumber(line.sequence),
                        file: part.name,
                        "the proof does not lead from the record to the signed root"
                    )
                )
            }
        }
        if seen < names.count {
            self.result.findings.append(
                PackageFinding(.extraFile, "\(names.count - seen) proofs are of no shown record")
            )
        }
    }
}
