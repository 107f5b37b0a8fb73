package import Primitives

// Hibernation: a group without work costs nothing.
extension RaftCore {
    /// Goes to sleep with all live followers, if nothing is left to do and all of them hold and know the whole log.
    ///
    /// A sleeping replica ignores ticks; whoever gives them watches the leader's node in its stead and calls ``wake()``
    /// on its followers when it falls silent, and on the leader when a node returns.
    /// - Parameter live: The nodes that are up, this one included or not; those that are down do not hinder.
    /// - Returns: Whether the replica sleeps.
    package mutating func trySleep(live: [NodeID]) -> Bool {
        guard self.role == .leader, self.failure == nil else { return false }
        if self.isAsleep { return true }
        guard self.isAtRest || self.faults.contains(.sleepsWithWork) else { return false }
        let own = self.members.ownPlace
        guard self.members.isQuorum({ $0 == own || live.contains(self.members.nodes[$0]) }) else { return false }
        for place in self.members.nodes.indices where place != own && live.contains(self.members.nodes[place]) {
            let progress = self.members.progress[place]
            let isEqual = progress.state == .replicate && progress.match == self.log.last
            guard isEqual || self.faults.contains(.sleepsWithWork) else { return false }
        }
        self.beginBeat()
        self.sleepBeat = self.beat
        for place in self.members.nodes.indices where place != own && live.contains(self.members.nodes[place]) {
            self.sendHeartbeat(place: place, sleepAt: self.log.last)
        }
        // The voters' promise ends unnoticed while nobody counts ticks.
        self.reading.endLease()
        self.isAsleep = true
        return true
    }

    private var isAtRest: Bool {
        let last = self.log.last
        return !self.membership.isJoint && self.isMember && self.transferee == nil && self.reading.count == 0
            && self.proposals.isEmpty && self.sendWhenPersisted.isEmpty && !self.log.hasOutstanding
            && !self.log.hasUnhanded && self.log.persisted == last && self.commit == last && self.appliedIndex == last
            && self.commit >= self.firstOwnIndex && self.pendingMembershipIndex <= self.appliedIndex
    }

    /// Follows the leader into sleep if this replica has and knows all of its log.
    mutating func fallAsleep(at end: LogIndex) -> Bool {
        guard self.log.last == end, self.commit == end, self.installing == nil, self.reading.count == 0,
            self.failure == nil
        else { return false }
        self.isAsleep = true
        return true
    }

    /// Ends sleep: a leader sends heartbeats at once, a follower waits for its leader as if it had just heard it.
    package mutating func wake() {
        guard self.isAsleep else { return }
        self.isAsleep = false
        self.electionElapsed = 0
        if self.role == .leader {
            self.heartbeatElapsed = 0
            self.beginBeat()
            self.broadcastHeartbeat()
        } else {
            self.drawElectionTimeout()
        }
    }

    /// Wakes for a message that concerns this term or a later one.
    /// - Returns: False when the message is to be ignored.
    mutating func wakes(for message: RaftMessage) -> Bool {
        if message.term < self.term { return true }
        if message.term == self.term {
            switch message.body {
            case .heartbeat(let heartbeat) where heartbeat.sleepAt != nil && self.role == .follower:
                return true
            case .heartbeatResponse(let response) where self.role == .leader && response.beat < self.sleepBeat:
                return false
            case .appendAccepted(let acceptance) where self.role == .leader && acceptance.beat < self.sleepBeat:
                return false
            default: break
            }
        }
        self.wake()
        return true
    }
}
