internal import Primitives

/// What only the raft thread knows of a group.
final class GroupSlot {
    /// An entry that this node proposed and whose fate is not yet known.
    struct Pending {
        let index: LogIndex
        let term: Term
        let waiters: LaneQueue.EntryWaiters
        /// The tick at which nobody waits for it any more, as leadership was lost.
        var deadline: UInt64?
    }

    /// Reads that share one answer of the core.
    struct ReadBatch {
        let token: UInt64
        let reads: [Inbox.Read]
    }

    /// What callers of other threads see of the core.
    struct Published: Equatable {
        let role: RaftRole
        let leader: NodeID?
        let term: Term
        let commit: LogIndex
        let applied: LogIndex
        let first: LogIndex
        let last: LogIndex
        let isAsleep: Bool
        let isInstalling: Bool
    }

    var core: RaftCore
    let replica: GroupReplica
    let group: GroupID

    var seen: Published?
    var isTouched = false
    /// The applied membership has no longer had this node since this index; a later entry may have added it again.
    var goneAt: LogIndex?
    /// In the loop's list of awake groups.
    var awakePlace: Int?
    /// Ticks since something last happened that was not a heartbeat.
    var quietTicks = 0

    /// Commands that wait to be proposed, so that they share an entry.
    var commands: [[UInt8]] = []
    var commandBytes = 0
    var commandWaiters: [Waiter<[UInt8]>] = []
    /// Ascending by index.
    var pending: [Pending] = []
    var hasOrphans = false

    /// Reads that wait for the next turn's question.
    var reads: [Inbox.Read] = []
    var readBatches: [ReadBatch] = []

    /// Who waits for the end of a transfer of leadership.
    var transfers: [(to: NodeID, waiter: Waiter<Void>)] = []
    var isTransferring = false
    /// Until this tick commands wait to learn who leads after a transfer.
    var handOverDeadline: UInt64?

    var tail = LogTail()
    var isInstalling = false
    /// The replica ends after this turn, as removed at this index.
    var removedAt: LogIndex?

    init(core: RaftCore, replica: GroupReplica) {
        self.core = core
        self.replica = replica
        self.group = replica.group
    }

    /// Keeps ``pending`` ascending by index; out of order only after leadership was lost and won again.
    func addPending(_ entry: Pending) {
        var place = self.pending.count
        while place > 0, self.pending[place - 1].index > entry.index { place -= 1 }
        self.pending.insert(entry, at: place)
    }
}
