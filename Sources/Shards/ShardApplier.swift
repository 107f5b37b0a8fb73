package import AuditLedger
package import Consensus
package import Primitives
package import Storage
internal import Synchronization

/// Applies committed entries: finds the shard of each command, gathers all changes in one batch and writes it with the applied index.
///
/// One call writes one batch, so a crash repeats or skips nothing: after it the log goes on from the applied index that the batch carried.
package final class ShardApplier: CommandApplier {
    private let store: any KeyValueStore
    private let lanes: [SerialThread]
    package let directory: ShardDirectory
    private let shards = Mutex<[OrganizationID: OrganizationShard]>([:])
    /// Told, on the lane, that the ledger of an organization has grown.
    private let onAdvance: @Sendable (OrganizationID) -> Void

    /// Reads the directory.
    /// - Parameter lanes: The host's lanes: group g is applied on `lanes[g % lanes.count]`.
    /// - Throws: ``StorageError`` or ``MalformedBytes``.
    package init(
        store: any KeyValueStore,
        lanes: [SerialThread],
        onAdvance: @escaping @Sendable (OrganizationID) -> Void
    ) throws {
        precondition(!lanes.isEmpty)
        self.store = store
        self.lanes = lanes
        self.onAdvance = onAdvance
        self.directory = ShardDirectory(state: try SystemState(reading: store))
    }

    package func appliedIndex(of group: GroupID) throws -> LogIndex {
        guard let value = try self.store.get(GroupStateKey.applied(group), in: .groupState) else { return .zero }
        var reader = ByteReader(value)
        return LogIndex(try reader.read())
    }

    package func apply(group: GroupID, entries: [CommittedEntry]) throws -> [[UInt8]] {
        guard let last = entries.last else { return [] }
        var batch = WriteBatch()
        let results: [[UInt8]]
        var touched: [OrganizationShard] = []
        var system: SystemState?
        if group == .system {
            var state = self.directory.current
            results = self.applySystem(entries, to: &state, into: &batch)
            system = state
        } else {
            results = try self.applyData(entries, group: group, touched: &touched, into: &batch)
        }
        var writer = ByteWriter(capacity: 16)
        writer.write(last.index.rawValue)
        writer.write(last.term.rawValue)
        batch.put(.groupState, key: GroupStateKey.applied(group), value: writer.bytes)
        try self.store.write(batch)
        if let system { self.directory.publish(system) }
        for shard in touched {
            shard.assumeIsolated { $0.publish() }
            self.onAdvance(shard.organization)
        }
        return results
    }

    private func applySystem(
        _ entries: [CommittedEntry],
        to state: inout SystemState,
        into batch: inout WriteBatch
    ) -> [[UInt8]] {
        var results: [[UInt8]] = []
        for command in entries.lazy.flatMap(\.commands) {
            let result: CommandResult
            do {
                let (command, stamp) = try Command.decode(command)
                result = state.apply(command, stampedAt: stamp, into: &batch)
            } catch {
                result = .refused(.malformed)
            }
            results.append(result.encoded())
        }
        return results
    }

    private func applyData(
        _ entries: [CommittedEntry],
        group: GroupID,
        touched: inout [OrganizationShard],
        into batch: inout WriteBatch
    ) throws -> [[UInt8]] {
        var results: [[UInt8]] = []
        for bytes in entries.lazy.flatMap(\.commands) {
            let decoded: (command: Command, stampedAt: Timestamp)
            do {
                decoded = try Command.decode(bytes)
            } catch {
                results.append(CommandResult.refused(.malformed).encoded())
                continue
            }
            guard case .append(let command) = decoded.command else {
                results.append(CommandResult.refused(.wrongGroup).encoded())
                continue
            }
            let shard = try self.shard(command.organization, group: group)
            if !touched.contains(where: { $0 === shard }) { touched.append(shard) }
            // No suspension: this code runs on the shard's lane, which `assumeIsolated` checks.
            let result = try shard.assumeIsolated { try $0.append(command, stampedAt: decoded.stampedAt) }
            results.append(result.encoded())
        }
        for shard in touched { batch.append(shard.assumeIsolated { $0.takeWrites() }) }
        return results
    }

    private func shard(_ organization: OrganizationID, group: GroupID) throws -> OrganizationShard {
        if let shard = self.shards.withLock({ $0[organization] }) { return shard }
        let lane = self.lanes[Int(group.rawValue) % self.lanes.count]
        let shard = try OrganizationShard(organization: organization, lane: lane, store: self.store)
        return self.shards.withLock { shards in
            if let other = shards[organization] { return other }
            shards[organization] = shard
            return shard
        }
    }

    /// The head of an organization's ledger on this node, as of the last written batch; the empty head when it has no record here.
    ///
    /// Reads the store for an organization that was not used since the start: call it off the cooperative pool, or accept one short read.
    /// - Throws: ``LedgerError``.
    package func head(of organization: OrganizationID) throws(LedgerError) -> LedgerHead {
        if let shard = self.shards.withLock({ $0[organization] }) { return shard.head }
        return try LedgerReader(store: self.store, organization: organization).head()
    }

    /// The head as ``head(of:)``, but nil instead of reading the store.
    package func knownHead(of organization: OrganizationID) -> LedgerHead? {
        self.shards.withLock { $0[organization] }?.head
    }
}
