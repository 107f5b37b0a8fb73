package import Primitives
package import Storage

/// Re-reads one replica of an organization's ledger and recomputes everything from the records' bytes.
///
/// What is read is every key of the organization, never only as many as the head or any other stored number says.
package struct LedgerVerifier {
    /// Records that are looked at one by one before more are read.
    private static let chunkRecordsMax = 16_384
    private static let chunkBytesMax = 8 << 20
    /// Bytes that the store reads at once: what a part does not need of them is read again for the next one, and what stays
    /// in the core's cache is copied faster.
    static let readAheadBytes = 128 << 10

    let reader: LedgerReader
    let organizationText: [UInt8]
    let lanes: VerificationLanes
    var tree = MerkleTree()
    var lastChecksum = Digest.zero
    var lastRecordedAt: Timestamp?
    var bytesRead = UInt64(0)
    private(set) var bytesMax = UInt64.max

    private init(reader: LedgerReader, key: OrganizationKey, lanes: VerificationLanes) {
        self.reader = reader
        self.lanes = lanes
        var text: [UInt8] = []
        JSONText.appendQuoted(Array(key.rawValue.utf8), to: &text)
        self.organizationText = text
    }

    /// Verifies one replica.
    ///
    /// Reads the whole ledger and blocks while it does.
    /// - Parameters:
    ///   - store: A snapshot, so that appends meanwhile do not look like damage.
    ///   - key: The name that every record must carry.
    ///   - lanes: Who does the work; the result is the same.
    ///   - progress: Gets the number of records verified so far, and the bytes of them; false stops.
    /// - Throws: `.cancelled`, or `.storage` when the store fails in another way than by corruption.
    package static func verify(
        store: any KeyValueReader,
        organization: OrganizationID,
        key: OrganizationKey,
        lanes: VerificationLanes = .one,
        progress: (_ recordsVerified: UInt64, _ bytesRead: UInt64) -> Bool = { _, _ in true }
    ) throws(LedgerError) -> ReplicaVerification {
        let reader = LedgerReader(store: store, organization: organization)
        var verifier = LedgerVerifier(reader: reader, key: key, lanes: lanes)
        let finding = try verifier.run(progress).finding
        return ReplicaVerification(
            organization: organization,
            size: verifier.tree.size,
            root: verifier.tree.root,
            lastChecksum: verifier.lastChecksum,
            bytesRead: verifier.bytesRead,
            finding: finding
        )
    }

    /// Verifies a part of a replica, for whoever wants to rest between parts.
    ///
    /// - Parameters:
    ///   - store: A snapshot; another one each time.
    ///   - start: Where the part before ended; nil for the beginning. What was read then is not read again.
    ///   - bytesMax: Bytes of records after which the part ends, at the end of a chunk of up to 8 MiB.
    /// - Throws: As ``verify(store:organization:key:lanes:progress:)``.
    package static func verifyPart(
        store: any KeyValueReader,
        organization: OrganizationID,
        key: OrganizationKey,
        from start: LedgerHead?,
        bytesMax: UInt64
    ) throws(LedgerError) -> LedgerPart {
        let reader = LedgerReader(store: store, organization: organization)
        var verifier = LedgerVerifier(reader: reader, key: key, lanes: .one)
        if let start {
            verifier.tree = start.tree
            verifier.lastChecksum = start.lastChecksum
            verifier.lastRecordedAt = start.lastRecordedAt
        }
        verifier.bytesMax = bytesMax
        let (finding, isWhole) = try verifier.run { _, _ in true }
        var head = LedgerHead(empty: organization)
        head.tree = verifier.tree
        head.lastChecksum = verifier.lastChecksum
        head.lastRecordedAt = verifier.lastRecordedAt
        return LedgerPart(head: head, bytesRead: verifier.bytesRead, finding: finding, isLast: isWhole)
    }

    /// The sequence that should come next.
    private var expected: SequenceNumber { SequenceNumber(self.tree.size + 1) }

    /// - Returns: The first bad place, and whether the end was reached.
    private mutating func run(
        _ progress: (UInt64, UInt64) -> Bool
    ) throws(LedgerError) -> (finding: LedgerFinding?, isWhole: Bool) {
        // A head that cannot be read is a finding, but records before it come first.
        var head: LedgerHead?
        do {
            head = try self.reader.head()
        } catch {
            guard error.code == .damaged else { throw error }
        }
        // Where what is not sound was found, all is looked at one by one.
        var slowBefore = self.expected
        while true {
            var isLast: Bool
            if self.expected >= slowBefore {
                switch self.checkStretch(head: head) {
                case .sound(let isEnd): isLast = isEnd
                case .unsound(let before):
                    slowBefore = before
                    isLast = false
                }
            } else {
                let chunk = try Self.readChunk(first: self.expected, reader: self.reader, head: head)
                self.bytesRead += UInt64(chunk.sizeBytes)
                if let finding = try self.check(chunk, head: head) { return (finding, false) }
                if let finding = chunk.finding { return (finding, false) }
                isLast = chunk.isLast
            }
            guard progress(self.tree.size, self.bytesRead) else {
                throw LedgerError(
                    code: .cancelled,
                    message: "verification of organization \(self.reader.organization) was stopped"
                )
            }
            if isLast { break }
            guard self.bytesRead < self.bytesMax else { return (nil, false) }
        }
        if let finding = try self.checkNodesBeyondEnd() { return (finding, true) }
        return (self.checkHead(head), true)
    }

    // MARK: Reading

    /// The records from `first` on, as many as one chunk holds.
    private static func readChunk(
        first: SequenceNumber,
        reader: LedgerReader,
        head: LedgerHead?
    ) throws(LedgerError) -> RecordChunk {
        var chunk = RecordChunk(first: first)
        var strangeKey: SequenceNumber?
        var hasStrangeKey = false
        // The first chunk begins at the organization's first possible key, so that a record 0 is seen.
        let prefix = LedgerKeys.head(reader.organization)
        let lower = first.rawValue == 1 ? prefix : LedgerKeys.record(reader.organization, first)
        var failure: StorageError?
        chunk.isLast = true
        do {
            try reader.store.sweep(
                .records,
                from: lower,
                to: keyAfter(prefix: prefix),
                readAheadBytes: Self.readAheadBytes
            ) { key, value in
                let found = LedgerKeys.sequence(ofRecordKey: key)
                guard found == chunk.nextSequence else {
                    strangeKey = found
                    hasStrangeKey = true
                    return false
                }
                chunk.append(value.withUnsafeBytes { [UInt8]($0) })
                if chunk.count < Self.chunkRecordsMax, chunk.sizeBytes < Self.chunkBytesMax { return true }
                chunk.isLast = false
                return false
            }
        } catch {
            failure = error
        }
        if let failure {
            let detail = "the store cannot read the record"
            chunk.finding = try Self.unreadable(failure, chunk.nextSequence, detail, reader)
        } else if hasStrangeKey {
            chunk.finding = try Self.strange(strangeKey, expected: chunk.nextSequence, head: head, reader)
        }
        return chunk
    }

    private static func unreadable(
        _ error: StorageError,
        _ sequence: SequenceNumber,
        _ detail: String,
        _ reader: LedgerReader
    ) throws(LedgerError) -> LedgerFinding {
        guard error.code == .corruption else {
            throw LedgerError(
                code: .storage,
                message: "verifying organization \(reader.organization) at record \(sequence)",
                cause: error
            )
        }
        return LedgerFinding(sequence: sequence, kind: .unreadable, detail: detail)
    }

    /// A key that does not follow the one before it.
    private static func strange(
        _ found: SequenceNumber?,
        expected: SequenceNumber,
        head: LedgerHead?,
        _ reader: LedgerReader
    ) throws(LedgerError) -> LedgerFinding {
        guard let found, found > expected else {
            return LedgerFinding(
                sequence: expected,
                kind: .extraRecord,
                detail: "a key stands here that is not that of a record"
            )
        }
        // A leaf that is there says that the absent record was appended, whatever the head says.
        if let head, expected.rawValue > head.size, try !Self.hasLeaf(of: expected, reader) {
            return LedgerFinding(
                sequence: found,
                kind: .extraRecord,
                detail: "a record stands beyond the head and a gap"
            )
        }
        return LedgerFinding(
            sequence: expected,
            kind: .missing,
            detail: "records \(expected) to \(found.rawValue - 1) are absent, record \(found) is there"
        )
    }

    private static func hasLeaf(of sequence: SequenceNumber, _ reader: LedgerReader) throws(LedgerError) -> Bool {
        do {
            return try reader.storedNode(at: TreePosition(level: 0, index: sequence.rawValue - 1)) != nil
        } catch {
            guard error.code == .damaged else { throw error }
            return true
        }
    }

    // MARK: Records

    /// Looks at records one by one, to name what is wrong with the first bad one.
    private mutating func check(_ chunk: RecordChunk, head: LedgerHead?) throws(LedgerError) -> LedgerFinding? {
        guard chunk.count > 0 else { return nil }
        let start = self.tree.size
        let nodes = try StoredNodes(reader: self.reader, from: start, to: start + UInt64(chunk.count))
        for (place, bytes) in chunk.records.enumerated() {
            let following = place + 1 < chunk.count ? chunk.records[place + 1] : nil
            if let finding = try self.check(bytes, following: following, nodes: nodes, head: head) { return finding }
        }
        return nil
    }

    private mutating func check(
        _ bytes: [UInt8],
        following: [UInt8]?,
        nodes: StoredNodes,
        head: LedgerHead?
    ) throws(LedgerError) -> LedgerFinding? {
        let sequence = self.expected
        let checksum = LedgerHash.leaf(bytes)
        let leaf = TreePosition(level: 0, index: sequence.rawValue - 1)
        let stored = nodes.take(leaf)
        let fields = try? RecordFields(scanning: bytes)
        if stored != .digest(checksum) {
            return try self.explain(bytes, fields, checksum, stored, following: following, head: head)
        }
        guard let fields else {
            return LedgerFinding(sequence: sequence, kind: .malformed, detail: "the bytes are not those of a record")
        }
        guard fields.sequence == sequence else {
            return LedgerFinding(
                sequence: sequence,
                kind: .reordered,
                detail: "the record that stands here says that it is record \(fields.sequence)"
            )
        }
        guard fields.json(.organization)?.elementsEqual(self.organizationText) == true else {
            return LedgerFinding(
                sequence: sequence,
                kind: .malformed,
                detail: "the record is of another organization"
            )
        }
        guard fields.previous == self.lastChecksum else {
            return LedgerFinding(
                sequence: sequence,
                kind: .brokenChain,
                detail: sequence.rawValue == 1
                    ? "the first record does not begin the chain"
                    : "previous is not the checksum of record \(sequence.rawValue - 1)"
            )
        }
        if let last = self.lastRecordedAt, fields.recordedAt < last {
            return LedgerFinding(sequence: sequence, kind: .malformed, detail: "recorded_at goes back")
        }
        var finding: LedgerFinding?
        self.tree.push(checksum) { position, digest in
            guard position.level > 0, finding == nil else { return }
            finding = Self.compare(nodes.take(position), with: digest, at: position)
        }
        self.lastChecksum = checksum
        self.lastRecordedAt = fields.recordedAt
        return finding
    }

    private static func compare(
        _ stored: StoredNodes.Node,
        with digest: Digest,
        at position: TreePosition
    ) -> LedgerFinding? {
        if case .digest(let found) = stored, found == digest { return nil }
        let place = "tree node \(position.level)/\(position.index)"
        let key = "tree_nodes/\(position.level)/\(position.index)"
        let range = "records \(position.firstSequence) to \(position.lastSequence)"
        switch stored {
        case .digest:
            return LedgerFinding(
                sequence: position.lastSequence,
                kind: .treeNodeMismatch,
                detail: "\(place) is not the hash over \(range)",
                place: key
            )
        case .absent:
            return LedgerFinding(
                sequence: position.lastSequence,
                kind: .treeNodeMismatch,
                detail: "\(place) over \(range) is absent",
                place: key
            )
        case .unreadable:
            return LedgerFinding(
                sequence: position.lastSequence,
                kind: .unreadable,
                detail: "the store cannot read \(place) over \(range)",
                place: key
            )
        }
    }

    /// Why a record's hash is not the leaf that is stored.
    private func explain(
        _ bytes: [UInt8],
        _ fields: RecordFields?,
        _ checksum: Digest,
        _ stored: StoredNodes.Node,
        following: [UInt8]?,
        head: LedgerHead?
    ) throws(LedgerError) -> LedgerFinding {
        let sequence = self.expected
        if stored == .unreadable {
            return LedgerFinding(
                sequence: sequence,
                kind: .unreadable,
                detail: "the store cannot read tree node 0/\(sequence.rawValue - 1)",
                place: "tree_nodes/0/\(sequence.rawValue - 1)"
            )
        }
        if let head, sequence.rawValue > head.size, stored == .absent {
            return LedgerFinding(
                sequence: sequence,
                kind: .extraRecord,
                detail: "the record stands beyond the head, which names \(head.size) records, and has no leaf"
            )
        }
        if let fields, fields.sequence != sequence {
            return LedgerFinding(
                sequence: sequence,
                kind: .reordered,
                detail: "the record that stands here says that it is record \(fields.sequence)"
            )
        }
        // The chain vouches for the record: then it is the leaf that is wrong.
        if let fields, fields.previous == self.lastChecksum,
            try self.isVouched(checksum, after: sequence, following: following, head: head)
        {
            return LedgerFinding(
                sequence: sequence,
                kind: .treeNodeMismatch,
                detail: stored == .absent
                    ? "the leaf of the record is absent"
                    : "the leaf is not the checksum of the record, which the chain confirms",
                place: "tree_nodes/0/\(sequence.rawValue - 1)"
            )
        }
        return LedgerFinding(
            sequence: sequence,
            kind: .modified,
            detail: "the record's bytes are not those that were hashed when it was appended"
        )
    }

    /// Whether the record after, or the head, names `checksum`.
    private func isVouched(
        _ checksum: Digest,
        after sequence: SequenceNumber,
        following: [UInt8]?,
        head: LedgerHead?
    ) throws(LedgerError) -> Bool {
        if let head, head.size == sequence.rawValue { return head.lastChecksum == checksum }
        let next: [UInt8]?
        if let following {
            next = following
        } else {
            do {
                next = try self.reader.record(at: sequence.next)
            } catch {
                guard error.code == .damaged else { throw error }
                next = nil
            }
        }
        guard let next, let fields = try? RecordFields(scanning: next) else { return false }
        return fields.previous == checksum
    }

    // MARK: End and head

    /// Tree nodes that no record accounts for.
    private func checkNodesBeyondEnd() throws(LedgerError) -> LedgerFinding? {
        let size = self.tree.size
        let organization = self.reader.organization
        var finding: LedgerFinding?
        // Before the first leaf, then after the last node of each level.
        var lower = LedgerKeys.head(organization)
        if let finding = try self.checkRunsBeyondEnd() { return finding }
        for level in UInt8(0)...65 {
            let upper =
                level < 65
                ? LedgerKeys.node(organization, TreePosition(level: level, index: 0))
                : keyAfter(prefix: LedgerKeys.head(organization))
            defer {
                let index = MerkleTree.nodeCount(level: level, size: size)
                lower = LedgerKeys.node(organization, TreePosition(level: level, index: index))
            }
            do {
                try self.reader.store.scan(.treeNodes, from: lower, to: upper) { key, _ in
                    finding = self.beyondEnd(LedgerKeys.position(ofNodeKey: key))
                    return false
                }
            } catch {
                finding = try Self.unreadable(
                    error,
                    self.expected,
                    "the store cannot read the tree nodes",
                    self.reader
                )
            }
            if finding != nil { break }
        }
        return finding
    }

    /// Rows that begin among the nodes of a level and go on beyond them.
    private func checkRunsBeyondEnd() throws(LedgerError) -> LedgerFinding? {
        for level in UInt8(0)..<64 {
            let count = MerkleTree.nodeCount(level: level, size: self.tree.size)
            guard count > 0 else { return nil }
            do throws(LedgerError) {
                guard let run = try self.reader.run(at: TreePosition(level: level, index: count - 1)),
                    let size = LedgerHash.digestCount(stored: run.bytes), size > count - run.first
                else { continue }
                return self.beyondEnd(TreePosition(level: level, index: count))
            } catch {
                guard error.code == .damaged else { throw error }
                let detail = "the store cannot read the tree nodes"
                return LedgerFinding(sequence: self.expected, kind: .unreadable, detail: detail, place: "tree_nodes")
            }
        }
        return nil
    }

    private func beyondEnd(_ position: TreePosition?) -> LedgerFinding {
        if let position, position.level == 0 {
            return LedgerFinding(
                sequence: self.expected,
                kind: .truncated,
                detail: "the tree has a leaf of record \(position.index &+ 1), the last record is \(self.tree.size)"
            )
        }
        return LedgerFinding(
            sequence: SequenceNumber(self.tree.size),
            kind: .treeNodeMismatch,
            detail: "a tree node stands where none of \(self.tree.size) records makes one",
            place: position.map { "tree_nodes/\($0.level)/\($0.index)" } ?? "tree_nodes"
        )
    }

    private func checkHead(_ head: LedgerHead?) -> LedgerFinding? {
        let size = self.tree.size
        let last = SequenceNumber(size)
        guard let head else {
            return LedgerFinding(sequence: last, kind: .headMismatch, detail: "the head cannot be read")
        }
        if head.size > size, head.lastChecksum != self.lastChecksum {
            return LedgerFinding(
                sequence: self.expected,
                kind: .truncated,
                detail: "the head names \(head.size) records, \(size) are there"
            )
        }
        let wrong: String
        if head.size != size {
            wrong = "the head names \(head.size) records, \(size) sound ones are there"
        } else if head.lastChecksum != self.lastChecksum {
            wrong = "the head's last checksum is not that of record \(last)"
        } else if head.lastRecordedAt != self.lastRecordedAt {
            wrong = "the head's last time is not that of record \(last)"
        } else if head.tree != self.tree {
            wrong = "the head's tree is not that of the records"
        } else {
            return nil
        }
        return LedgerFinding(sequence: last, kind: .headMismatch, detail: wrong)
    }
}

