internal import Primitives

/// What a leader knows of one follower, and how it sends to it.
///
/// Invariant: `match < next`.
struct Progress: Sendable {
    /// How entries are sent.
    enum State: Sendable, Equatable {
        /// One append at a time until the follower accepts one.
        case probe
        /// Optimistic pipelining within the window.
        case replicate
    }

    var state = State.probe
    /// The follower holds durably what the leader's log says up to here.
    var match = LogIndex.zero
    /// The first entry of the next append.
    var next: LogIndex
    /// In `probe`: an append is on its way, or the follower has not been heard since.
    var isPaused = false
    /// In `replicate`: ask the follower what it has, in case an append or an answer was lost.
    var mustVerify = false
    /// The commit index that the follower was told last.
    var commitSent = LogIndex.zero
    var isRecentlyActive = false
    /// Last index and bytes of the appends on their way.
    private var inflight = Fifo<(last: LogIndex, bytes: Int)>()
    private var inflightBytes = 0

    init(next: LogIndex) { self.next = next }

    func hasRoom(_ configuration: RaftConfiguration) -> Bool {
        self.inflight.count < configuration.inflightMessagesMax && self.inflightBytes < configuration.inflightBytesMax
    }

    mutating func sent(last: LogIndex, bytes: Int) {
        self.inflight.append((last, bytes))
        self.inflightBytes += bytes
        self.next = last.next
    }

    /// The follower holds everything up to `index`.
    /// - Returns: Whether that was news.
    mutating func accept(_ index: LogIndex) -> Bool {
        while let oldest = self.inflight.first, oldest.last <= index {
            self.inflightBytes -= oldest.bytes
            self.inflight.removeFirst()
        }
        let isNews = index > self.match
        if isNews {
            self.match = index
            self.next = max(self.next, index.next)
        }
        if self.state == .probe, index >= self.match {
            self.state = .replicate
            self.next = self.match.next
            self.isPaused = false
        }
        precondition(self.match < self.next, "the next entry lies after those that match")
        return isNews
    }

    mutating func becomeProbe(next: LogIndex) {
        self.state = .probe
        self.next = max(next, self.match.next)
        self.isPaused = false
        self.mustVerify = false
        self.commitSent = min(self.commitSent, self.match)
        self.inflight.removeAll()
        self.inflightBytes = 0
    }
}
