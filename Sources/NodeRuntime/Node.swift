internal import Columnar
internal import Consensus
internal import Foundation
internal import HTTPTypes
internal import Laboratory
package import Logging
internal import NIOCore
internal import NIOPosix
internal import Primitives
internal import QueryRouter
internal import RocksStorage
internal import ServiceLifecycle
internal import Shards
internal import Storage
internal import Transport
internal import UnixSignals

/// One node of a cluster: opens what is on disk, joins its peers, serves clients, and stops in good order.
package enum Node {
    /// Where the node's own store lies below the data directory.
    static let storeFolder = "rocksdb"
    /// Where the Raft logs lie below the data directory.
    static let logFolder = "raft-log"
    /// Where the columnar stores lie below the data directory.
    static let columnarFolder = "columnar"
    /// Space for queries that do not fit in memory; wiped at start.
    static let temporaryFolder = "tmp"
    /// Where the query router's engine spills, below that.
    static let engineFolder = "router"

    /// Runs a node until SIGTERM or SIGINT; SIGHUP reloads its certificates.
    ///
    /// - Throws: ``NodeError`` when the node cannot start or must stop.
    package static func run(configuration: NodeConfiguration, logger: Logger) async throws {
        let ground = try await NodeGround.open(configuration, logger)
        let parts = try NodeParts(configuration: configuration, ground: ground, logger: logger)
        do {
            try await parts.run()
        } catch {
            await parts.close()
            throw error
        }
        await parts.close()
    }
}

/// A server as a service: graceful shutdown ends it when its streams are done.
struct ServerService: Service {
    let server: HTTPServer
    let logger: Logger
    let name: String

    func run() async throws {
        try await withGracefulShutdownHandler {
            try await self.server.run()
        } onGracefulShutdown: {
            self.logger.info("stopping", metadata: ["server": "\(self.name)"])
            self.server.beginGracefulShutdown()
        }
    }
}

/// Something that ends by itself, or is cancelled at graceful shutdown.
///
/// As a service it goes on until its turn at shutdown: the group takes the end of any other service in the middle of its
/// shutdown for a failure, whatever is configured for such ends.
struct OnceService: Service {
    let body: @Sendable () async throws -> Void

    func run() async throws {
        try await cancelWhenGracefulShutdown { try await self.body() }
        try? await gracefulShutdown()
    }
}

/// Something that runs until graceful shutdown, then is cancelled.
struct LoopService: Service {
    let body: @Sendable () async throws -> Void

    func run() async throws {
        try await cancelWhenGracefulShutdown { try await self.body() }
    }
}
