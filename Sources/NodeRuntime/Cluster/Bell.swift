internal import Synchronization

/// Lets one waiter sleep until there is news, or for a time; news that come while nobody waits end the next wait at once.
///
/// ``ring()`` may be called from any thread; ``wait(upTo:clock:)`` by one task at a time.
final class Bell: Sendable {
    private enum State {
        case silent
        case rung
        case waiting(CheckedContinuation<Void, Never>)
    }

    private let state = Mutex(State.silent)

    func ring() {
        let waiter: CheckedContinuation<Void, Never>? = self.state.withLock { state in
            if case .waiting(let waiter) = state {
                state = .silent
                return waiter
            }
            state = .rung
            return nil
        }
        waiter?.resume()
    }

    /// Returns when the bell rings, after `limit`, or when the task is cancelled.
    func wait(upTo limit: Duration, clock: any Clock<Duration>) async {
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await self.waitForRing() }
            group.addTask { try? await clock.sleep(for: limit) }
            await group.next()
            group.cancelAll()
        }
    }

    private func waitForRing() async {
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let isOver = self.state.withLock { state in
                    // Cancelled before it began: the handler has run already and found nobody.
                    if case .silent = state, !Task.isCancelled {
                        state = .waiting(continuation)
                        return false
                    }
                    if case .rung = state, !Task.isCancelled { state = .silent }
                    return true
                }
                if isOver { continuation.resume() }
            }
        } onCancel: {
            let waiter: CheckedContinuation<Void, Never>? = self.state.withLock { state in
                guard case .waiting(let waiter) = state else { return nil }
                state = .silent
                return waiter
            }
            waiter?.resume()
        }
    }
}
