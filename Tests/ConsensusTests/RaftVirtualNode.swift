internal import Consensus
internal import Primitives
internal import Synchronization

/// The durable part of a virtual node: survives a crash, and is what its core reads older entries from.
final class VirtualDisk: LogReader {
    struct State {
        var hardState = HardState()
        var base = LogIndex.zero
        var baseTerm = Term.zero
        /// Those after the base.
        var entries: [LogEntry] = []
        var commit = LogIndex.zero
        /// The state machine: all applied entries in order.
        var applied: [LogEntry] = []
        var membership = Membership(voters: [])
        var reads = 0

        var last: LogIndex { LogIndex(self.base.rawValue + UInt64(self.entries.count)) }
        var appliedIndex: LogIndex { self.applied.last?.index ?? .zero }
        var appliedTerm: Term { self.applied.last?.term ?? .zero }
    }

    let state = Mutex(State())

    func entries(
        from first: LogIndex,
        through last: LogIndex,
        bytesMax: Int
    ) throws(ConsensusError) -> [LogEntry] {
        let found: [LogEntry] = self.state.withLock { state in
            state.reads += 1
            var bytes = 0
            var found: [LogEntry] = []
            for entry in state.entries where entry.index >= first && entry.index <= last {
                bytes += entry.payload.count
                if !found.isEmpty, bytes > bytesMax { break }
                found.append(entry)
            }
            return found
        }
        for (offset, entry) in found.enumerated() where entry.index.rawValue != first.rawValue + UInt64(offset) {
            throw ConsensusError(code: .hole, message: "the virtual disk lacks an entry", index: first)
        }
        if found.isEmpty { throw ConsensusError(code: .hole, message: "the virtual disk lacks an entry", index: first) }
        return found
    }

    func write(_ ready: Ready) {
        self.state.withLock { state in
            if let hardState = ready.hardState { state.hardState = hardState }
            if let mark = ready.resetLog {
                state.base = mark.index
                state.baseTerm = mark.term
                state.entries = []
            }
            if let from = ready.truncateFrom { state.entries.removeAll { $0.index >= from } }
            // What was compacted meanwhile stays away.
            state.entries.append(contentsOf: ready.entries.filter { $0.index > state.base })
            state.commit = ready.commit
        }
    }

    func compact(through index: LogIndex, term: Term) {
        self.state.withLock { state in
            guard index > state.base, index <= state.last else { return }
            state.entries.removeAll { $0.index <= index }
            state.base = index
            state.baseTerm = term
        }
    }

    func holds(_ index: LogIndex, _ term: Term) -> Bool {
        self.state.withLock { state in
            // What the base covers is committed and in the state machine.
            if index <= state.base { return true }
            guard index <= state.last else { return false }
            return state.entries[Int(index.rawValue - state.base.rawValue) - 1].term == term
        }
    }

    var restored: RestoredReplica {
        self.state.withLock { state in
            var terms = TermRuns(base: state.base, term: state.baseTerm)
            for entry in state.entries { terms.append(entry.term) }
            return RestoredReplica(
                hardState: state.hardState,
                terms: terms,
                commit: max(state.base, min(state.commit, terms.last)),
                applied: state.appliedIndex,
                appliedTerm: state.appliedTerm,
                membership: state.membership
            )
        }
    }

    /// Makes the replica blank but for its hard state, as a host does that removes it.
    func blank() {
        self.state.withLock { state in
            let hardState = state.hardState
            state = State()
            state.hardState = hardState
        }
    }
}

/// One node: its core while it runs, its disk, and work that is under way.
final class VirtualNode {
    struct Work {
        let entries: [LogEntry]
        let memberships: [CommittedMembership]
    }

    let id: NodeID
    let disk = VirtualDisk()
    var core: RaftCore?
    /// Writes that have begun and are not durable.
    var writes: [Ready] = []
    /// Committed entries that are not applied.
    var toApply: [Work] = []
    /// A snapshot that is to be fetched.
    var install: OfferedSnapshot?
    /// Proposals accepted by the running core and not yet answered.
    var openTokens: Set<UInt64> = []
    /// Reads of the running core and what they must see at least.
    var openReads: [UInt64: LogIndex] = [:]
    /// The replica was removed by the entry at this index; it begins anew for a later session.
    var removedAt: LogIndex?
    /// The session for which the replica began anew, as far as it knew then.
    var session = LogIndex.zero
    /// What is left of a life that a removal ended; durable.
    var formerLife: FormerLife?
    var lastTerm = Term.zero
    var lastCommit = LogIndex.zero

    init(id: NodeID) { self.id = id }

    var applied: [LogEntry] { self.disk.state.withLock { $0.applied } }
    var membership: Membership { self.disk.state.withLock { $0.membership } }
    /// What was applied, as text.
    var text: String {
        String(decoding: self.applied.filter { $0.kind == .commands }.flatMap(\.payload), as: UTF8.self)
    }

    func loseMemory() {
        self.core = nil
        self.writes = []
        self.toApply = []
        self.install = nil
        self.openTokens = []
        self.openReads = [:]
    }
}
