internal import Primitives
package import Storage
internal import Synchronization

/// Committed entries of all groups of one lane that wait to be applied.
///
/// A turn takes everything that waits, gives it to the applier in one call, and answers the waiters. Turns run on the
/// lane, one at a time; whoever adds work schedules one when ``add(_:)`` says so.
package final class LaneQueue: Sendable {
    /// Consecutive committed entries of one group, and who waits for their results.
    struct Work: Sendable {
        let replica: GroupReplica
        let entries: [LogEntry]
        /// What each membership entry among them led to, ascending by index.
        let memberships: [CommittedMembership]
        /// Ascending by index.
        let waiters: [EntryWaiters]
    }

    /// Who waits for one entry.
    struct EntryWaiters: Sendable {
        enum Kind: Sendable {
            /// One for each command of the entry.
            case commands([Waiter<[UInt8]>])
            case membership(Waiter<Membership>)
        }

        let index: LogIndex
        let kind: Kind

        func fail(_ code: ProposalError.Code, _ message: String, cause: (any Error)? = nil) {
            switch self.kind {
            case .commands(let waiters): for waiter in waiters { waiter.fail(code, message, cause: cause) }
            case .membership(let waiter): waiter.fail(code, message, cause: cause)
            }
        }
    }

    private struct State: Sendable {
        var pending: [Work] = []
        var isScheduled = false
    }

    /// What one turn does for one group.
    private struct Part {
        let replica: GroupReplica
        var mark: SnapshotMark
        var entries: [CommittedEntry] = []
        var waiters: [EntryWaiters] = []
        var refusals: [(index: LogIndex, error: MembershipError)] = []
        var bytes = 0
        var hasMembership = false
    }

    package let lane: any ApplyLane
    private let urgentBytes: Int
    private let turnBytesMax: Int
    private let state = Mutex(State())

    /// - Parameters:
    ///   - urgentBytes: A turn that applied this much of a group tells the raft thread at once.
    ///   - turnBytesMax: Bytes of entries after which a turn ends; a single larger work still goes alone.
    package init(lane: any ApplyLane, urgentBytes: Int = 1 << 20, turnBytesMax: Int = 8 << 20) {
        self.lane = lane
        self.urgentBytes = urgentBytes
        self.turnBytesMax = turnBytesMax
    }

    package var isIdle: Bool { self.state.withLock { !$0.isScheduled } }

    /// Whether a turn would be short, going by the bytes of the entries that wait.
    func hasAtMost(bytes bytesMax: Int) -> Bool {
        self.state.withLock { state in
            var bytes = 0
            for work in state.pending {
                for entry in work.entries { bytes += entry.costBytes }
                if bytes > bytesMax { return false }
            }
            return true
        }
    }

    /// - Returns: Whether a turn must be scheduled on the lane.
    func add(_ work: Work) -> Bool {
        self.state.withLock { state in
            state.pending.append(work)
            defer { state.isScheduled = true }
            return !state.isScheduled
        }
    }

    /// Ends the lane's turn when nothing waits.
    /// - Returns: Whether another turn must be scheduled.
    package func hasMoreWork() -> Bool {
        self.state.withLock { state in
            state.isScheduled = !state.pending.isEmpty
            return state.isScheduled
        }
    }

    private func take() -> [Work] {
        self.state.withLock { state in
            var bytes = 0
            var count = 0
            for work in state.pending {
                if count > 0, bytes >= self.turnBytesMax { break }
                for entry in work.entries { bytes += entry.costBytes }
                count += 1
            }
            if count == state.pending.count {
                defer { state.pending = [] }
                return state.pending
            }
            defer { state.pending.removeFirst(count) }
            return Array(state.pending[..<count])
        }
    }

    /// Applies what waits, in one call of the applier.
    /// - Returns: For each group how far it is now, in the order in which the groups came up.
    /// - Throws: ``ConsensusError``; everybody whose entries were in the turn was told.
    package func turn(with applier: any CommandApplier) throws(ConsensusError) -> [AppliedNote] {
        let works = self.take()
        if works.isEmpty { return [] }
        var parts: [Part] = []
        do throws(ConsensusError) {
            parts = try Self.parts(of: works)
            if parts.isEmpty { return [] }
            let work = parts.map { GroupEntries(group: $0.replica.group, entries: $0.entries) }
            let results: [[[UInt8]]]
            do {
                results = try applier.apply(work)
            } catch {
                let first = parts[0].replica.group
                throw ConsensusError(code: .applier, message: "the applier failed", group: first, cause: error)
            }
            try Self.check(results, of: parts)
            var notes: [AppliedNote] = []
            notes.reserveCapacity(parts.count)
            for (place, part) in parts.enumerated() {
                // First the mark, so that who gets an answer finds its effects.
                part.replica.didApply(part.mark)
                Self.answer(part, results: results[place])
                let isUrgent = part.hasMembership || part.bytes >= self.urgentBytes
                notes.append(AppliedNote(replica: part.replica, index: part.mark.index, isUrgent: isUrgent))
            }
            return notes
        } catch {
            for work in works {
                for waiting in work.waiters { waiting.fail(.failed, "the node failed", cause: error) }
            }
            throw error
        }
    }

    /// Answers the waiters of work that will not be applied, as the host failed.
    package func abandon(cause: ConsensusError) {
        while true {
            let works = self.take()
            if works.isEmpty { return }
            for work in works {
                for waiting in work.waiters { waiting.fail(.failed, "the node failed", cause: cause) }
            }
        }
    }

    // MARK: - Parts of a turn

    private static func parts(of works: [Work]) throws(ConsensusError) -> [Part] {
        var parts: [Part] = []
        var places: [ObjectIdentifier: Int] = [:]
        for work in works {
            let id = ObjectIdentifier(work.replica)
            if let place = places[id] {
                try Self.add(work, to: &parts[place])
                continue
            }
            if work.replica.isClosed {
                for waiting in work.waiters { waiting.fail(.outcomeUnknown, "the replica was removed") }
                continue
            }
            places[id] = parts.count
            parts.append(Part(replica: work.replica, mark: work.replica.appliedMark))
            try Self.add(work, to: &parts[parts.count - 1])
        }
        parts.removeAll { $0.entries.isEmpty }
        return parts
    }

    private static func add(_ work: Work, to part: inout Part) throws(ConsensusError) {
        let installed = part.mark.index
        for entry in work.entries {
            // A snapshot was installed meanwhile.
            if entry.index <= installed { continue }
            precondition(entry.index == part.mark.index.next, "entries are applied without a gap")
            part.entries.append(try Self.decode(entry, of: work, to: &part))
            part.mark.index = entry.index
            part.mark.term = entry.term
            part.bytes += entry.costBytes
        }
        for waiting in work.waiters {
            if waiting.index > installed {
                part.waiters.append(waiting)
            } else {
                waiting.fail(.outcomeUnknown, "a snapshot came before the result")
            }
        }
    }

    private static func decode(
        _ entry: LogEntry,
        of work: Work,
        to part: inout Part
    ) throws(ConsensusError) -> CommittedEntry {
        do throws(MalformedBytes) {
            switch entry.kind {
            case .empty: return CommittedEntry(index: entry.index, term: entry.term, commands: [])
            case .commands:
                let commands = try CommandBatch.decode(entry.payload)
                return CommittedEntry(index: entry.index, term: entry.term, commands: commands)
            case .membership:
                guard let found = work.memberships.first(where: { $0.index == entry.index }) else {
                    throw MalformedBytes(what: "membership entry", offset: 0)
                }
                part.hasMembership = true
                part.mark.membership = found.membership
                if let refusal = found.refusal { part.refusals.append((entry.index, refusal)) }
                let membership = found.membership
                return CommittedEntry(index: entry.index, term: entry.term, commands: [], membership: membership)
            }
        } catch {
            throw ConsensusError(
                code: .corruption,
                message: "a committed entry is malformed",
                group: part.replica.group,
                index: entry.index,
                cause: error
            )
        }
    }

    private static func check(_ results: [[[UInt8]]], of parts: [Part]) throws(ConsensusError) {
        guard results.count == parts.count else {
            let message = "the applier gave results for \(results.count) of \(parts.count) groups"
            throw ConsensusError(code: .applier, message: message)
        }
        for (place, part) in parts.enumerated() {
            var count = 0
            for entry in part.entries { count += entry.commands.count }
            guard results[place].count == count else {
                let message = "the applier gave \(results[place].count) results for \(count) commands"
                throw ConsensusError(
                    code: .applier,
                    message: message,
                    group: part.replica.group,
                    index: part.mark.index
                )
            }
        }
    }

    private static func answer(_ part: Part, results: [[UInt8]]) {
        if part.waiters.isEmpty { return }
        var next = 0
        var offset = 0
        for entry in part.entries {
            if next == part.waiters.count { return }
            if part.waiters[next].index == entry.index {
                switch part.waiters[next].kind {
                case .commands(let waiters):
                    precondition(waiters.count == entry.commands.count, "one waiter for each command")
                    for (number, waiter) in waiters.enumerated() { waiter.answer(.success(results[offset + number])) }
                case .membership(let waiter):
                    if let refusal = part.refusals.first(where: { $0.index == entry.index }) {
                        waiter.fail(.refusedChange, "the change does not fit the membership", cause: refusal.error)
                    } else if let membership = entry.membership {
                        waiter.answer(.success(membership))
                    }
                }
                next += 1
            }
            offset += entry.commands.count
        }
        precondition(next == part.waiters.count, "every waiter's entry was applied")
    }
}
