internal import NIOCore

/// A token bucket for frames that cost work and do no work (CVE-2019-9512, -9515, -9518, CVE-2023-44487).
///
/// Useful traffic gives tokens back, so that WINDOW_UPDATEs of a busy client never count against it.
struct FloodGuard {
    private var tokens: Double
    private let tokensMax: Double
    private let tokensPerSecond: Double
    private var lastRefill: NIODeadline
    /// Tokens that one useful frame gives back.
    private static let tokensPerUsefulFrame = 4.0

    init(burst: Int, perSecond: Int, now: NIODeadline) {
        self.tokens = Double(burst)
        self.tokensMax = Double(burst)
        self.tokensPerSecond = Double(perSecond)
        self.lastRefill = now
    }

    /// Adds what time has earned.
    mutating func refill(now: NIODeadline) {
        let seconds = Double((now - self.lastRefill).nanoseconds) / 1e9
        self.lastRefill = now
        self.tokens = min(self.tokensMax, self.tokens + max(0, seconds) * self.tokensPerSecond)
    }

    /// Takes one token; false when there is none.
    mutating func take() -> Bool {
        self.tokens -= 1
        return self.tokens >= 0
    }

    /// Something useful happened.
    mutating func reward() {
        self.tokens = min(self.tokensMax, self.tokens + Self.tokensPerUsefulFrame)
    }
}