/// The stored tree nodes that the appends of some records wrote, read level by level.
private struct StoredNodes {
    enum Node: Equatable {
        case digest(Digest)
        case absent
        case unreadable
    }

    /// The nodes of one level, by index from ``first`` on.
    private struct Level {
        var first: UInt64
        var nodes: [Node]
    }

    private var levels: [Level] = []

    /// Reads the nodes that completing the leaves `from..<to` wrote.
    init(reader: LedgerReader, from: UInt64, to: UInt64) throws(LedgerError) {
        for level in UInt8(0)..<64 {
            let first = MerkleTree.nodeCount(level: level, size: from)
            let end = MerkleTree.nodeCount(level: level, size: to)
            guard end > first else { break }
            var nodes = [Node](repeating: .absent, count: Int(end - first))
            var isDamaged = false
            var seen = 0
            var strange: Int?
            do {
                // The row that holds the first node may begin before it.
                var start = first
                if first > 0, let run = try reader.run(at: TreePosition(level: level, index: first)) {
                    start = run.first
                }
                try reader.store.scan(
                    .treeNodes,
                    from: LedgerKeys.node(reader.organization, TreePosition(level: level, index: start)),
                    to: LedgerKeys.node(reader.organization, TreePosition(level: level, index: end))
                ) { key, value in
                    guard let position = LedgerKeys.position(ofNodeKey: key) else {
                        strange = min(seen, nodes.count - 1)
                        return true
                    }
                    guard let count = LedgerHash.digestCount(stored: value) else {
                        seen = Int(max(position.index, first) - first)
                        nodes[seen] = .digest(.zero)
                        seen += 1
                        return true
                    }
                    for index in max(
                        position.index,
                        first
                    )..<max(min(position.index + count, end), position.index, first) {
                        let place = Int(index - first)
                        let digest = LedgerHash.digest(stored: value, at: Int(index - position.index))
                        // Two rows that hold the same node: no append wrote the second.
                        nodes[place] = nodes[place] == .absent ? .digest(digest) : .digest(.zero)
                        seen = place + 1
                    }
                    return true
                }
            } catch let error as LedgerError {
                guard error.code == .damaged else { throw error }
                isDamaged = true
            } catch let error as StorageError {
                guard error.code == .corruption else {
                    throw LedgerError(
                        code: .storage,
                        message: "verifying tree nodes of organization \(reader.organization)",
                        cause: error
                    )
                }
                isDamaged = true
            } catch {
                throw LedgerError(code: .storage, message: "verifying tree nodes", cause: error)
            }
            // A key that no append wrote makes the node beside it a wrong one.
            if let strange { nodes[strange] = .digest(.zero) }
            if isDamaged { for place in seen..<nodes.count { nodes[place] = .unreadable } }
            self.levels.append(Level(first: first, nodes: nodes))
        }
    }

    func take(_ position: TreePosition) -> Node {
        guard Int(position.level) < self.levels.count else { return .absent }
        let place = Int(position.index - self.levels[Int(position.level)].first)
        guard place < self.levels[Int(position.level)].nodes.count else { return .absent }
        return self.levels[Int(position.level)].nodes[place]
    }
}
