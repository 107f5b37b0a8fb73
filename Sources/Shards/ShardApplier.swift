package import AuditLedger
package import Consensus
internal import Laboratory
package import Primitives
package import Storage
internal import Synchronization

/// What an applier tells of; called on a lane after the batch is written, must return soon.
package struct ShardEvents: Sendable {
    /// The ledger of an organization has grown, by at least so many records.
    package var onAdvance: @Sendable (OrganizationID, Int) -> Void
    /// Enough was written since the last flush: ``ShardApplier/flush()`` should be called on a thread that may block.
    /// Once a flush.
    package var onFlushDue: @Sendable () -> Void
    /// An organization's ledger is no longer on this node: what was derived from it should go.
    package var onDiscard: @Sendable (OrganizationID) -> Void
    /// A data subject of an organization has another key than before, or was erased; nil when any of them may: a
    /// snapshot came.
    package var onSubject: @Sendable (OrganizationID, Digest?) -> Void

    package init(
        onAdvance: @escaping @Sendable (OrganizationID, Int) -> Void = { _, _ in },
        onFlushDue: @escaping @Sendable () -> Void = {},
        onDiscard: @escaping @Sendable (OrganizationID) -> Void = { _ in },
        onSubject: @escaping @Sendable (OrganizationID, Digest?) -> Void = { _, _ in }
    ) {
        self.onAdvance = onAdvance
        self.onFlushDue = onFlushDue
        self.onDiscard = onDiscard
        self.onSubject = onSubject
    }
}

