internal import Foundation
internal import NIOCore
internal import NIOFoundationCompat
internal import Primitives
internal import SwiftProtobuf
internal import Transport

extension PeerLinks {
    /// How long a peer may take to begin with a snapshot: it waits for the group's lane.
    static let snapshotBeginTimeout = Duration.seconds(30)

    /// Asks for a snapshot on a connection of its own and hands on what comes, to the end.
    /// - Throws: ``PeerError``, and what `take` throws.
    func fetchSnapshot(
        from peer: NodeID,
        _ request: WireSnapshotRequest,
        _ take: (ByteBuffer) async throws -> Void
    ) async throws {
        guard let known = self.peer(peer) else {
            throw PeerError(code: .unreachable, peer: peer, message: "node \(peer) is not known", cause: nil)
        }
        let data: Data = try request.serializedBytes()
        try await self.withConnection(to: known) { connection in
            let response = try await withTimeLimit(Self.snapshotBeginTimeout, "a snapshot from node \(peer)") {
                try await self.execute(
                    PeerPath.snapshot,
                    on: connection,
                    of: known,
                    ByteBuffer(data: data),
                    timeout: nil
                )
            }
            for try await bytes in response.body { try await take(bytes) }
        }
    }
}
