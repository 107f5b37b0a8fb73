package import AuditLedger
package import Primitives

/// A package's history as one side of a ``MerkleDescent``.
///
/// The tree is that of the records as they stand in the package, hashed anew: tiles and what the outline says of shown
/// records are not believed. A full package knows every node; a selection knows those of shown records and of the
/// subtrees that its outline names, and nothing below them. Safe to use from any thread; answering reads the package and
/// may block.
package struct PackageTree: TreeSide, Sendable {
    /// Where a package ends before its checkpoint does.
    package struct Lack: Sendable, Hashable {
        /// The first record that is not there or cannot be read.
        package let sequence: SequenceNumber
        /// The part where it should be.
        package let file: String
    }

    package let organization: OrganizationKey
    package let kind: PackageManifest.Kind
    package let checkpoint: SignedCheckpoint
    /// The older checkpoint that the package brings; nil when it brings none that can be read.
    package let earlier: SignedCheckpoint?
    /// How much of the package is missing; nil when nothing is.
    package let lack: Lack?
    private let content: any PackageHistory

    /// Reads all records of the package once; blocks.
    ///
    /// - Throws: ``PackageError`` when there is nothing that could be compared.
    package init(_ bytes: any PackageBytes) throws(PackageError) {
        let parts = try PackageParts(bytes)
        guard let note = try parts.part(PackageLayout.checkpoint).bytes else {
            throw PackageError(.missingPart, "the package has no \(PackageLayout.checkpoint)")
        }
        do {
            self.checkpoint = try SignedCheckpoint(parsing: note)
        } catch {
            throw PackageError(.malformed, "the checkpoint cannot be read", cause: error)
        }
        let checkpoint = self.checkpoint.checkpoint
        let name = checkpoint.origin.bytes.split(separator: UInt8(ascii: "/")).last ?? []
        guard let organization = OrganizationKey(String(decoding: name, as: UTF8.self)) else {
            throw PackageError(.malformed, "the checkpoint's origin names no organization")
        }
        self.organization = organization
        self.kind = parts.manifest.kind
        let earlier = try parts.part(PackageLayout.earlierCheckpoint).bytes.flatMap {
            try? SignedCheckpoint(parsing: $0)
        }
        self.earlier = earlier.flatMap { $0.checkpoint.origin == checkpoint.origin ? $0 : nil }
        switch self.kind {
        case .full:
            guard checkpoint.size <= PackageExport.recordsMax else {
                throw PackageError(.tooLarge, "the checkpoint is of \(checkpoint.size) records")
            }
            self.content = try FullHistory(parts, size: checkpoint.size)
        case .selection: self.content = try OutlineHistory(parts, size: checkpoint.size)
        }
        self.lack = self.content.lack
    }

    /// Records, from the first one on, that the package's tree is over.
    package var size: UInt64 { self.content.size }

    /// The root over the first records.
    /// - Returns: nil when the package does not tell, or ends before.
    package func root(at size: UInt64) -> Digest? {
        guard size <= self.size, let peaks = try? self.nodes(MerkleTree.peaks(size: size)) else { return nil }
        return MerkleTree.root(ofPeaks: peaks)
    }

    /// The signed checkpoints of the package, and others, as evidence: those that fulfil what the auditor demands count as
    /// signed by a quorum.
    ///
    /// - Parameters:
    ///   - others: Checkpoints that do not come from the package; those of other logs are left out.
    ///   - trust: Keys or a policy from elsewhere than the package.
    /// - Throws: ``PackageError`` `.malformed` when the keys make no policy, `.refused` when there are none.
    package func evidence(
        others: [SignedCheckpoint],
        trust: PackageTrust
    ) throws(PackageError) -> [DescentCheckpoint] {
        let resolved: (verifier: CheckpointVerifier, source: PackageTrust.Source)?
        do {
            resolved = try trust.resolve(for: self.checkpoint, packagePolicy: nil, packageKeys: [])
        } catch {
            throw PackageError(.malformed, "the keys make no policy", cause: error)
        }
        guard let verifier = resolved?.verifier else {
            throw PackageError(.refused, "without keys nobody's signature counts")
        }
        let origin = self.checkpoint.checkpoint.origin
        return ([self.checkpoint, self.earlier].compactMap { $0 } + others).filter { $0.checkpoint.origin == origin }
            .map { signed in
                DescentCheckpoint(
                    size: signed.checkpoint.size,
                    root: signed.checkpoint.root,
                    isQuorumSigned: verifier.verify(signed, nowSeconds: trust.nowSeconds).isTrusted
                )
            }
    }

    /// Whether the package can show its tree at a size; a selection can at its whole size only, for certain.
    package func knows(size: UInt64) -> Bool { self.kind == .full || size >= self.size }

    package func answer(_ question: DescentQuestion) throws(LedgerError) -> DescentAnswer {
        do {
            switch question {
            case .head:
                return .head(size: self.size, peaks: try self.nodes(MerkleTree.peaks(size: self.size)))
            case .bounds(let size, let whole):
                guard size <= whole, whole <= self.size else { return Self.beyond }
                return .digests(try self.nodes(MerkleTree.peaks(size: size) + MerkleTree.cover(from: size, to: whole)))
            case .descendants(let position):
                guard position.level < 63, position.lastSequence.rawValue <= self.size else { return Self.beyond }
                let cover = try self.content.cover(position, down: position.rowBelow.first.level)
                // A whole row is answered as every other side answers it.
                return cover.count == position.rowBelow.count ? .digests(cover.map(\.digest)) : .cover(cover)
            case .contents(let first, let records, let blockRecords):
                return try self.contents(first, records: records, blockRecords: blockRecords)
            case .record(let sequence):
                guard sequence.rawValue >= 1, sequence.rawValue <= self.size else { return .record(nil) }
                return try self.content.record(sequence).map { .record($0) } ?? .withheld
            }
        } catch let error as PackageError {
            return .unavailable(errorChain(error))
        } catch is Withheld {
            return .withheld
        } catch {
            throw LedgerError(code: .storage, message: "the package cannot be read", cause: error)
        }
    }

    private static let beyond = DescentAnswer.unavailable("the package's tree has no such node")

    private func nodes(_ positions: [TreePosition]) throws -> [Digest] {
        try positions.map { position in
            let cover = try self.content.cover(position, down: position.level)
            guard cover.count == 1, cover[0].position == position else { throw Withheld() }
            return cover[0].digest
        }
    }

    private func contents(_ first: SequenceNumber, records: UInt64, blockRecords: UInt64) throws -> DescentAnswer {
        guard first.rawValue >= 1, blockRecords >= 1, blockRecords <= DescentContents.blockRecordsMax, records >= 1,
            records <= DescentContents.blockRecordsMax * DescentContents.blockRecordsMax, records <= self.size,
            first.rawValue - 1 <= self.size - records
        else { return Self.beyond }
        var blocks: [Digest] = []
        var block: [Digest] = []
        for sequence in first.rawValue..<first.rawValue + records {
            guard let record = try self.content.record(SequenceNumber(sequence)) else { return .withheld }
            block.append(DescentContents.digest(record))
            guard UInt64(block.count) == blockRecords else { continue }
            blocks.append(DescentContents.block(block))
            block.removeAll(keepingCapacity: true)
        }
        if !block.isEmpty { blocks.append(DescentContents.block(block)) }
        return .digests(blocks)
    }
}

/// A selection does not hold what is asked for.
struct Withheld: Error {}

/// What the records of a package make, whatever the form of the package.
protocol PackageHistory: Sendable {
    /// Records that the tree is over.
    var size: UInt64 { get }
    var lack: PackageTree.Lack? { get }
    /// The nodes under a node at a lower level, or higher ones where nothing is known below; the node itself when nothing
    /// is known below it.
    /// - Throws: ``Withheld`` when a higher node is all that is known; ``PackageError``.
    func cover(_ position: TreePosition, down level: UInt8) throws -> [DescentNode]
    /// The bytes of a record of the tree; nil when they are not shown.
    /// - Throws: ``PackageError``.
    func record(_ sequence: SequenceNumber) throws -> [UInt8]?
}
