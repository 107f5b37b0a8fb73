internal import Consensus
internal import Foundation
internal import Laboratory
internal import Logging
internal import Primitives
internal import Shards
internal import Storage
internal import Synchronization

/// Reads a group's snapshot from its first chunk to its last.
final class GroupSnapshotReader: SnapshotSource {
    private let source: GroupSnapshotSource
    private let cursor = Mutex<SnapshotCursor?>(.start)

    init(_ source: GroupSnapshotSource) { self.source = source }

    func next() throws -> [UInt8]? {
        guard let cursor = self.cursor.withLock({ $0 }) else { return nil }
        let (bytes, next) = try self.source.chunk(at: cursor)
        self.cursor.withLock { $0 = next }
        return bytes
    }
}

extension SnapshotSender {
    /// Sends what `host` and `applier` have.
    init(
        host: RaftHost,
        applier: ShardApplier,
        reporter: DamageReporter,
        inspector: ReplicaInspector,
        threads: StoreThreads,
        rate: TokenBucket,
        metrics: PeerMetrics,
        logger: Logger
    ) {
        let damage = reporter.register
        self.init(
            open: { wire in
                let group = GroupID(wire.group)
                let request = try SnapshotRequest(bytes: [UInt8](wire.have))
                guard request.group == group else { throw MalformedBytes(what: "group of a snapshot", offset: 0) }
                // A history that this node does not vouch for goes nowhere.
                let directory = applier.directory
                guard !damage.all.contains(where: { directory.organization($0.organization)?.group == group }) else {
                    throw ShardError(code: .damaged, message: "group \(group) holds a ledger that is damaged here")
                }
                let source = try await host.withLane(group) {
                    // On the lane, so that the membership is of the same index as the state.
                    try applier.snapshotSource(
                        of: group,
                        for: request,
                        membership: host.appliedMark(group)?.membership
                    )
                }
                return GroupSnapshotReader(source)
            },
            onFailure: { host.snapshotReport($0, to: $1, succeeded: false) },
            onUnreadable: { group, organization in
                // First another leader, which can fill the replica; then what is wrong here.
                await reporter.handLeadershipOn(of: group)
                guard let entry = organization.flatMap({ applier.directory.organization($0) }),
                    let finding = try? await inspector.inspect(entry, .projections).finding
                else { return }
                await reporter.found(finding, in: entry)
            },
            threads: threads,
            rate: rate,
            metrics: metrics,
            logger: logger
        )
    }
}
