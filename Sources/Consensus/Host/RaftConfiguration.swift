/// Settings of a node's consensus; the same on every node of a cluster except for the limits.
package struct RaftConfiguration: Sendable {
    /// Time between two ticks; ``RaftHost/Ticks/manual`` ignores it.
    package var tickInterval: Duration = .milliseconds(50)
    /// Ticks between two heartbeats of a leader.
    package var heartbeatTicks = 2
    /// Ticks without a leader before a replica stands for election; each wait is drawn from this to twice this.
    package var electionTicks = 20
    /// Raises the wait of this node before it stands for election: 0 is best, each step adds half of `electionTicks`.
    /// Steers who leads; never changes a vote.
    package var electionPriority = 0
    /// Asks whether an election could be won before it starts one (Ongaro's thesis, section 9.6).
    package var preVote = true
    /// A leader steps down without a majority, and voters are true to a leader they hear (thesis section 6.2).
    package var checkQuorum = true
    /// A leader that is removed or made a learner becomes a follower.
    package var stepDownOnRemoval = true
    /// A new commit index travels with the next append or heartbeat, or at the next tick, not in a message of its own.
    package var lazyCommitPush = true
    /// Serves reads without a round while a lease holds. Assumes that over `electionTicks` ticks no two nodes' clocks
    /// drift apart by `leaseDriftTicks` or more. Needs `checkQuorum`.
    package var leaseReads = false
    /// Ticks by which a lease ends before the shortest election timeout.
    package var leaseDriftTicks = 4
    /// Reads that may wait for confirmation in one group; beyond it they are dropped.
    package var readsWaitingMax = 65_536
    /// Rounds of heartbeats that confirm reads and are under way at once; later reads share the next round.
    package var readRoundsMax = 4
    /// A replica that was removed and added again while it was away stops, for its host to begin it anew; off only in
    /// scenarios, which have no host.
    package var replacesSuperseded = true
    /// Scenarios only: messages are made by the input that causes them, each append is answered on its own.
    package var eagerMessages = false
    /// Scenarios only: entries may be given out to be applied in the same step that writes them.
    package var appliesUnpersisted = false
    /// Payload bytes of one append message; a single larger entry still travels, alone.
    package var messageBytesMax = 1 << 20
    /// Append messages on their way to one replica of one group.
    package var inflightMessagesMax = 128
    /// Payload bytes on their way to one replica of one group.
    package var inflightBytesMax = 16 << 20
    /// Bytes proposed and not yet applied in one group; beyond it proposals are `.overloaded`.
    package var uncommittedBytesMax = 64 << 20
    /// Bytes of one command.
    package var commandBytesMax = 8 << 20
    /// Bytes of commands that share one entry; a single larger command still gets its own.
    package var entryBatchBytesMax = 1 << 20
    /// Bytes handed to the applier and not yet applied, for one group.
    package var applyBacklogBytesMax = 32 << 20
    /// Bytes of recent entries that one group keeps in memory; older ones are read from the store.
    package var recentBytesMax = 8 << 20
    /// Requests (proposals, barriers) that may wait in a host's inbox; beyond it they are `.overloaded`.
    package var inboxRequestsMax = 65_536
    /// Bytes of peers' messages that may wait in a host's inbox; beyond it messages are dropped, as a network may.
    package var inboxMessageBytesMax = 256 << 20
    /// Raft threads of a node; a group belongs to thread `group % loopCount`.
    package var loopCount = 1
    /// Bytes of entries that a raft thread writes to the disk itself while nobody else writes; zero for never.
    package var inlineWriteBytesMax = 256 << 10
    /// Ticks without work after which a leader lets its group sleep; zero for never.
    package var hibernateTicks = 100
    /// Sleeping groups that are woken in one tick when a peer is lost or back.
    package var wakesPerTickMax = 256
    /// Entries that stay in the log behind what the state machine holds durably.
    package var logTailEntries = 10_000
    /// Bytes of entries that stay in the log, if the state machine holds them durably.
    package var logTailBytes = 16 << 20
    /// Entries that are kept for a slow replica; beyond it the replica needs a snapshot.
    package var logTailEntriesMax = 200_000
    /// Bytes of entries that are kept for a slow replica.
    package var logTailBytesMax = 256 << 20
    /// Waits for an applied index that one group may hold; beyond it they are `.overloaded`.
    package var applyWaitersMax = 65_536

    /// The largest `electionPriority`.
    package static let electionPriorityMax = 20

    package init() {}

    /// - Returns: What is wrong with the settings, or nil.
    package func validate() -> String? {
        if self.tickInterval <= .zero { return "tickInterval must be positive" }
        if self.heartbeatTicks < 1 { return "heartbeatTicks must be at least 1" }
        if self.electionTicks <= self.heartbeatTicks { return "electionTicks must be above heartbeatTicks" }
        if self.electionPriority < 0 || self.electionPriority > Self.electionPriorityMax {
            return "electionPriority must be from 0 to \(Self.electionPriorityMax)"
        }
        if self.leaseReads && !self.checkQuorum { return "leaseReads need checkQuorum" }
        if self.leaseReads && !(1..<self.electionTicks).contains(self.leaseDriftTicks) {
            return "leaseDriftTicks must be at least 1 and below electionTicks"
        }
        let sizes = [
            self.readsWaitingMax, self.readRoundsMax,
            self.messageBytesMax, self.inflightMessagesMax, self.inflightBytesMax, self.uncommittedBytesMax,
            self.commandBytesMax, self.entryBatchBytesMax, self.applyBacklogBytesMax, self.recentBytesMax,
            self.inboxRequestsMax, self.inboxMessageBytesMax, self.applyWaitersMax, self.loopCount,
            self.wakesPerTickMax,
            self.logTailEntries, self.logTailBytes, self.logTailEntriesMax, self.logTailBytesMax,
        ]
        if self.inlineWriteBytesMax < 0 || self.hibernateTicks < 0 { return "a limit must not be negative" }
        if sizes.contains(where: { $0 < 1 }) { return "every limit must be at least 1" }
        return nil
    }
}
