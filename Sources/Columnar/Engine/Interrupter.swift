internal import Dispatch
internal import Foundation
internal import Synchronization

/// Stops queries: interrupts a connection again and again from its deadline, or from its cancellation, until the
/// call that runs on it has returned. (The engine forgets an interrupt that arrives before execution has begun.)
final class Interrupter: Sendable {
    /// Why a call was stopped.
    enum Reason: Sendable {
        case timeLimit
        case cancelled
    }

    /// A running call.
    struct Token: Sendable {
        fileprivate let id: UInt64
    }

    private struct Entry {
        let connection: EngineConnection
        let deadline: DispatchTime
        var reason: Reason?
    }

    private struct State {
        var entries: [UInt64: Entry] = [:]
        var nextID: UInt64 = 0
        var closed = false
    }

    /// Pause between two interrupts of the same call.
    private static let repeatInterval = DispatchTimeInterval.milliseconds(5)

    private let state = Mutex(State())
    private let changed = DispatchSemaphore(value: 0)

    func start() {
        let thread = Thread { [self] in self.watch() }
        thread.name = "columnar-interrupter"
        thread.start()
    }

    func close() {
        self.state.withLock { $0.closed = true }
        self.changed.signal()
    }

    /// Watches a call that is about to start.
    func begin(_ connection: EngineConnection, deadline: DispatchTime) -> Token {
        let token = self.state.withLock { state in
            state.nextID += 1
            state.entries[state.nextID] = Entry(connection: connection, deadline: deadline, reason: nil)
            return Token(id: state.nextID)
        }
        self.changed.signal()
        return token
    }

    /// Stops a running call; a no-op when it has already returned.
    func cancel(_ token: Token) {
        self.state.withLock { state in
            guard state.entries[token.id]?.reason == nil else { return }
            state.entries[token.id]?.reason = .cancelled
        }
        self.changed.signal()
    }

    /// Ends the watch once the call has returned.
    /// - Returns: Why the call was interrupted, if it was.
    func end(_ token: Token) -> Reason? {
        self.state.withLock { $0.entries.removeValue(forKey: token.id)?.reason }
    }

    private func watch() {
        while true {
            let wake = self.state.withLock { state -> DispatchTime? in
                if state.closed && state.entries.isEmpty { return nil }
                let now = DispatchTime.now()  // ambient-ok: a time limit is wall time
                var wake = DispatchTime.distantFuture
                for (id, entry) in state.entries {
                    var entry = entry
                    if entry.reason == nil && entry.deadline <= now {
                        entry.reason = .timeLimit
                        state.entries[id] = entry
                    }
                    if entry.reason != nil {
                        entry.connection.interrupt()
                        wake = min(wake, now + Self.repeatInterval)
                    } else {
                        wake = min(wake, entry.deadline)
                    }
                }
                return wake
            }
            guard let wake else { return }
            _ = self.changed.wait(timeout: wake)
        }
    }
}
