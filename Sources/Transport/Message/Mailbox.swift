internal import HTTPTypes
internal import NIOCore
internal import Synchronization

/// What tasks and other threads tell a connection's event loop.
enum ConnectionMessage: Sendable {
    /// A consumer has taken bytes of the body of exchange `id`.
    case inboundConsumed(id: Int)
    /// The sender of exchange `id` has bytes, or its end, after the loop found it empty.
    case outboundReady(id: Int)
    /// A handler's answer to exchange `id`.
    case response(id: Int, head: HTTPResponse, body: OutboundContent, endsHandler: Bool)
    /// The task of exchange `id` has ended.
    case handlerEnded(id: Int)
    /// A client's new exchange.
    case start(ClientExchange)
    /// Nobody waits for exchange `id` any more.
    case cancel(id: Int, TransportError)
    /// Finish open streams, then close.
    case shutDown
    /// Close at once.
    case close
}

/// What follows a head that is being sent.
enum OutboundContent: Sendable {
    case none
    case bytes(ByteBuffer)
    case pipe(OutboundBody)
}

/// Carries messages from tasks and threads to a connection's event loop.
///
/// Only the first message after a delivery wakes the loop, so that what happens close together shares one wake-up,
/// one encryption burst and one flush. Bounded by the exchanges of the connection: each has at most one message of
/// each kind waiting.
final class Mailbox: Sendable {
    private struct State {
        var waiting: [ConnectionMessage] = []
        var isClosed = false
        /// The loop will look anyway, so that nobody need wake it.
        var isDeliveryDue = false
    }

    private let state = Mutex(State())
    let eventLoop: any EventLoop
    private let deliver: @Sendable () -> Void

    /// `deliver` runs on `eventLoop` and calls `takeAll()`.
    init(eventLoop: any EventLoop, deliver: @escaping @Sendable () -> Void) {
        self.eventLoop = eventLoop
        self.deliver = deliver
    }

    /// Queues a message; false when the connection is gone.
    @discardableResult
    func post(_ message: ConnectionMessage) -> Bool {
        let (accepted, isFirst) = self.state.withLock { state in
            guard !state.isClosed else { return (false, false) }
            state.waiting.append(message)
            return (true, state.waiting.count == 1 && !state.isDeliveryDue)
        }
        if isFirst { self.eventLoop.execute(self.deliver) }
        return accepted
    }

    /// Promises that the loop calls `takeAll()` before it does anything else; called on the event loop.
    func expectDelivery() {
        self.state.withLock { $0.isDeliveryDue = true }
    }

    /// Everything that waits; called on the event loop.
    func takeAll() -> [ConnectionMessage] {
        self.state.withLock { state in
            state.isDeliveryDue = false
            guard !state.waiting.isEmpty else { return [] }
            defer { state.waiting = [] }
            return state.waiting
        }
    }

    /// Refuses further messages and returns those that nobody will read.
    func close() -> [ConnectionMessage] {
        self.state.withLock { state in
            state.isClosed = true
            defer { state.waiting = [] }
            return state.waiting
        }
    }
}

/// Runs tasks on one event loop, so that they change threads neither to start nor to hand back their result.
final class EventLoopTaskExecutor: TaskExecutor {
    private let eventLoop: any EventLoop

    init(eventLoop: any EventLoop) { self.eventLoop = eventLoop }

    func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        self.eventLoop.execute { unsafe job.runSynchronously(on: self.asUnownedTaskExecutor()) }
    }
}

/// Cancels a client's exchange when its last holder lets go of it before the response's end.
final class StreamLease: Sendable {
    private let mailbox: Mailbox
    private let id: Int
    private let source: InboundBody

    init(mailbox: Mailbox, id: Int, source: InboundBody) {
        self.mailbox = mailbox
        self.id = id
        self.source = source
    }

    deinit {
        guard !self.source.isOver else { return }
        self.mailbox.post(.cancel(id: self.id, TransportError(.streamReset, "the response was let go of")))
    }
}
