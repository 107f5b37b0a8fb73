internal import AuditLedger
internal import Foundation
internal import Laboratory
internal import Primitives
internal import Shards
internal import Storage

/// Reads stored records: here when this node has a replica of the organization, otherwise on a peer that has one.
struct RecordReader: Sendable {
    /// Which records are wanted.
    enum Selection: Sendable, Equatable {
        case sequences([SequenceNumber])
        /// Up to `limit` records from `from` on, upwards or downwards.
        case run(from: SequenceNumber, limit: Int, isDescending: Bool)
    }

    /// Records, and the size of the ledger that was read.
    struct Page: Sendable {
        var records: [StoredRecord]
        var size: UInt64
    }

    /// Why nothing could be read.
    struct Unavailable: CausedError, CustomStringConvertible {
        let organization: OrganizationKey
        let cause: (any Error)?
        var description: String { "no replica of organization \(self.organization) can be read now" }
    }

    let node: NodeID
    let placement: Placement
    let applier: ShardApplier
    let store: any KeyValueStore
    let threads: StoreThreads
    let reads: ReadGate
    let links: PeerLinks
    let timeout: Duration

    /// - Parameter isLatest: Everything acknowledged before the call is seen; records that are here already are read without asking anyone.
    /// - Throws: ``Unavailable``, ``LedgerError``, ``ReadGate/Failure``.
    func read(_ selection: Selection, of entry: OrganizationEntry, isLatest: Bool) async throws -> Page {
        if self.placement.servesHere(entry) {
            do {
                if isLatest, !self.holdsAll(selection, of: entry.id) { try await self.reads.linearize(entry.group) }
                let page = try await self.readHere(selection, of: entry.id)
                // A replica that goes elsewhere meanwhile leaves an empty ledger behind.
                if self.placement.servesHere(entry) { return page }
            } catch ReadGate.Failure.notHosted {
                // Another node has it now.
            }
        }
        var request = WireRecordsRequest()
        request.organization = entry.id.rawValue
        request.key = entry.key.rawValue
        request.latest = isLatest
        switch selection {
        case .sequences(let sequences): request.sequences = sequences.map(\.rawValue)
        case .run(let from, let limit, let isDescending):
            request.from = from.rawValue
            request.limit = UInt32(limit)
            request.descending = isDescending
        }
        var failure: (any Error)?
        for peer in self.placement.others(of: entry.group) where self.links.isConnected(to: peer) {
            do {
                let response: WireRecordsResponse = try await self.links.call(
                    PeerPath.records,
                    of: peer,
                    request,
                    timeout: self.timeout
                )
                guard !response.hasFailure else {
                    throw PeerError(code: .interrupted, peer: peer, message: response.failure.message, cause: nil)
                }
                let records = response.records.map {
                    StoredRecord(sequence: SequenceNumber($0.sequence), bytes: [UInt8]($0.bytes))
                }
                return Page(records: records, size: response.size)
            } catch {
                failure = error
            }
        }
        throw Unavailable(organization: entry.key, cause: failure)
    }

    /// Records never change, so what is here is right whatever else was acknowledged.
    private func holdsAll(_ selection: Selection, of organization: OrganizationID) -> Bool {
        guard case .sequences(let sequences) = selection, let head = self.applier.knownHead(of: organization) else {
            return false
        }
        return sequences.allSatisfy { $0 <= head.lastSequence }
    }

    private func readHere(_ selection: Selection, of organization: OrganizationID) async throws -> Page {
        let store = self.store
        return try await self.threads.run { try Self.read(selection, of: organization, in: store.snapshot()) }
    }

    private static func read(
        _ selection: Selection,
        of organization: OrganizationID,
        in snapshot: any KeyValueReader
    ) throws -> Page {
        let reader = LedgerReader(store: snapshot, organization: organization)
        let size = try reader.head().size
        switch selection {
        case .sequences(let sequences):
            var records: [StoredRecord] = []
            for sequence in sequences {
                guard let bytes = try reader.record(at: sequence) else { continue }
                records.append(StoredRecord(sequence: sequence, bytes: bytes))
            }
            return Page(records: records, size: size)
        case .run(let from, let limit, false):
            return Page(records: try reader.records(from: from, limit: limit), size: size)
        case .run(let from, let limit, true):
            let last = min(from.rawValue, size)
            guard last >= 1 else { return Page(records: [], size: size) }
            let first = last > UInt64(limit) ? last - UInt64(limit) + 1 : 1
            let count = Int(last - first + 1)
            let records = try reader.records(from: SequenceNumber(first), limit: count, bytesMax: Int.max)
            return Page(records: records.reversed(), size: size)
        }
    }

    /// Answers a peer's request from this node's replica.
    func answer(_ request: WireRecordsRequest) async -> WireRecordsResponse {
        let organization = OrganizationID(request.organization)
        var response = WireRecordsResponse()
        guard let entry = OrganizationKey(request.key).flatMap({ self.applier.directory.organization($0) }),
            entry.id == organization, self.placement.servesHere(entry)
        else {
            response.failure = PeerFailureCode.notHosted.wire("node \(self.node) has no replica to read now")
            return response
        }
        do {
            if request.latest { try await self.reads.linearize(entry.group) }
            let selection: Selection =
                request.sequences.isEmpty
                ? .run(from: SequenceNumber(request.from), limit: Int(request.limit), isDescending: request.descending)
                : .sequences(request.sequences.map { SequenceNumber($0) })
            let page = try await self.readHere(selection, of: organization)
            guard self.placement.servesHere(entry) else { throw ReadGate.Failure.notHosted }
            response.size = page.size
            response.records = page.records.map { record in
                var wire = WireStoredRecord()
                wire.sequence = record.sequence.rawValue
                wire.bytes = Data(record.bytes)
                return wire
            }
        } catch {
            response.failure = PeerFailureCode.failed.wire(errorChain(error))
        }
        return response
    }
}
