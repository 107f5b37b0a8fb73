package import AuditLedger
internal import Primitives

/// Makes a package, piece by piece, from one replica's ledger.
///
/// A state machine that the caller pulls: at most a bundle of records is held, whatever the ledger's size. Everything is
/// checked on its way out: records that do not hash to the checkpoint's tree end the export before its directory is
/// written, so that what was sent so far is no readable package. Reading blocks; the reader is a snapshot.
package struct PackageExport: Sendable {
    /// Bytes of shown records in one part, at most about.
    static let partBytesMax = 4 << 20
    /// Lines of an outline in one part, at most about.
    static let partLinesMax = 1 << 15
    /// Records that get a proof file of their own.
    package static let proofFilesMax = 1_000
    /// Records of a full package: its tiles must fit the archive.
    package static let recordsMax: UInt64 = 100_000_000

    private enum Step: Sendable {
        case bundles(next: UInt64)
        case tiles(level: Int, next: UInt64)
        case parts(OutlineCursor)
        case proofs(Int)
        case small(Int)
        case manifest
        case done
    }

    private let request: PackageRequest
    private let reader: LedgerReader
    private let tree: TreeHead
    private var zip: ZipWriter
    private var files: [PackageManifest.File] = []
    private var report = ReportPage()
    private var step: Step
    /// Roots of the tiles below, by level, while they are made.
    private var tileHashes: [[Digest]] = [[]]
    private var bundle: [Digest] = []
    private var proven: [UInt64] = []

    /// - Throws: `.refused` when the selection is not possible, `.source`.
    package init(_ request: PackageRequest, reader: LedgerReader) throws(PackageError) {
        let tree = request.checkpoint.checkpoint.head
        self.request = request
        self.reader = reader
        self.tree = tree
        self.zip = ZipWriter(date: request.exportedAt)
        guard tree.size > 0 else { throw PackageError(.refused, "the checkpoint is of an empty ledger") }
        let origin = "\(request.cluster)/\(request.organization)"
        guard request.checkpoint.checkpoint.origin.bytes.elementsEqual(origin.utf8) else {
            throw PackageError(.refused, "the checkpoint is not one of \(origin)")
        }
        if let earlier = request.earlier?.checkpoint {
            guard earlier.origin == request.checkpoint.checkpoint.origin, earlier.size <= tree.size else {
                throw PackageError(.refused, "the earlier checkpoint is not before the checkpoint")
            }
        }
        switch request.selection {
        case .all:
            guard tree.size <= Self.recordsMax else {
                throw PackageError(.refused, "more than \(Self.recordsMax) records: export them by ranges of sequences")
            }
            self.step = .bundles(next: 0)
        case .ranges(let ranges):
            self.step = .parts(try OutlineCursor(ranges: ranges, size: tree.size))
        }
    }

    /// The next bytes of the package; nil at its end.
    ///
    /// - Throws: `.source` when the ledger cannot be read or is not the one that was signed; the export is over.
    package mutating func next() throws(PackageError) -> [UInt8]? {
        do {
            switch self.step {
            case .bundles(let index): return try self.bundle(index)
            case .tiles(let level, let index): return try self.tile(level: level, index: index)
            case .parts(let cursor): return try self.part(cursor)
            case .proofs(let place): return try self.proof(place)
            case .small(let place): return try self.small(place)
            case .manifest: return try self.end()
            case .done: return nil
            }
        } catch let error as PackageError {
            throw error
        } catch {
            throw PackageError(.source, "the ledger cannot be exported", cause: error)
        }
    }

    private mutating func member(_ name: String, _ content: [UInt8]) throws(PackageError) -> [UInt8] {
        guard content.count <= ZipFormat.memberBytesMax, self.files.count < ZipFormat.membersMax - 2 else {
            throw PackageError(.refused, "the package would be too large: export it by ranges of sequences")
        }
        let hash = PackageManifest.hash(content)
        self.files.append(PackageManifest.File(name: name, size: content.count, sha256: hash))
        return self.zip.member(name, content)
    }

    // MARK: All records

    private mutating func bundle(_ index: UInt64) throws -> [UInt8] {
        guard let path = TilePath.bundle(index: index, size: self.tree.size) else {
            self.step = .tiles(level: 0, next: 0)
            return []
        }
        let first = SequenceNumber(index * UInt64(TilePath.fullWidth) + 1)
        let records = try self.reader.records(from: first, limit: path.width, bytesMax: .max)
        guard records.count == path.width else {
            throw PackageError(.source, "records behind \(first) are missing")
        }
        var content: [UInt8] = []
        var tile = MerkleTree()
        for record in records {
            try EntryBundle.append(record.bytes, to: &content)
            let checksum = LedgerHash.leaf(record.bytes)
            self.tileHashes[0].append(checksum)
            tile.push(checksum)
            self.report.add(record.bytes)
        }
        self.step = .bundles(next: index + 1)
        return try self.member(path.text, content)
    }

    private mutating func tile(level: Int, index: UInt64) throws -> [UInt8] {
        guard let path = TilePath.tile(level: UInt8(level), index: index, size: self.tree.size) else {
            try self.finishLevel(level)
            return []
        }
        let start = Int(index) * TilePath.fullWidth
        let hashes = self.tileHashes[level][start..<start + path.width]
        var content: [UInt8] = []
        content.reserveCapacity(path.width * Digest.byteCount)
        var tile = MerkleTree()
        for hash in hashes {
            hash.append(to: &content)
            tile.push(hash)
        }
        if path.isFull {
            if self.tileHashes.count == level + 1 { self.tileHashes.append([]) }
            self.tileHashes[level + 1].append(tile.root)
        }
        self.step = .tiles(level: level, next: index + 1)
        return try self.member(path.text, content)
    }

    private mutating func finishLevel(_ level: Int) throws {
        if level + 1 < self.tileHashes.count {
            self.step = .tiles(level: level + 1, next: 0)
            return
        }
        var fold = SubtreeFold()
        for level in stride(from: self.tileHashes.count - 1, through: 0, by: -1) {
            // Behind the full tiles of a level; the level above stands for those.
            let whole = self.tileHashes[level].count / TilePath.fullWidth * TilePath.fullWidth
            for hash in self.tileHashes[level][whole...] { _ = fold.add(hash, level: UInt8(8 * level)) }
        }
        try self.check(fold)
        self.tileHashes = []
        self.step = .small(0)
    }

    /// Nothing leaves that is not what was signed.
    private func check(_ fold: SubtreeFold) throws(PackageError) {
        guard fold.count == self.tree.size, fold.root == self.tree.root else {
            throw PackageError(.source, "the records of this replica are not those of the checkpoint")
        }
    }

    // MARK: Some records

    private mutating func part(_ start: OutlineCursor) throws -> [UInt8] {
        var cursor = start
        let number = cursor.partCount
        guard !cursor.isAtEnd else {
            try self.check(cursor.fold)
            self.step = .proofs(0)
            return []
        }
        var outline: [UInt8] = []
        var shown: [UInt8] = []
        var lines = 0
        while !cursor.isAtEnd, shown.count < Self.partBytesMax, lines < Self.partLinesMax {
            for line in try cursor.next(self.reader, shown: &shown, report: &self.report) {
                line.append(to: &outline)
                lines += 1
                if line.isShown, self.proven.count < Self.proofFilesMax { self.proven.append(line.sequence) }
            }
        }
        cursor.partCount += 1
        self.step = .parts(cursor)
        return try self.member(PackageLayout.records(part: number), shown)
            + self.member(PackageLayout.outline(part: number), outline)
    }

    private mutating func proof(_ place: Int) throws -> [UInt8] {
        guard place < self.proven.count else {
            self.step = .small(0)
            return []
        }
        let sequence = self.proven[place]
        let inclusion = try InclusionProof.build(index: sequence - 1, size: self.tree.size, from: self.reader)
        let proof = try TransparencyProof(inclusion: inclusion, checkpoint: self.request.checkpoint)
        self.step = .proofs(place + 1)
        return try self.member(PackageLayout.proof(sequence), proof.encoded)
    }

    // MARK: What stands beside the records

    private mutating func small(_ place: Int) throws -> [UInt8] {
        let manifest = try self.manifest()
        self.step = .small(place + 1)
        switch place {
        case 0: return try self.member(PackageLayout.checkpoint, self.request.checkpoint.encoded)
        case 1:
            guard let earlier = self.request.earlier else { return [] }
            let proof = try ConsistencyProof.build(
                from: earlier.checkpoint.size,
                to: self.tree.size,
                nodes: self.reader
            )
            return try self.member(PackageLayout.earlierCheckpoint, earlier.encoded)
                + self.member(PackageLayout.consistency, proof.encoded)
        case 2: return try self.member(PackageLayout.policy, self.request.policy.encoded)
        case 3:
            let origin = self.request.checkpoint.checkpoint.origin
            let bounded = try self.request.keys.map {
                try $0.bounded(by: self.reader, origin: origin, size: self.tree.size)
            }
            var bytes = try self.member(PackageLayout.keys, PackageKey.encode(bounded))
            for key in self.request.keys { bytes += try self.member(key.fileName, key.key.text + [0x0A]) }
            return bytes
        case 4: return try self.supplement()
        case 5:
            let page = self.report.page(
                manifest,
                checkpoint: self.request.checkpoint,
                policy: self.request.policy
            )
            return try self.member(PackageLayout.report, page)
        default:
            self.step = .manifest
            return try self.member(PackageLayout.instructions, InstructionText.text(manifest))
        }
    }

    private mutating func supplement() throws -> [UInt8] {
        let supplement = self.request.supplement
        var bytes: [UInt8] = []
        var openings: [UInt8] = []
        for opening in supplement.openings.prefix(PackageSupplement.openingsMax) {
            guard let line = opening.line else { throw PackageError(.source, "a personal value is no JSON") }
            openings += line + [0x0A]
        }
        if !openings.isEmpty { bytes += try self.member(PackageLayout.openings, openings) }
        var erasures: [UInt8] = []
        for sequence in supplement.erasures.prefix(PackageSupplement.erasuresMax)
        where (1...self.tree.size).contains(sequence) {
            guard let record = try self.reader.record(at: SequenceNumber(sequence)) else {
                throw PackageError(.source, "record \(sequence) is missing")
            }
            let inclusion = try InclusionProof.build(index: sequence - 1, size: self.tree.size, from: self.reader)
            let proof = try TransparencyProof(inclusion: inclusion, checkpoint: self.request.checkpoint)
            erasures += ErasureLine(record: record, proof: proof.encoded).line + [0x0A]
        }
        if !erasures.isEmpty { bytes += try self.member(PackageLayout.erasures, erasures) }
        for (number, note) in supplement.scrubs.prefix(PackageSupplement.scrubsMax).enumerated() {
            bytes += try self.member(PackageLayout.scrub(number), note)
        }
        for (number, proof) in supplement.forks.prefix(PackageSupplement.forksMax).enumerated() {
            bytes += try self.member(PackageLayout.fork(number), proof)
        }
        return bytes
    }

    private mutating func end() throws -> [UInt8] {
        let manifest = try self.manifest().encoded
        var bytes = self.zip.member(PackageLayout.manifest, manifest)
        if let key = self.request.manifestSigner {
            bytes += self.zip.member(
                PackageLayout.manifestSignature,
                try ManifestNote.sign(manifest: manifest, key: key)
            )
        }
        self.step = .done
        return bytes + self.zip.finish()
    }

    private func manifest() throws -> PackageManifest {
        var by = [
            JSONMember("id", .text(self.request.exportedBy.id)),
            JSONMember("kind", .text(self.request.exportedBy.kind.rawValue)),
        ]
        if let name = self.request.exportedBy.name { by.append(JSONMember("name", .text(name))) }
        if let role = self.request.exportedBy.role { by.append(JSONMember("role", .text(role))) }
        let kind: PackageManifest.Kind
        if case .all = self.request.selection { kind = .full } else { kind = .selection }
        return PackageManifest(
            kind: kind,
            origin: self.request.checkpoint.checkpoint.origin,
            cluster: self.request.cluster,
            organization: self.request.organization,
            tree: self.tree,
            records: (
                self.request.range?.lowerBound ?? 1, self.request.range?.upperBound ?? self.tree.size,
                self.report.recordCount
            ),
            filters: self.request.filters,
            exported: (.object(by), self.request.exportedAt, self.request.node, self.request.record),
            policyHash: PackageManifest.hash(self.request.policy.encoded),
            files: self.files
        )
    }
}
