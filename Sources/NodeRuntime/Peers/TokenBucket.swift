internal import Synchronization

/// Spreads bytes over time: at most `bytesPerSecond` on average, and `burstBytes` at once.
///
/// Shared by all that send; thread safe. What it is told of the time comes from the caller's clock.
final class TokenBucket: Sendable {
    private struct State {
        /// Negative while someone waits for what was taken in advance.
        var bytes: Double
        var filledAt: ContinuousClock.Instant
    }

    let bytesPerSecond: Double
    let burstBytes: Double
    private let state: Mutex<State>

    /// - Parameters:
    ///   - bytesPerSecond: Positive.
    ///   - burst: What may go out at once after silence.
    init(bytesPerSecond: Double, burst: Duration = .milliseconds(100), now: ContinuousClock.Instant) {
        precondition(bytesPerSecond > 0, "a rate is positive")
        let burstBytes = bytesPerSecond * Self.seconds(burst)
        self.bytesPerSecond = bytesPerSecond
        self.burstBytes = burstBytes
        self.state = Mutex(State(bytes: burstBytes, filledAt: now))
    }

    /// Takes `count` bytes at `now`.
    /// - Returns: How long to wait before they may go out; callers that take one after another wait in that order.
    func take(_ count: Int, at now: ContinuousClock.Instant) -> Duration {
        self.state.withLock { state in
            let passed = max(0, Self.seconds(state.filledAt.duration(to: now)))
            state.bytes = min(self.burstBytes, state.bytes + passed * self.bytesPerSecond)
            state.filledAt = max(state.filledAt, now)
            state.bytes -= Double(count)
            return state.bytes >= 0 ? .zero : .seconds(-state.bytes / self.bytesPerSecond)
        }
    }

    private static func seconds(_ duration: Duration) -> Double {
        Double(duration.components.seconds) + Double(duration.components.attoseconds) / 1e18
    }
}
