/// Lets one of many equal reports through in each interval. A value; its owner guards it.
struct RepeatGuard<Key: Hashable & Sendable>: Sendable {
    /// Keys that are remembered; beyond, the oldest report's key is forgotten.
    static var keysMax: Int { 256 }

    private let interval: Duration
    private var lastAt: [Key: ContinuousClock.Instant] = [:]

    init(interval: Duration) { self.interval = interval }

    /// Whether `key` may be reported at `now`.
    mutating func lets(_ key: Key, at now: ContinuousClock.Instant) -> Bool {
        if let last = self.lastAt[key], last.duration(to: now) < self.interval { return false }
        if self.lastAt.count >= Self.keysMax, self.lastAt[key] == nil,
            let oldest = self.lastAt.min(by: { $0.value < $1.value })
        {
            self.lastAt[oldest.key] = nil
        }
        self.lastAt[key] = now
        return true
    }
}
