internal import AuditLedger
internal import Consensus
internal import Foundation
internal import NIOCore
internal import Primitives
internal import RocksStorage
internal import Shards
internal import Storage

/// A ledger of one organization in RocksDB, grown by the code by which a node applies committed entries.
final class LedgerFolder {
    static let organization = OrganizationID(7)
    static let key = "bench-ledger"
    private static let group = GroupID(1)
    /// Distinct events, used in turns.
    private static let draftsCount = 4_096

    let store: RocksStore
    private let applier: ShardApplier
    private let drafts: [EventDraft]
    private var index: LogIndex
    /// The number of the next event.
    private var turn: Int
    /// The leader's clock in microseconds, which goes on by one an entry.
    private var time: Int64

    /// Opens a ledger, or begins one.
    /// - Parameter eventBytes: Size of one event as a client would send it.
    init(path: String, eventBytes: Int, firstEvent: Int = 0, faults: ApplierFaults = []) throws {
        self.store = try RocksStore.open(path: path)
        self.applier = try ShardApplier(store: self.store, lanes: [InlineLane()], faults: faults)
        self.drafts = try Self.makeDrafts(eventBytes)
        self.turn = firstEvent
        self.index = try self.applier.appliedState(of: Self.group).index
        self.time = 1_790_000_000_000_000 + Int64(self.index.rawValue)
    }

    private static func makeDrafts(_ eventBytes: Int) throws -> [EventDraft] {
        let context = EventContext(
            organization: try self.organizationKey(),
            request: RequestInfo(id: "bench", channel: .api, authentication: "bearer"),
            defaultActor: nil
        )
        let maker = EventMaker(sizeBytes: eventBytes)
        return try (0..<self.draftsCount).map { number in
            var text = ByteBuffer()
            maker.write(UInt64(number), into: &text)
            return try EventDraft.parse(Array(text.readableBytesView), defaults: context)
        }
    }

    static func organizationKey() throws -> OrganizationKey {
        guard let key = OrganizationKey(self.key) else { throw BenchError(.badInput, "\(self.key) is no key") }
        return key
    }

    /// Appends records in commands of `batch`, of which up to `commandsPerTurn` share a batch of the store. What fills
    /// memory tables is flushed by the applier itself.
    func append(_ records: Int, batch: Int, commandsPerTurn: Int) throws {
        var left = records
        while left > 0 {
            let count = min(left, batch * commandsPerTurn)
            try self.apply(try self.prepare(count, batch: batch, commandsPerTurn: commandsPerTurn))
            left -= count
        }
    }

    /// One committed entry with one command.
    private func entry(_ count: Int) throws -> CommittedEntry {
        var drafts: [EventDraft] = []
        drafts.reserveCapacity(count)
        for _ in 0..<count {
            drafts.append(self.drafts[self.turn % self.drafts.count])
            self.turn += 1
        }
        self.index = self.index.next
        self.time += 1
        var command = Command.append(
            AppendCommand(organization: Self.organization, idempotency: nil, drafts: drafts)
        ).encoded()
        try Command.stamp(&command, at: Timestamp(microseconds: self.time))
        return CommittedEntry(index: self.index, term: Term(1), commands: [command[...]])
    }

    /// Entries for ``apply(_:)``, so that making them is no part of a measurement.
    func prepare(_ records: Int, batch: Int, commandsPerTurn: Int) throws -> [GroupEntries] {
        var turns: [GroupEntries] = []
        var left = records
        while left > 0 {
            var entries: [CommittedEntry] = []
            while left > 0, entries.count < commandsPerTurn {
                entries.append(try self.entry(min(batch, left)))
                left -= min(batch, left)
            }
            turns.append(GroupEntries(group: Self.group, entries: entries))
        }
        return turns
    }

    func apply(_ turns: [GroupEntries]) throws {
        for turn in turns { _ = try self.applier.apply([turn]) }
    }

    func flush() throws { try self.applier.flush() }

    func reader() throws -> LedgerReader {
        LedgerReader(store: try self.store.snapshot(), organization: Self.organization)
    }
}
