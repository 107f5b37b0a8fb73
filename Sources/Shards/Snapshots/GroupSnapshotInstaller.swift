internal import AuditLedger
package import Consensus
package import Primitives
internal import Storage
internal import Synchronization

/// How far an installation is.
package struct SnapshotProgress: Sendable, Equatable {
    /// Records taken and checked.
    package var records: UInt64 = 0
    /// Records that the snapshot brings; zero until its manifest has come.
    package var recordsTotal: UInt64 = 0
    /// Bytes of all chunks taken.
    package var bytes: UInt64 = 0

    package init() {}
}

/// Takes a group's snapshot, checks every record of it, and makes it this node's state in one batch.
///
/// Records, tree nodes and answers are written ahead of the ledgers' heads as they come, where nobody looks; how far
/// they go is remembered with them, so that a next try asks only for the rest (``request``). The order of calls:
/// ``accept(_:)`` for each chunk, ``seal()``, both on a thread that may block; then ``switchState()`` on the group's
/// lane. Any error ends the installer; the replica is then as it was before.
package final class GroupSnapshotInstaller: Sendable {
    private enum Phase {
        case begin
        case contents
        case ended
        case sealed
        case failed
    }

    private struct State {
        var phase = Phase.begin
        var nextNumber: UInt32 = 0
        var manifest: SnapshotManifest?
        var organizations: [SnapshotManifest.Organization] = []
        var rows: [(key: [UInt8], value: [UInt8])] = []
        var rowBytes = 0
        /// Where each organization's checked records end.
        var heads: [OrganizationID: LedgerHead]
        /// The place of the organization whose records came last.
        var place = -1
        var recordCount: UInt64 = 0
        var answerCount: UInt64 = 0
        var sealedCount: UInt64 = 0
        var progress = SnapshotProgress()
    }

    /// Bytes of the group's own state.
    package static let stateBytesMax = 128 << 20

    package let group: GroupID
    /// What to ask the leader for.
    package let request: SnapshotRequest
    private let applier: ShardApplier
    /// The sizes of the ledgers when the installer was made.
    private let sizes: [OrganizationID: UInt64]
    private let state: Mutex<State>

    init(group: GroupID, applier: ShardApplier) throws {
        self.group = group
        self.applier = applier
        var heads: [OrganizationID: LedgerHead] = [:]
        var sizes: [OrganizationID: UInt64] = [:]
        for organization in try applier.organizations(of: group) {
            let head = try applier.head(of: organization)
            sizes[organization] = head.size
            if head.size > 0 { heads[organization] = head }
        }
        // What was staged after another size than the ledger's of now shares rows of tree nodes with what was applied since.
        for staged in try applier.stagedRecords(of: group) where staged.from == sizes[staged.head.organization] ?? 0 {
            guard staged.head.size > staged.from else { continue }
            heads[staged.head.organization] = staged.head
            applier.didStage(staged.head.organization)
        }
        self.sizes = sizes
        self.request = SnapshotRequest(
            group: group,
            holdings: heads.values.sorted { $0.organization < $1.organization }.map {
                .init(organization: $0.organization, size: $0.size, lastChecksum: $0.lastChecksum)
            }
        )
        self.state = Mutex(State(heads: heads))
    }

    package var progress: SnapshotProgress { self.state.withLock { $0.progress } }

    // MARK: Taking

    /// Checks a chunk and keeps what it holds.
    /// - Throws: ``SnapshotError``; the installer is then of no more use.
    package func accept(_ bytes: [UInt8]) throws(SnapshotError) {
        try self.step { state in
            let chunk = try SnapshotChunk(bytes)
            guard chunk.group == self.group, chunk.number == state.nextNumber,
                chunk.index == state.manifest?.mark.index ?? chunk.index
            else {
                throw SnapshotError(code: .outOfOrder, message: "chunk \(chunk.number) came for \(state.nextNumber)")
            }
            state.nextNumber += 1
            do {
                try self.take(chunk, &state)
            } catch let error as MalformedBytes {
                throw SnapshotError(code: .mismatch, message: "chunk \(chunk.number) has no meaning", cause: error)
            }
            state.progress.bytes += UInt64(bytes.count)
        }
    }

    /// Runs a step; an error ends the installer.
    private func step<Value: Sendable>(
        _ body: (inout State) throws -> Value
    ) throws(SnapshotError) -> Value {
        let result: Result<Value, SnapshotError> = self.state.withLock { state in
            do {
                return .success(try body(&state))
            } catch {
                state.phase = .failed
                return .failure(SnapshotError.wrapping(error, "installing a snapshot of group \(self.group)"))
            }
        }
        return try result.get()
    }

    private func take(_ chunk: SnapshotChunk, _ state: inout State) throws {
        var reader = ByteReader(chunk.body)
        switch (state.phase, chunk.kind) {
        case (.begin, .begin): try self.begin(chunk, &state)
        case (.contents, .organizations): try self.takeOrganizations(&reader, &state)
        case (.contents, .state): try self.takeRows(&reader, &state)
        case (.contents, .records): try self.takeRecords(&reader, &state)
        case (.contents, .idempotency): try self.takeAnswers(&reader, &state)
        case (.contents, .sealed): try self.takeSealed(&reader, &state)
        case (.contents, .end):
            let records = try reader.read(UInt64.self)
            let answers = try reader.read(UInt64.self)
            let sealed = reader.isAtEnd ? 0 : try reader.read(UInt64.self)
            try reader.finish("end of a snapshot")
            guard records == state.recordCount, answers == state.answerCount, sealed == state.sealedCount else {
                throw SnapshotError(code: .mismatch, message: "a part of the snapshot did not come")
            }
            state.phase = .ended
        default:
            throw SnapshotError(code: .outOfOrder, message: "a chunk of kind \(chunk.kind) does not come here")
        }
    }

    private func begin(_ chunk: SnapshotChunk, _ state: inout State) throws {
        let manifest = try SnapshotManifest(begin: chunk)
        guard self.applier.features.contains(manifest.featureLevel) else {
            let level = manifest.featureLevel
            throw SnapshotError(code: .unsupported, message: "the snapshot is at feature level \(level)")
        }
        guard try self.applier.appliedState(of: self.group).index < manifest.mark.index else {
            throw SnapshotError(code: .superseded, message: "this replica has applied \(manifest.mark.index) already")
        }
        state.manifest = manifest
        state.phase = .contents
    }

    private func takeOrganizations(_ reader: inout ByteReader, _ state: inout State) throws {
        while !reader.isAtEnd {
            let organization = try SnapshotManifest.Organization(from: &reader)
            let id = organization.head.organization
            guard state.organizations.count < state.manifest?.organizationCount ?? 0,
                state.organizations.last.map({ $0.head.organization < id }) ?? true,
                organization.from == state.heads[id]?.size ?? 0, organization.from <= organization.head.size
            else { throw SnapshotError(code: .mismatch, message: "the manifest is not an answer to the request") }
            guard organization.anchor == state.heads[id]?.lastChecksum else { throw try self.disagreement(id, state) }
            state.organizations.append(organization)
            state.progress.recordsTotal += organization.head.size - organization.from
        }
    }

    /// The source's chain is not ours at our size.
    private func disagreement(_ organization: OrganizationID, _ state: State) throws -> SnapshotError {
        let size = state.heads[organization]?.size ?? 0
        // What an earlier try has staged is no history of this replica: forget it, and ask for all of it again.
        if size > self.sizes[organization] ?? 0 {
            var batch = WriteBatch()
            batch.delete(.groupState, key: GroupStateKey.staged(self.group, organization))
            try self.applier.store.write(batch, durability: .unlogged)
            let message = "what was staged of organization \(organization) is not the source's"
            return SnapshotError(code: .mismatch, message: message, organization: organization)
        }
        return SnapshotError(
            code: .fork,
            message: "record \(size) of organization \(organization) is not the one that the source has",
            organization: organization
        )
    }

    private func takeRows(_ reader: inout ByteReader, _ state: inout State) throws {
        let prefix = GroupStateKey.all(self.group)
        while !reader.isAtEnd {
            let key = Array(try reader.readPrefixed())
            let value = Array(try reader.readPrefixed())
            guard key.starts(with: prefix), GroupStateKey.isShared(key),
                state.rows.count < state.manifest?.rowCount ?? 0
            else { throw SnapshotError(code: .mismatch, message: "a row is not one of the group's state") }
            state.rowBytes += key.count + value.count
            guard state.rowBytes <= Self.stateBytesMax else {
                throw SnapshotError(code: .unsupported, message: "the group's state is larger than may be")
            }
            state.rows.append((key, value))
        }
    }

    private func takeRecords(_ reader: inout ByteReader, _ state: inout State) throws {
        let id = OrganizationID(try reader.read())
        let first = SequenceNumber(try reader.read())
        let count = try reader.readCount()
        let organization = try self.enter(id, &state)
        let head = state.heads[id] ?? LedgerHead(empty: id)
        guard first == head.lastSequence.next, count >= 1, head.size + UInt64(count) <= organization.head.size else {
            throw SnapshotError(code: .mismatch, message: "records from \(first) do not follow", organization: id)
        }
        let size = self.sizes[id] ?? 0
        try self.checkUntouched(id, staged: head.size)
        var appender = LedgerAppender(head: head)
        var batch = WriteBatch()
        if head.size == size { head.clearBeyond(into: &batch) }
        for _ in 0..<count {
            let bytes = Array(try reader.readPrefixed())
            do throws(LedgerError) {
                try appender.adopt(bytes, into: &batch)
            } catch {
                let message = "record \(appender.head.lastSequence.next) of organization \(id) does not follow"
                throw SnapshotError(code: .mismatch, message: message, organization: id, cause: error)
            }
        }
        try reader.finish("records")
        if appender.head.size == organization.head.size, appender.head != organization.head {
            let message = "the records of organization \(id) do not have the root of the manifest"
            throw SnapshotError(code: .mismatch, message: message, organization: id)
        }
        appender.finishNodes(into: &batch)
        let staged = StagedRecords(from: size, head: appender.head)
        self.applier.didStage(id)
        batch.put(.groupState, key: GroupStateKey.staged(self.group, id), value: staged.encoded())
        try self.applier.store.write(batch, durability: .unlogged)
        try self.applier.didStage(bytes: batch.sizeBytes)
        state.heads[id] = appender.head
        state.recordCount += UInt64(count)
        state.progress.records += UInt64(count)
    }

    /// - Throws: ``SnapshotError`` `.outOfOrder` when commands of the organization were applied since the installer was
    ///   made: they have cleared what was staged.
    private func checkUntouched(_ organization: OrganizationID, staged: UInt64) throws {
        let size = self.sizes[organization] ?? 0
        let isThere = try self.applier.head(of: organization).size == size
        guard isThere, staged == size || self.applier.isStaged(organization) else {
            let message = "commands were applied while the snapshot came: ask anew"
            throw SnapshotError(code: .outOfOrder, message: message, organization: organization)
        }
    }

    private func takeAnswers(_ reader: inout ByteReader, _ state: inout State) throws {
        let id = OrganizationID(try reader.read())
        let count = Int(try reader.read(UInt32.self))
        let organization = try self.enter(id, &state)
        var batch = WriteBatch()
        for _ in 0..<count {
            guard let key = Digest(bytes: try reader.readPrefixed()) else {
                throw MalformedBytes(what: "key of an answer", offset: reader.offset)
            }
            let value = Array(try reader.readPrefixed())
            let row = try IdempotencyRow(value)
            guard row.firstSequence.rawValue > organization.from, row.count >= 1,
                row.lastSequence.rawValue <= organization.head.size
            else {
                throw SnapshotError(code: .mismatch, message: "an answer is none of the snapshot", organization: id)
            }
            batch.put(.idempotency, key: IdempotencyRow.key(id, key), value: value)
        }
        try reader.finish("answers")
        try self.applier.store.write(batch, durability: .unlogged)
        try self.applier.didStage(bytes: batch.sizeBytes)
        state.answerCount += UInt64(count)
    }

    /// Stages sealed values: nobody asks for those of records beyond the ledger's head.
    private func takeSealed(_ reader: inout ByteReader, _ state: inout State) throws {
        let id = OrganizationID(try reader.read())
        let count = Int(try reader.read(UInt32.self))
        let organization = try self.enter(id, &state)
        let prefix = SealedRow.prefix(id)
        var batch = WriteBatch()
        for _ in 0..<count {
            let rest = try reader.readPrefixed()
            let value = Array(try reader.readPrefixed())
            let sequence = try SealedRow.sequence(ofRest: rest).rawValue
            _ = try SealedRow(value)
            guard sequence > organization.from, sequence <= organization.head.size else {
                throw SnapshotError(
                    code: .mismatch,
                    message: "a sealed value is none of the snapshot",
                    organization: id
                )
            }
            batch.put(.sealedValues, key: prefix + rest, value: value)
        }
        try reader.finish("sealed values")
        try self.applier.store.write(batch, durability: .unlogged)
        try self.applier.didStage(bytes: batch.sizeBytes)
        state.sealedCount += UInt64(count)
    }

    /// The manifest's entry of an organization; they come in its order.
    private func enter(_ id: OrganizationID, _ state: inout State) throws -> SnapshotManifest.Organization {
        guard state.organizations.count == state.manifest?.organizationCount,
            state.rows.count == state.manifest?.rowCount
        else { throw SnapshotError(code: .outOfOrder, message: "contents came before the whole manifest") }
        let start = max(state.place, 0)
        guard let place = state.organizations[start...].firstIndex(where: { $0.head.organization == id }) else {
            throw SnapshotError(code: .mismatch, message: "organization \(id) does not come here", organization: id)
        }
        state.place = place
        return state.organizations[place]
    }

    // MARK: Ending

    /// Checks that everything has come and is what the manifest promised, and makes it durable; blocks.
    /// - Returns: The mark that the group will be at.
    package func seal() throws(SnapshotError) -> SnapshotMark {
        try self.step { state in
            guard state.phase == .ended, let manifest = state.manifest,
                state.organizations.count == manifest.organizationCount, state.rows.count == manifest.rowCount
            else { throw SnapshotError(code: .outOfOrder, message: "the snapshot has not come to its end") }
            for organization in state.organizations
            where state.heads[organization.head.organization] != organization.head {
                let id = organization.head.organization
                let message = "the ledger of organization \(id) does not have the root of the manifest"
                throw SnapshotError(code: .mismatch, message: message, organization: id)
            }
            try self.applier.flush()
            state.phase = .sealed
            return manifest.mark
        }
    }

    /// Makes the snapshot the group's state: one batch, durable when the call returns. On the group's lane, between two
    /// turns.
    /// - Throws: ``SnapshotError`` `.superseded` when the group has meanwhile applied as much, `.outOfOrder` when it has
    ///   applied records since the installer was made: nothing was changed; `.storage`.
    package func switchState() throws(SnapshotError) {
        try self.step { state in
            guard state.phase == .sealed, let manifest = state.manifest else {
                throw SnapshotError(code: .outOfOrder, message: "the snapshot is not sealed")
            }
            guard try self.applier.appliedState(of: self.group).index < manifest.mark.index else {
                throw SnapshotError(
                    code: .superseded,
                    message: "group \(self.group) has applied \(manifest.mark.index)"
                )
            }
            for organization in state.organizations.map(\.head) {
                try self.checkUntouched(organization.organization, staged: organization.size)
            }
            try self.applier.replace(
                self.group,
                mark: manifest.mark,
                level: manifest.featureLevel,
                heads: state.organizations.map(\.head),
                rows: state.rows
            )
            state.phase = .ended
        }
    }
}

