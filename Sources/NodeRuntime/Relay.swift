internal import Synchronization

/// Passes values on to a receiver that is known only later; until then they are dropped.
final class Relay<Value: Sendable>: Sendable {
    /// The closure in a struct of its own: a bare closure in a generic container is wrapped anew each time it is read and written back, and the
    /// wrappers would pile up.
    private struct Receiver: Sendable {
        let body: @Sendable (Value) -> Void
    }

    private let receiver = Mutex<Receiver?>(nil)

    func receive(_ body: @escaping @Sendable (Value) -> Void) { self.receiver.withLock { $0 = Receiver(body: body) } }

    func send(_ value: Value) {
        let receiver = self.receiver.withLock { $0 }
        receiver?.body(value)
    }
}
