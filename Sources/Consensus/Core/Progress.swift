package import Primitives

/// What a leader knows of one follower, and how it sends to it.
///
/// Invariant: `match < next`.
struct Progress: Sendable {
    /// How entries are sent.
    enum State: Sendable, Hashable {
        /// One append at a time until the follower accepts one.
        case probe
        /// Optimistic pipelining within the window.
        case replicate
        /// Nothing is sent but the offer of a snapshot, until the follower has it.
        case snapshot
    }

    /// The replica's session: answers of another one are of an earlier life in the group.
    var session: LogIndex
    var state = State.probe
    /// The follower holds durably what the leader's log says up to here.
    var match = LogIndex.zero
    /// The first entry of the next append.
    var next: LogIndex
    /// In `probe`: an append is on its way, or the follower has not been heard since.
    var isPaused = false
    /// Ask the follower what it has, in case a message was lost: in `replicate` by an empty append, in `snapshot` by
    /// another offer.
    var mustVerify = false
    /// The follower refused what comes before the first entry: it waits for a snapshot.
    var needsSnapshot = false
    /// The index of the last offer, zero when none is pending.
    var pendingSnapshot = LogIndex.zero
    /// The commit index that the follower was told last.
    var commitSent = LogIndex.zero
    /// The latest beat that the follower answered.
    var ackedBeat: UInt64 = 0
    /// Heard since the last check of the majority.
    var isRecentlyActive = false
    /// Heard between that check and the one before.
    var wasActive = false
    /// Last index and bytes of the appends on their way.
    private var inflight = Fifo<(last: LogIndex, bytes: Int)>()
    private var inflightBytes = 0

    init(next: LogIndex, session: LogIndex) {
        self.next = next
        self.session = session
    }

    func hasRoom(_ configuration: RaftConfiguration) -> Bool {
        self.inflight.count < configuration.inflightMessagesMax && self.inflightBytes < configuration.inflightBytesMax
    }

    mutating func sent(last: LogIndex, bytes: Int) {
        self.inflight.append((last, bytes))
        self.inflightBytes += bytes
        self.next = last.next
    }

    /// The follower holds everything up to `index`; the leader's log begins after `base`.
    /// - Returns: Whether that was news.
    mutating func accept(_ index: LogIndex, base: LogIndex) -> Bool {
        while let oldest = self.inflight.first, oldest.last <= index {
            self.inflightBytes -= oldest.bytes
            self.inflight.removeFirst()
        }
        let isNews = index > self.match
        if isNews {
            self.match = index
            self.next = max(self.next, index.next)
            self.needsSnapshot = false
        }
        let isCaughtUp = self.state == .probe ? index >= self.match : self.state == .snapshot && self.match >= base
        if isCaughtUp, !self.needsSnapshot {
            self.state = .replicate
            self.next = self.match.next
            self.isPaused = false
            self.pendingSnapshot = .zero
        }
        precondition(self.match < self.next, "the next entry lies after those that match")
        return isNews
    }

    mutating func becomeProbe(next: LogIndex) {
        self.state = .probe
        self.next = max(next, self.match.next)
        self.isPaused = false
        self.mustVerify = false
        self.pendingSnapshot = .zero
        self.commitSent = min(self.commitSent, self.match)
        self.clearInflight()
    }

    mutating func becomeSnapshot(_ index: LogIndex) {
        self.state = .snapshot
        self.pendingSnapshot = index
        self.mustVerify = false
        self.clearInflight()
    }

    private mutating func clearInflight() {
        self.inflight.removeAll()
        self.inflightBytes = 0
    }
}

/// What a leader knows of one replica (itself included).
package struct ReplicaProgress: Sendable, Hashable {
    /// How entries are sent.
    package enum State: String, Sendable, Hashable {
        case probe
        case replicate
        case snapshot
    }

    package let node: NodeID
    /// The last entry that the replica is known to hold durably.
    package let match: LogIndex
    /// The first entry of the next append.
    package let next: LogIndex
    package let state: State
    package let isPaused: Bool
    /// The index of the offered snapshot, nil when none is pending.
    package let pendingSnapshot: LogIndex?
    /// Whether it was heard in this or the last election timeout.
    package let isRecentlyActive: Bool
    /// The index of the entry that added the replica.
    package let session: LogIndex
    package let isLearner: Bool
}
