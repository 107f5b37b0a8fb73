internal import Consensus
internal import Primitives
internal import Storage

/// The smallest state machine of all groups of a node: where it stands, and a hash over everything applied.
struct BareStates {
    struct State: Equatable {
        var index = LogIndex.zero
        var term = Term.zero
        var hash: UInt64 = 0
        var membership: Membership?
    }

    private final class Durable {
        var indices: [GroupID: LogIndex] = [:]
        var written: [GroupID: LogIndex] = [:]
    }

    let store: FaultInjectingStore
    private let durable = Durable()

    init(store: FaultInjectingStore) { self.store = store }

    private static func key(_ group: GroupID) -> [UInt8] {
        var writer = ByteWriter()
        writer.write(group.rawValue)
        return writer.bytes
    }

    func state(of group: GroupID) throws -> State {
        guard let bytes = try self.store.get(Self.key(group), in: .groupState) else { return State() }
        var reader = ByteReader(bytes)
        var state = State()
        state.index = LogIndex(try reader.read())
        state.term = Term(try reader.read())
        state.hash = try reader.read()
        let rest = Array(reader.readRest())
        state.membership = rest.isEmpty ? nil : try Membership(bytes: rest)
        return state
    }

    private func put(_ state: State, group: GroupID) throws {
        var writer = ByteWriter()
        writer.write(state.index.rawValue)
        writer.write(state.term.rawValue)
        writer.write(state.hash)
        if let membership = state.membership { writer.write(raw: membership.encoded()) }
        var batch = WriteBatch()
        batch.put(.groupState, key: Self.key(group), value: writer.bytes)
        try self.store.write(batch, durability: .unlogged)
        self.durable.written[group] = state.index
    }

    func apply(_ entries: [LogEntry], group: GroupID, membership: Membership?) throws {
        var state = try self.state(of: group)
        for entry in entries {
            state.index = entry.index
            state.term = entry.term
            for byte in entry.payload { state.hash = (state.hash ^ UInt64(byte)) &* 0x0000_0100_0000_01B3 }
        }
        if let membership { state.membership = membership }
        try self.put(state, group: group)
    }

    func install(_ state: State, _ mark: SnapshotMark, group: GroupID) throws {
        try self.put(State(index: mark.index, term: mark.term, hash: state.hash, membership: mark.membership), group: group)
        try self.flush()
    }

    func flush() throws {
        let written = self.durable.written
        try self.store.flush()
        self.durable.indices = written
    }

    func durableApplied(of group: GroupID) -> LogIndex { self.durable.indices[group] ?? .zero }
}