extension ShardApplier {
    /// What a replica of `group` needs to take a snapshot; one at a time for a group. Reads the store.
    /// - Throws: ``SnapshotError`` `.storage` or `.damaged`.
    package func snapshotInstaller(of group: GroupID) throws(SnapshotError) -> GroupSnapshotInstaller {
        do {
            return try GroupSnapshotInstaller(group: group, applier: self)
        } catch {
            throw SnapshotError.wrapping(error, "reading what group \(group) has")
        }
    }

    /// Whether records of an unfinished snapshot lie beyond the heads of a group's ledgers, where a verification would
    /// take them for damage.
    /// - Throws: ``StorageError``, ``LedgerError`` or ``MalformedBytes``.
    package func isInstalling(_ group: GroupID) throws -> Bool {
        try self.stagedRecords(of: group).contains { try $0.head.size > self.head(of: $0.head.organization).size }
    }

    /// What is staged, ascending by organization.
    func stagedRecords(of group: GroupID) throws -> [StagedRecords] {
        var found: [StagedRecords] = []
        try self.store.scan(.groupState, prefix: GroupStateKey.staged(group)) { _, value in
            found.append(try StagedRecords(value))
            return true
        }
        return found
    }

    /// Records of `organization` lie beyond its head.
    func didStage(_ organization: OrganizationID) { _ = self.groups.withLock { $0.staged.insert(organization) } }

