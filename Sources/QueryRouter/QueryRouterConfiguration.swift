/// Limits of a router.
package struct QueryRouterConfiguration: Sendable {
    /// Shards that are asked at once for one query.
    package var fanOutMax: Int
    /// Arrow bytes that one query may gather.
    package var gatherBytesMax: Int
    /// Rows that one query may gather.
    package var gatherRowsMax: Int
    /// The longest time of one query, whatever its request says.
    package var timeLimitMax: Duration
    /// The most organizations of one query.
    package var organizationsMax: Int

    package init(
        fanOutMax: Int = 8,
        gatherBytesMax: Int = 256 << 20,
        gatherRowsMax: Int = 20_000_000,
        timeLimitMax: Duration = .seconds(300),
        organizationsMax: Int = 1_000
    ) {
        self.fanOutMax = fanOutMax
        self.gatherBytesMax = gatherBytesMax
        self.gatherRowsMax = gatherRowsMax
        self.timeLimitMax = timeLimitMax
        self.organizationsMax = organizationsMax
    }

    /// - Throws: ``QueryError`` `.internal`, naming the first value that is out of range.
    package func validate() throws {
        let checks: [(Bool, String)] = [
            (self.fanOutMax > 0, "fanOutMax must be positive"),
            (self.gatherBytesMax > 0, "gatherBytesMax must be positive"),
            (self.gatherRowsMax > 0, "gatherRowsMax must be positive"),
            (self.timeLimitMax > .zero, "timeLimitMax must be positive"),
            (self.organizationsMax > 0, "organizationsMax must be positive"),
        ]
        for (holds, message) in checks where !holds { throw QueryError(.internal, message) }
    }
}
