/// What one question and its answer tell about a peer's clock, in microseconds of the time of day (RFC 5905, section 8).
struct ClockSample: Sendable, Hashable {
    /// The peer's clock minus this node's; off by half of ``roundTripMicroseconds`` at most.
    let offsetMicroseconds: Int64
    /// What the question and the answer took on their way.
    let roundTripMicroseconds: Int64

    /// - Parameters:
    ///   - sentAt: Here, when the question left.
    ///   - peerReceivedAt: There, when it came.
    ///   - peerAnsweredAt: There, when the answer left.
    ///   - receivedAt: Here, when it came.
    /// - Returns: nil when the numbers cannot be times.
    init?(sentAt: Int64, peerReceivedAt: Int64, peerAnsweredAt: Int64, receivedAt: Int64) {
        // Times of day up to the year 9999 leave room for every sum below.
        let range: ClosedRange<Int64> = 0...253_402_300_799_999_999
        guard [sentAt, peerReceivedAt, peerAnsweredAt, receivedAt].allSatisfy(range.contains),
            receivedAt >= sentAt, peerAnsweredAt >= peerReceivedAt
        else { return nil }
        self.offsetMicroseconds = ((peerReceivedAt - sentAt) + (peerAnsweredAt - receivedAt)) / 2
        self.roundTripMicroseconds = max(0, (receivedAt - sentAt) - (peerAnsweredAt - peerReceivedAt))
    }
}
