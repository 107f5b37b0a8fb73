package import Primitives
internal import Synchronization

/// One group's replica on this node: what the threads of the host share about it.
///
/// Another object for each life of a replica: notes that come late for an earlier life are told by identity.
package final class GroupReplica: Sendable {
    private struct Wait: Sendable {
        let index: LogIndex
        let waiter: Waiter<LogIndex>
    }

    private struct State: Sendable {
        var mark: SnapshotMark
        var waits: [Wait] = []
        var isClosed = false
    }

    package let group: GroupID
    /// Where its entries are applied.
    package let lane: LaneQueue
    /// As the raft thread left it after its last turn; `applied` may be older than ``appliedMark``.
    let published: Mutex<GroupStatus>
    private let state: Mutex<State>
    private let waitsMax: Int

    init(status: GroupStatus, mark: SnapshotMark, lane: LaneQueue, waitsMax: Int) {
        self.group = status.group
        self.lane = lane
        self.waitsMax = waitsMax
        self.published = Mutex(status)
        self.state = Mutex(State(mark: mark))
    }

    /// How far the state machine is, and the membership there; changes on the lane only.
    package var appliedMark: SnapshotMark { self.state.withLock { $0.mark } }

    /// The replica was removed or the host ended: nothing is applied any more.
    package var isClosed: Bool { self.state.withLock { $0.isClosed } }

    package var status: GroupStatus {
        let applied = self.appliedMark.index
        return self.published.withLock { published in
            var status = published
            status.applied = max(status.applied, applied)
            return status
        }
    }

    /// The effects up to `mark` are in the state machine.
    func didApply(_ mark: SnapshotMark) {
        let due: [Wait] = self.state.withLock { state in
            precondition(mark.index > state.mark.index, "the applied index never goes back")
            state.mark = mark
            if state.waits.isEmpty { return [] }
            let due = state.waits.filter { $0.index <= mark.index }
            if !due.isEmpty { state.waits.removeAll { $0.index <= mark.index } }
            return due
        }
        for wait in due { wait.waiter.answer(.success(wait.index)) }
    }

    /// On the lane: switches the state to a snapshot, unless it is there already.
    /// - Returns: Why nothing was switched.
    package func install(_ mark: SnapshotMark, _ switchState: () throws -> Void) -> ProposalError? {
        if self.isClosed { return ProposalError(code: .stopped, message: "the replica has stopped") }
        guard self.appliedMark.index < mark.index else {
            return ProposalError(code: .staleSnapshot, message: "the replica is at the snapshot or after it")
        }
        do {
            try switchState()
        } catch {
            return ProposalError(code: .failed, message: "the state could not be switched", cause: error)
        }
        self.didApply(mark)
        return nil
    }

    /// Answers `waiter` with `index` when the effects up to it are in the state machine.
    func wait(for index: LogIndex, _ waiter: Waiter<LogIndex>) {
        let answer: Waiter<LogIndex>.Answer? = self.state.withLock { state in
            if state.mark.index >= index { return .success(index) }
            if state.isClosed { return .failure(ProposalError(code: .stopped, message: "the replica has stopped")) }
            if state.waits.count >= self.waitsMax { state.waits.removeAll { $0.waiter.isAnswered } }
            if state.waits.count >= self.waitsMax {
                return .failure(ProposalError(code: .overloaded, message: "\(self.waitsMax) waits are pending"))
            }
            state.waits.append(Wait(index: index, waiter: waiter))
            return nil
        }
        if let answer { waiter.answer(answer) }
    }

    /// Fails the waits of now and later; the group has no role here any more.
    func close() {
        self.published.withLock { status in
            status.role = .follower
            status.leader = nil
            status.replicas = []
        }
        let waits = self.state.withLock { state in
            state.isClosed = true
            defer { state.waits = [] }
            return state.waits
        }
        for wait in waits { wait.waiter.fail(.stopped, "the replica has stopped") }
    }
}

/// A lane has applied entries of a replica.
package struct AppliedNote: Sendable {
    package let replica: GroupReplica
    package let index: LogIndex
    /// The raft thread should hear of it soon: a membership changed, or much waited to be applied.
    package let isUrgent: Bool
}
