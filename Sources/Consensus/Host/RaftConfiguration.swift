/// Settings of a node's consensus; the same on every node of a cluster except for the limits.
package struct RaftConfiguration: Sendable {
    /// Time between two ticks; ``RaftHost/Ticks/manual`` ignores it.
    package var tickInterval: Duration = .milliseconds(50)
    /// Ticks between two heartbeats of a leader.
    package var heartbeatTicks = 2
    /// Ticks without a leader before a replica stands for election; each wait is drawn from this to twice this.
    package var electionTicks = 20
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
    /// Waits for an applied index that one group may hold; beyond it they are `.overloaded`.
    package var applyWaitersMax = 65_536

    package init() {}

    /// - Returns: What is wrong with the settings, or nil.
    package func validate() -> String? {
        if self.tickInterval <= .zero { return "tickInterval must be positive" }
        if self.heartbeatTicks < 1 { return "heartbeatTicks must be at least 1" }
        if self.electionTicks <= self.heartbeatTicks { return "electionTicks must be above heartbeatTicks" }
        let sizes = [
            self.messageBytesMax, self.inflightMessagesMax, self.inflightBytesMax, self.uncommittedBytesMax,
            self.commandBytesMax, self.entryBatchBytesMax, self.applyBacklogBytesMax, self.recentBytesMax,
            self.inboxRequestsMax, self.inboxMessageBytesMax, self.applyWaitersMax,
        ]
        if sizes.contains(where: { $0 < 1 }) { return "every limit must be at least 1" }
        return nil
    }
}
