/// Decides, purely, whether and when a request is sent again.
package struct RetryPolicy: Sendable, Equatable {
    /// How a try ended.
    package enum Failure: Sendable, Equatable {
        /// No connection: certainly not acted upon.
        case notSent
        /// A certificate or setting is wrong: another address may do better, the same one will not.
        case wrongIdentity
        /// Lost on the way, or no answer in time: may have been acted upon.
        case unknown
        /// 503 or 429, with the seconds of `retry-after`; `mayHaveActed` for `outcome_unknown`.
        case unavailable(retryAfterSeconds: Int?, mayHaveActed: Bool)
    }

    /// What to do next.
    package enum Decision: Sendable, Equatable {
        case retry(after: Duration)
        case giveUp
    }

    /// The first pause between two rounds over all addresses.
    static let pauseMin = Duration.milliseconds(50)
    /// The longest pause.
    static let pauseMax = Duration.seconds(2)
    /// The longest `retry-after` that is obeyed.
    static let retryAfterSecondsMax = 10

    /// No try begins later than this after the first, but for the first one of each address.
    package var budget: Duration
    private let addressCount: Int
    private var triesInRound = 0
    private var wrongIdentities = 0
    private var rounds = 0

    /// - Parameter addressCount: Of the context, at least 1.
    package init(budget: Duration, addressCount: Int) {
        self.budget = budget
        self.addressCount = addressCount
    }

    /// - Parameters:
    ///   - mayRepeat: The request does no harm when it is acted upon twice.
    ///   - elapsed: Since the first try began.
    ///   - jitter: From 0 to 1, chance.
    package mutating func next(
        after failure: Failure,
        mayRepeat: Bool,
        elapsed: Duration,
        jitter: Double
    ) -> Decision {
        switch failure {
        case .notSent: self.wrongIdentities = 0
        case .wrongIdentity:
            self.wrongIdentities += 1
            if self.wrongIdentities >= self.addressCount { return .giveUp }
        case .unknown, .unavailable(_, true):
            self.wrongIdentities = 0
            if !mayRepeat { return .giveUp }
        case .unavailable(_, false): self.wrongIdentities = 0
        }
        self.triesInRound += 1
        var pause = Duration.zero
        if self.triesInRound >= self.addressCount {
            self.triesInRound = 0
            let doublings = min(self.rounds, 10)
            self.rounds += 1
            let full = min(Self.pauseMax, Self.pauseMin * (1 << doublings))
            pause = full * (0.5 + min(max(jitter, 0), 1) / 2)
        }
        if case .unavailable(let seconds?, _) = failure {
            pause = max(pause, .seconds(min(max(seconds, 0), Self.retryAfterSecondsMax)))
        }
        // Every address gets its first try, however long the others took to fail.
        let isFirstRound = self.rounds == 0 && pause == .zero
        return isFirstRound || elapsed + pause < self.budget ? .retry(after: pause) : .giveUp
    }
}