    /// Whether what lies beyond the head of `organization` was not cleared since.
    func isStaged(_ organization: OrganizationID) -> Bool {
        self.groups.withLock { $0.staged.contains(organization) }
    }

    /// Counts bytes that were written beside the batches of applying; blocks for a flush when many have gathered.
    /// - Throws: ``StorageError``.
    func didStage(bytes: Int) throws(StorageError) {
        let isDue = self.groups.withLock { groups in
            groups.unflushedBytes += bytes
            return groups.unflushedBytes >= self.flushBytes
        }
        if isDue { try self.flush(whenUnflushed: self.flushBytes) }
    }

    /// Deletes the sealed values of a data subject that the snapshot knows as erased.
    private func dropSealed(ofErased row: (key: [UInt8], value: [UInt8]), into batch: inout WriteBatch) throws {
        guard try SubjectEntry(row.value).erasedAt != nil else { return }
        let (organization, subject) = try GroupStateKey.organizationAndSubject(row.key)
        try self.store.scan(.sealedValues, prefix: SealedRow.prefix(organization, subject)) { key, _ in
            batch.delete(.sealedValues, key: key)
            return true
        }
    }

    /// Makes `heads` and `rows` the state of a group at `mark`.
    fileprivate func replace(
        _ group: GroupID,
        mark: SnapshotMark,
        level: FeatureLevel,
        heads: [LedgerHead],
        rows: [(key: [UInt8], value: [UInt8])]
    ) throws {
        let applied = AppliedState(index: mark.index, term: mark.term, membership: mark.membership, isInstalled: true)
        var batch = WriteBatch()
        if !self.faults.contains(.snapshotWithoutState) {
            try self.store.scan(.groupState, prefix: GroupStateKey.all(group)) { key, _ in
                if GroupStateKey.isShared(key) { batch.delete(.groupState, key: key) }
                return true
            }
            for row in rows {
                batch.put(.groupState, key: row.key, value: row.value)
                if GroupStateKey.isSubject(row.key) { try self.dropSealed(ofErased: row, into: &batch) }
            }
            for head in heads {
                batch.put(.ledgerHeads, key: LedgerKeys.head(head.organization), value: head.encode())
            }
        }
        let staged = GroupStateKey.staged(group)
        if let upper = keyAfter(prefix: staged) { batch.deleteRange(.groupState, lower: staged, upper: upper) }
        batch.put(.groupState, key: GroupStateKey.membership(group), value: mark.membership.encoded())
        batch.put(.groupState, key: GroupStateKey.applied(group), value: applied.encodedMark)
        try self.store.write(batch, durability: .unlogged)
        try self.store.flush()
        self.groups.withLock { groups in
            groups.applied[group] = applied
            groups.durable[group] = mark.index
            groups.levels[group] = level
            for head in heads { groups.staged.remove(head.organization) }
        }
        self.forget(heads.map(\.organization))
        if group == .system { self.directory.publish(try SystemState(reading: self.store)) }
        for head in heads {
            self.events.onAdvance(head.organization, 1)
            self.events.onSubject(head.organization, nil)
        }
    }
}

/// Records of one organization that a snapshot brought and that are not part of its ledger yet.
struct StagedRecords {
    /// The size of the ledger after which they were staged; they are of use only while it has this size, because tree
    /// nodes that are applied later may take the place of rows that hold more of them.
    let from: UInt64
    /// The head that the ledger would have with them.
    let head: LedgerHead

    init(from: UInt64, head: LedgerHead) {
        self.from = from
        self.head = head
    }

    init(_ bytes: [UInt8]) throws(MalformedBytes) {
        var reader = ByteReader(bytes)
        self.from = try reader.read()
        self.head = try LedgerHead.decode(Array(reader.readRest()))
    }

    func encoded() -> [UInt8] {
        var writer = ByteWriter(capacity: 8)
        writer.write(self.from)
        writer.write(raw: self.head.encode())
        return writer.bytes
    }
}
