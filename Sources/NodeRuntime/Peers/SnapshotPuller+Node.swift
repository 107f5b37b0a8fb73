internal import Consensus
internal import Foundation
internal import Logging
internal import Primitives
internal import Shards
internal import Storage

extension GroupSnapshotInstaller: SnapshotInstalling {
    func requestBytes() -> [UInt8] { self.request.encoded() }

    var received: (records: UInt64, recordsTotal: UInt64) {
        let progress = self.progress
        return (progress.records, progress.recordsTotal)
    }
}

extension SnapshotPuller {
    /// Fetches for `host` over `links` and installs into `applier`, whose store lies under `directory`.
    ///
    /// - Parameter storeFailed: Told when the store fails meanwhile: the node must stop serving.
    convenience init(
        host: RaftHost,
        links: PeerLinks,
        applier: ShardApplier,
        threads: StoreThreads,
        directory: String,
        metrics: PeerMetrics,
        logger: Logger,
        storeFailed: @escaping @Sendable (ConsensusError) -> Void
    ) {
        self.init(
            surroundings: Surroundings(
                installer: { try applier.snapshotInstaller(of: $0) },
                fetch: { try await links.fetchSnapshot(from: $0, $1, $2) },
                install: { try await host.install($0, $1, $2) },
                installFailed: { host.installFailed($0) },
                isHosted: { host.status(of: $0) != nil },
                freeBytes: { Self.freeBytes(at: directory) },
                storeFailed: storeFailed
            ),
            threads: threads,
            metrics: metrics,
            logger: logger
        )
    }

    /// Bytes that the file system of `directory` has for this process, nil when it does not say.
    static func freeBytes(at directory: String) -> UInt64? {
        let attributes = try? FileManager.default.attributesOfFileSystem(forPath: directory)
        return (attributes?[.systemFreeSize] as? NSNumber)?.uint64Value
    }
}
