internal import Synchronization

/// Lets tasks do something one after the other, in the order in which they came.
final class Turns: Sendable {
    private struct State {
        var isTaken = false
        var waiters: [CheckedContinuation<Void, Never>] = []
    }

    private let state = Mutex(State())

    /// Runs `body` when all who came before are done. The wait cannot be cancelled: keep `body` short.
    func take<Value>(_ body: () async throws -> Value) async rethrows -> Value {
        await withCheckedContinuation { continuation in
            let goesOn = self.state.withLock { state in
                if !state.isTaken {
                    state.isTaken = true
                    return true
                }
                state.waiters.append(continuation)
                return false
            }
            if goesOn { continuation.resume() }
        }
        defer { self.pass() }
        return try await body()
    }

    private func pass() {
        let next = self.state.withLock { state -> CheckedContinuation<Void, Never>? in
            guard !state.waiters.isEmpty else {
                state.isTaken = false
                return nil
            }
            return state.waiters.removeFirst()
        }
        next?.resume()
    }
}
