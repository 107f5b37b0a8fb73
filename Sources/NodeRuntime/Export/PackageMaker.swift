internal import AuditLedger
internal import AuditPackage
internal import Foundation
internal import HTTPTypes
internal import Laboratory
internal import NIOCore
internal import Primitives
internal import Shards
internal import Storage
internal import SwiftProtobuf
internal import Synchronization
internal import Transport

/// Makes packages from this node's replica, or has a peer make them that has one.
struct PackageMaker: Sendable {
    /// How long the first byte of a peer's package may take to come.
    static let peerTimeout = Duration.seconds(30)

    let node: NodeID
    let directory: ShardDirectory
    let placement: Placement
    let store: any KeyValueStore
    let threads: StoreThreads
    let reads: ReadGate
    let links: PeerLinks
    let audit: NodeAudit
    let slots = ExportSlots()

    /// The package as a body; the slot is given back at its end.
    /// - Throws: ``Problem`` and what reading throws.
    func make(
        _ request: PackageRequest,
        of entry: OrganizationEntry,
        _ slot: ExportSlots.Slot
    ) async throws -> ServerResponse.Body {
        var failure: (any Error)?
        if self.placement.servesHere(entry.group) {
            do {
                return try await self.makeHere(request, of: entry, slot)
            } catch ReadGate.Failure.notHosted {
                // Another node has it now.
            }
        }
        let order = try PackageOrder(request, of: entry).message
        for peer in self.placement.others(of: entry.group) where self.links.isConnected(to: peer) {
            do {
                let response = try await self.links.open(
                    PeerPath.export,
                    of: peer,
                    order,
                    timeout: Self.peerTimeout
                )
                return .stream { writer in
                    defer { slot.giveBack() }
                    for try await chunk in response.body { try await writer.write(chunk) }
                    return nil
                }
            } catch {
                failure = error
            }
        }
        throw Problem(.shardUnavailable, "no replica of \(entry.key) can make the package now", cause: failure)
    }

    private func makeHere(
        _ order: PackageRequest,
        of entry: OrganizationEntry,
        _ slot: ExportSlots.Slot
    ) async throws -> ServerResponse.Body {
        try await self.reads.linearize(entry.group)
        var request = order
        request.node = "node-\(self.node)"
        request.manifestSigner = self.signer
        let (store, size) = (self.store, order.checkpoint.checkpoint.size)
        let finished = request
        let export = try await self.threads.run {
            let reader = LedgerReader(store: try store.snapshot(), organization: entry.id)
            guard try reader.head().size >= size else {
                throw Problem(.shardUnavailable, "this replica has not yet the records of the checkpoint")
            }
            return RunningExport(try PackageExport(finished, reader: reader))
        }
        // A replica that goes elsewhere meanwhile leaves an empty ledger behind.
        guard self.placement.servesHere(entry.group) else { throw ReadGate.Failure.notHosted }
        let threads = self.threads
        return .stream { writer in
            defer { slot.giveBack() }
            while let piece = try await threads.run({ try export.next() }) {
                var buffer = ByteBuffer(bytes: piece)
                while let chunk = buffer.readSlice(length: min(buffer.readableBytes, ExportService.chunkBytes)),
                    chunk.readableBytes > 0
                {
                    try await writer.write(chunk)
                }
            }
            return nil
        }
    }

    /// The node's key in use, for notes.
    private var signer: NoteSignerKey? {
        let usable = self.audit.keys.usable(in: self.audit.book.keys(of: self.node), at: SystemTime.now())
        return usable.first.flatMap { try? NoteSignerKey(name: $0.name, type: .ed25519, seed: $0.seed) }
    }

    /// Answers a peer that has no replica.
    func answer(_ body: ByteBuffer) async -> ServerResponse {
        do {
            let (request, entry) = try PackageOrder.read(body, directory: self.directory)
            guard self.placement.servesHere(entry.group) else { return ServerResponse(status: .serviceUnavailable) }
            let slot = try self.slots.take()
            return ServerResponse(status: .ok, body: try await self.makeHere(request, of: entry, slot))
        } catch {
            return ServerResponse(status: .serviceUnavailable)
        }
    }
}

/// An export under way, between one thread and the next.
private final class RunningExport: Sendable {
    private let export: Mutex<PackageExport>

    init(_ export: PackageExport) { self.export = Mutex(export) }

    func next() throws -> [UInt8]? { try self.export.withLock { try $0.next() } }
}

/// Bounds how many exports a node makes at once: each holds a snapshot of the store.
final class ExportSlots: Sendable {
    static let countMax = 4

    private let taken = Mutex(0)

    /// A place, given back once by whoever ends the export, or with its last reference.
    final class Slot: Sendable {
        private let owner: ExportSlots
        private let isBack = Mutex(false)

        fileprivate init(_ owner: ExportSlots) { self.owner = owner }

        func giveBack() {
            let isFirst = self.isBack.withLock { isBack in
                defer { isBack = true }
                return !isBack
            }
            if isFirst { self.owner.taken.withLock { $0 -= 1 } }
        }

        deinit { self.giveBack() }
    }

    /// - Throws: ``Problem`` `.overloaded`.
    func take() throws(Problem) -> Slot {
        let isFree = self.taken.withLock { taken in
            guard taken < Self.countMax else { return false }
            taken += 1
            return true
        }
        guard isFree else { throw Problem(.overloaded, "this node makes \(Self.countMax) exports already") }
        return Slot(self)
    }
}
