internal import Glibc
internal import Primitives

/// The clock by which the node measures durations; ``SystemTime`` tells the time of day.
enum NodeClock {
    /// The clock by which time-outs are measured.
    static let monotonic = ContinuousClock()  // ambient-ok: the composition root's clock
}

/// A wait that took longer than it may.
struct TimedOut: Error, CustomStringConvertible {
    let what: String
    let after: Duration

    var description: String { "\(self.what) took longer than \(self.after)" }
}

/// Runs `body`, cancelled and given up after `limit`.
/// - Throws: ``TimedOut``, or what `body` throws.
func withTimeLimit<Value: Sendable>(
    _ limit: Duration,
    _ what: @autoclosure () -> String,
    clock: some Clock<Duration> = NodeClock.monotonic,
    _ body: @escaping @Sendable () async throws -> Value
) async throws -> Value {
    try await withThrowingTaskGroup(of: Value?.self) { group in
        group.addTask { try await body() }
        group.addTask {
            try await clock.sleep(for: limit)
            return nil
        }
        defer { group.cancelAll() }
        guard let first = try await group.next(), let value = first else {
            throw TimedOut(what: what(), after: limit)
        }
        return value
    }
}

/// Random values for ids and tokens.
enum RandomText {
    /// `count` bytes of the system's generator, at most 256; one call of the system for all of them.
    static func bytes(_ count: Int) -> [UInt8] {
        precondition(count <= 256, "more could be interrupted")
        return [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
            // ambient-ok: salts of personal values are made here
            let failure = buffer.baseAddress.map { getentropy($0, count) } ?? 0
            precondition(failure == 0, "the system has a source of random bytes")
            filled = count
        }
    }

    /// `bytes` bytes of the system's generator as lowercase hexadecimal.
    static func hex(bytes count: Int) -> String {
        var generator = SystemRandomNumberGenerator()  // ambient-ok: ids and tokens are made here
        return Hex.encode((0..<count).map { _ in UInt8.random(in: 0...255, using: &generator) })
    }
}