/// Applies committed entries: finds the shard of each command, gathers all changes in one batch and writes it with the
/// applied indexes.
///
/// One call writes one batch over all groups of a lane's turn, without the store's log: the Raft log makes it again
/// after a crash, from the applied index on that survived with the effects. ``flush()`` makes effects durable, and
/// ``durableApplied(of:)`` says how far.
package final class ShardApplier: CommandApplier {
    /// What is known of the groups of this node.
    struct Groups: Sendable {
        var applied: [GroupID: AppliedState] = [:]
        var durable: [GroupID: LogIndex] = [:]
        var levels: [GroupID: FeatureLevel] = [:]
        /// Organizations with records of an unfinished snapshot beyond their heads.
        var staged: Set<OrganizationID> = []
        /// Bytes written since the last flush began.
        var unflushedBytes = 0
        var isFlushDue = false
    }

    /// Bytes after which a flush is asked for.
    package static let flushBytesStandard = 32 << 20
    /// Bytes of one batch; a turn with more writes several, each with the applied index that it reaches.
    static let batchBytesMax = 64 << 20

    let store: any KeyValueStore
    private let lanes: [any ApplyLane]
    package let directory: ShardDirectory
    private let shards = Mutex<[OrganizationID: OrganizationShard]>([:])
    let groups = Mutex(Groups())
    let events: ShardEvents
    let flushBytes: Int
    private let flushing = Mutex<Void>(())
    let features: FeatureRange
    let faults: ApplierFaults

    /// Reads the directory.
    /// - Parameters:
    ///   - lanes: The host's lanes: group g is applied on `lanes[g % lanes.count]`.
    ///   - features: What this program can apply; another than ``FeatureRange/supported`` is for tests of upgrades.
    ///   - faults: For tests only.
    /// - Throws: ``StorageError`` or ``MalformedBytes``; ``ShardError`` `.unsupported` when the state is of a newer
    ///   program.
    package init(
        store: any KeyValueStore,
        lanes: [any ApplyLane],
        events: ShardEvents = ShardEvents(),
        flushBytes: Int = ShardApplier.flushBytesStandard,
        features: FeatureRange = .supported,
        faults: ApplierFaults = []
    ) throws {
        precondition(!lanes.isEmpty)
        self.store = store
        self.lanes = lanes
        self.events = events
        self.flushBytes = flushBytes
        self.features = features
        self.faults = faults
        let state = try SystemState(reading: store)
        self.directory = ShardDirectory(state: state)
        try self.check(state.featureLevel, of: .system)
    }

    /// - Throws: ``ShardError`` `.unsupported`.
    func check(_ level: FeatureLevel, of group: GroupID) throws(ShardError) {
        guard self.features.contains(level) else {
            let message = "group \(group) is at feature level \(level), this program can do \(self.features)"
            throw ShardError(code: .unsupported, message: message)
        }
    }

    // MARK: State

    package func appliedState(of group: GroupID) throws -> AppliedState {
        if let known = self.groups.withLock({ $0.applied[group] }) { return known }
        let state = try Self.appliedState(of: group, reading: self.store)
        let level = try GroupStateKey.featureLevel(of: group, in: self.store)
        try self.check(level, of: group)
        self.groups.withLock { groups in
            // What is there before anything is applied was there when the store was opened, so it survived.
            groups.applied[group] = state
            groups.durable[group] = state.index
            groups.levels[group] = level
        }
        return state
    }

    package func durableApplied(of group: GroupID) -> LogIndex {
        self.groups.withLock { $0.durable[group] ?? .zero }
    }

    /// The feature level that a group has reached here; from any thread.
    package func featureLevel(of group: GroupID) -> FeatureLevel {
        self.groups.withLock { $0.levels[group] ?? .one }
    }

    /// Whether a leader may propose these bytes: their form is one that every replica of the group can apply.
    ///
    /// A leader must ask before it proposes, because a form that a replica does not know stops it.
    package func admits(_ command: [UInt8], to group: GroupID) -> Bool {
        guard let level = Command.level(of: command[...]), level <= self.featureLevel(of: group) else { return false }
        // A group follows the cluster, which knows what its nodes can do.
        guard let wanted = Command.wantedLevel(of: command[...]) else { return true }
        return wanted <= self.directory.current.featureLevel
    }

    // MARK: Flushing

    /// Makes everything applied so far durable; blocks for as long as the disk takes. From any thread that may block.
    /// - Throws: ``StorageError``; the store is then poisoned, and the next apply stops the node.
    package func flush() throws(StorageError) { try self.flush(whenUnflushed: 0) }

    /// The same, one after the other, and only if so many bytes are unflushed when it is this call's turn.
    ///
    /// Writers that come faster than the disk wait here, so that no memory table fills up and is flushed by the store
    /// itself while it is being asked to flush all.
    func flush(whenUnflushed least: Int) throws(StorageError) {
        try self.flushing.withLock { (_) throws(StorageError) in
            let applied: [GroupID: LogIndex]? = self.groups.withLock { groups in
                guard groups.unflushedBytes >= least else { return nil }
                groups.unflushedBytes = 0
                groups.isFlushDue = false
                return groups.applied.mapValues(\.index)
            }
            guard let applied else { return }
            try self.store.flush()
            self.groups.withLock { groups in
                for (group, index) in applied {
                    // A group that was discarded meanwhile, and perhaps begun anew, is not what was flushed.
                    guard let now = groups.applied[group], now.index >= index else { continue }
                    groups.durable[group] = max(groups.durable[group] ?? .zero, index)
                }
            }
        }
    }

    /// Unflushed bytes, times those after which a flush is asked for, at which applying waits for one.
    static let flushPatience = 2

    // MARK: Applying

    /// What one batch holds.
    private struct Turn {
        var batch = WriteBatch()
        var touched: [OrganizationShard] = []
        var applied: [(group: GroupID, state: AppliedState, level: FeatureLevel)] = []
        var system: SystemState?
    }

    package func apply(_ work: [GroupEntries]) throws -> [[[UInt8]]] {
        var turn = Turn()
        var results: [[[UInt8]]] = []
        results.reserveCapacity(work.count)
        for part in work { results.append(try self.apply(part, &turn)) }
        try self.write(&turn)
        return results
    }

    private func apply(_ part: GroupEntries, _ turn: inout Turn) throws -> [[UInt8]] {
        let group = part.group
        var state = try self.appliedState(of: group)
        var level = self.featureLevel(of: group)
        var results: [[UInt8]] = []
        var changed = false
        var membership: Membership?
        for entry in self.faults.ordered(part.entries) {
            if entry.index <= state.index, !self.faults.contains(.applyOutOfOrder) {
                // A snapshot was installed over entries that were on their way.
                for _ in entry.commands { results.append(CommandResult.unknown.encoded()) }
                continue
            }
            guard entry.index == state.index.next || self.faults.contains(.applyOutOfOrder) else {
                let message = "group \(group) has applied \(state.index), entry \(entry.index) does not follow"
                throw ShardError(code: .outOfOrder, message: message)
            }
            for command in entry.commands {
                let result = try self.apply(command, group: group, level: &level, &turn)
                results.append(result.encoded())
            }
            state.index = max(state.index, entry.index)
            state.term = entry.term
            state.isInstalled = false
            if let next = entry.membership { membership = next }
            changed = true
            if turn.batch.sizeBytes >= Self.batchBytesMax {
                self.put(&state, membership, group, level, &turn)
                try self.write(&turn)
                membership = nil
                changed = false
            }
        }
        if changed { self.put(&state, membership, group, level, &turn) }
        return results
    }

    /// Adds the applied index to the batch.
    private func put(
        _ state: inout AppliedState,
        _ membership: Membership?,
        _ group: GroupID,
        _ level: FeatureLevel,
        _ turn: inout Turn
    ) {
        if let membership {
            state.membership = membership
            turn.batch.put(.groupState, key: GroupStateKey.membership(group), value: membership.encoded())
        }
        turn.applied.append((group, state, level))
        if self.faults.loses(state.index) { return }
        turn.batch.put(.groupState, key: GroupStateKey.applied(group), value: state.encodedMark)
    }

    /// Writes the batch, then shows what it made.
    private func write(_ turn: inout Turn) throws {
        for shard in turn.touched {
            // No suspension: this code runs on the shard's lane, which `assumeIsolated` checks.
            shard.assumeIsolated { $0.finish(into: &turn.batch) }
        }
        if !turn.batch.isEmpty { try self.store.write(turn.batch, durability: .unlogged) }
        let bytes = turn.batch.sizeBytes
        let flushBytes = self.flushBytes
        let (isFlushDue, mustWait) = self.groups.withLock { [applied = turn.applied] groups in
            for (group, state, level) in applied {
                groups.applied[group] = state
                groups.levels[group] = level
            }
            groups.unflushedBytes += bytes
            let mustWait = groups.unflushedBytes >= flushBytes * Self.flushPatience
            guard groups.unflushedBytes >= flushBytes, !groups.isFlushDue else { return (false, mustWait) }
            groups.isFlushDue = true
            return (true, mustWait)
        }
        if let system = turn.system { self.directory.publish(system) }
        for shard in turn.touched {
            let news = shard.assumeIsolated { $0.publish() }
            for subject in news.subjects { self.events.onSubject(shard.organization, subject) }
            self.events.onAdvance(shard.organization, news.records)
        }
        if isFlushDue { self.events.onFlushDue() }
        turn = Turn()
        if mustWait { try self.flush(whenUnflushed: flushBytes * Self.flushPatience) }
    }

    private func apply(
        _ bytes: ArraySlice<UInt8>,
        group: GroupID,
        level: inout FeatureLevel,
        _ turn: inout Turn
    ) throws -> CommandResult {
        guard let needed = Command.level(of: bytes) else { return .refused(.malformed) }
        guard needed <= level else {
            let message = "a command of group \(group) needs feature level \(needed), the group is at \(level)"
            throw ShardError(code: .unsupported, message: message)
        }
        let decoded: Command.Decoded
        do {
            decoded = try Command.decode(bytes)
        } catch {
            return .refused(.malformed)
        }
        if group == .system { return try self.applySystem(decoded, level: &level, &turn) }
        switch decoded.command {
        case .append(let command):
            let shard = try self.enter(command.organization, group: group, &turn)
            return try shard.assumeIsolated {
                try $0.append(command, stampedAt: decoded.stampedAt, into: &turn.batch)
            }
        case .eraseSubject(let command):
            return try self.withSubjects(of: command.organization, group: group, &turn) { shard, batch in
                try shard.erase(command, decoded.origin, stampedAt: decoded.stampedAt, into: &batch)
            }
        case .holdSubject(let command):
            return try self.withSubjects(of: command.organization, group: group, &turn) { shard, batch in
                try shard.hold(command, decoded.origin, stampedAt: decoded.stampedAt, into: &batch)
            }
        case .completeErasure(let command):
            return try self.withSubjects(of: command.organization, group: group, &turn) { shard, batch in
                try shard.completeErasure(command, decoded.origin, stampedAt: decoded.stampedAt, into: &batch)
            }
        case .setFeatureLevel(let wanted):
            if wanted == level { return .done }
            guard wanted > level else { return .refused(.featureUnsupported) }
            try self.check(wanted, of: group)
            level = wanted
            var writer = ByteWriter(capacity: 4)
            writer.write(wanted.rawValue)
            turn.batch.put(.groupState, key: GroupStateKey.featureLevel(group), value: writer.bytes)
            return .done
        default: return .refused(.wrongGroup)
        }
    }

    /// Runs a command about a data subject in the shard of an organization that has records.
    private func withSubjects(
        of organization: OrganizationID,
        group: GroupID,
        _ turn: inout Turn,
        _ body: @Sendable (isolated OrganizationShard, inout WriteBatch) throws -> CommandResult
    ) throws -> CommandResult {
        // One without records has no data subjects, and a refusal leaves no trace.
        let isEmpty = try self.shard(organization, group: group).assumeIsolated { $0.isEmpty }
        if isEmpty { return .refused(.subjectUnknown) }
        let shard = try self.enter(organization, group: group, &turn)
        return try shard.assumeIsolated { try body($0, &turn.batch) }
    }

    private func applySystem(
        _ decoded: Command.Decoded,
        level: inout FeatureLevel,
        _ turn: inout Turn
    ) throws -> CommandResult {
        var state = turn.system ?? self.directory.current
        var records: [EventDraft] = []
        let result = state.apply(decoded, into: &turn.batch, records: &records)
        try self.check(state.featureLevel, of: .system)
        level = state.featureLevel
        let stamp = state.lastStamp
        turn.system = state
        if !records.isEmpty {
            let shard = try self.enter(SystemState.ledgerID, group: .system, &turn)
            let receipt = shard.assumeIsolated { [records] in
                $0.append(records, stampedAt: stamp, into: &turn.batch)
            }
            // Whoever gave the record wants to know where it stands.
            if case .appendToSystem = decoded.command { return .appended(receipt) }
        }
        return result
    }

    /// The shard of a command, as a part of the batch.
    private func enter(
        _ organization: OrganizationID,
        group: GroupID,
        _ turn: inout Turn
    ) throws -> OrganizationShard {
        let shard: OrganizationShard
        if let last = turn.touched.last, last.organization == organization {
            shard = last
        } else {
            shard = try self.shard(organization, group: group)
        }
        let part = shard.assumeIsolated { $0.enterTurn() }
        if part.isFirst {
            turn.touched.append(shard)
            if self.groups.withLock({ $0.staged.remove(organization) }) != nil {
                shard.head.clearBeyond(into: &turn.batch)
                turn.batch.delete(.groupState, key: GroupStateKey.staged(group, organization))
            }
            if part.isEmpty {
                turn.batch.put(.groupState, key: GroupStateKey.organization(group, organization), value: [])
            }
        }
        return shard
    }

    private func shard(_ organization: OrganizationID, group: GroupID) throws -> OrganizationShard {
        if let shard = self.shards.withLock({ $0[organization] }) { return shard }
        let shard = try OrganizationShard(
            organization: organization,
            group: group,
            lane: self.lanes[Int(group.rawValue) % self.lanes.count],
            store: self.store,
            faults: self.faults
        )
        if try self.store.get(GroupStateKey.staged(group, organization), in: .groupState) != nil {
            self.didStage(organization)
        }
        return self.shards.withLock { shards in
            if let other = shards[organization] { return other }
            shards[organization] = shard
            return shard
        }
    }

    // MARK: Organizations

    /// The organizations that have records in a group on this node, ascending. Reads the store.
    /// - Throws: ``StorageError`` or ``MalformedBytes``.
    package func organizations(of group: GroupID) throws -> [OrganizationID] {
        var found: Set<OrganizationID> = []
        let prefix = GroupStateKey.organizations(group)
        try self.store.scan(.groupState, prefix: prefix) { key, _ in
            var reader = ByteReader(key[prefix.count...])
            found.insert(OrganizationID(try reader.read()))
            return true
        }
        // Records of a version that did not list them by group.
        for entry in self.directory.current.organizations.values where entry.group == group {
            if try LedgerReader(store: self.store, organization: entry.id).head().size > 0 { found.insert(entry.id) }
        }
        return found.sorted()
    }

    /// The head of an organization's ledger on this node, as of the last written batch; the empty head when it has no
    /// record here.
    ///
    /// Reads the store for an organization that was not used since the start: call it off the cooperative pool, or
    /// accept one short read.
    /// - Throws: ``LedgerError``.
    package func head(of organization: OrganizationID) throws(LedgerError) -> LedgerHead {
        if let shard = self.shards.withLock({ $0[organization] }) { return shard.head }
        return try LedgerReader(store: self.store, organization: organization).head()
    }

    /// The head as ``head(of:)``, but nil instead of reading the store.
    package func knownHead(of organization: OrganizationID) -> LedgerHead? {
        self.shards.withLock { $0[organization] }?.head
    }

    /// Lets the next use of these organizations read their heads anew.
    func forget(_ organizations: [OrganizationID]) {
        self.shards.withLock { shards in for organization in organizations { shards[organization] = nil } }
    }

    package func discard(_ group: GroupID) throws {
        let organizations = try self.organizations(of: group) + (try self.stagedOrganizations(of: group))
        var batch = WriteBatch()
        for organization in organizations {
            let prefix = LedgerKeys.head(organization)
            guard let upper = keyAfter(prefix: prefix) else { continue }
            for family in [ColumnFamily.records, .treeNodes, .ledgerHeads, .idempotency, .checkpoints, .sealedValues] {
                batch.deleteRange(family, lower: prefix, upper: upper)
            }
        }
        let prefix = GroupStateKey.all(group)
        if let upper = keyAfter(prefix: prefix) { batch.deleteRange(.groupState, lower: prefix, upper: upper) }
        try self.store.write(batch, durability: .unlogged)
        // A replica of a later life may be made as soon as this returns: the state may not come back after a power failure.
        try self.store.flush()
        self.forget(organizations)
        self.groups.withLock { groups in
            groups.applied[group] = nil
            groups.durable[group] = nil
            groups.levels[group] = nil
            for organization in organizations { groups.staged.remove(organization) }
        }
        if group == .system { self.directory.publish(SystemState()) }
        for organization in organizations { self.events.onDiscard(organization) }
    }

    private func stagedOrganizations(of group: GroupID) throws -> [OrganizationID] {
        var found: [OrganizationID] = []
        let prefix = GroupStateKey.staged(group)
        try self.store.scan(.groupState, prefix: prefix) { key, _ in
            var reader = ByteReader(key[prefix.count...])
            found.append(OrganizationID(try reader.read()))
            return true
        }
        return found
    }
}

extension AppliedState {
    /// The row of the applied index.
    var encodedMark: [UInt8] {
        var writer = ByteWriter(capacity: 17)
        writer.write(self.index.rawValue)
        writer.write(self.term.rawValue)
        writer.write(UInt8(self.isInstalled ? 1 : 0))
        return writer.bytes
    }
}

extension ApplierFaults {
    /// The entries in the order in which they are applied.
    fileprivate func ordered(_ entries: [CommittedEntry]) -> [CommittedEntry] {
        guard self.contains(.applyOutOfOrder), entries.count >= 2 else { return entries }
        var entries = entries
        entries.swapAt(entries.count - 1, entries.count - 2)
        return entries
    }

    /// Whether the applied index of a batch is left out of it.
    fileprivate func loses(_ index: LogIndex) -> Bool {
        self.contains(.appliedIndexLost) && index.rawValue % 2 == 1
    }
}
