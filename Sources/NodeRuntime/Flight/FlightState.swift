internal import Columnar
internal import Laboratory
internal import NIOCore
internal import Primitives
internal import QueryRouter
internal import Shards
internal import Synchronization
internal import Transport

/// A result that waits for its reader, with the snapshots that it reads.
struct HeldResult: Sendable {
    /// What is left to read; dropping it stops the statement.
    let batches: RecordBatchStream
    /// The columns that are sent, with what the client is told of the answer.
    let schema: ArrowSchema
    let profile: OutputProfile
    let compression: ArrowCompression?
}

/// A statement that a client has prepared.
struct PreparedStatement: Sendable {
    let sql: String
    /// The columns of its answer before the client's profile is applied; those of values of other types are in the
    /// FlightInfo of the execution.
    let schema: ArrowSchema
    let parameterTypes: [ArrowType]
    /// Values for the next execution.
    var parameters: [ArrowValue]?
}

/// What a node keeps between the calls of Flight clients: results until they are read, prepared statements.
///
/// Both are named by random numbers that only their client knows, belong to one token, are bounded in number and end by
/// themselves. Dropping a result stops its statement. Safe to use from any task.
final class FlightState: Sendable {
    private struct Owned<Value: Sendable>: Sendable {
        let token: String
        var value: Value
        /// Which timer ends it.
        var timer: Scheduled<Void>
    }

    private struct State {
        var results: [[UInt8]: Owned<HeldResult>] = [:]
        var prepared: [[UInt8]: Owned<PreparedStatement>] = [:]
    }

    /// Bytes of a handle.
    private static let handleBytes = 24

    private let eventLoop: any EventLoop
    private let state = Mutex(State())

    /// - Parameter eventLoop: Its timers end what nobody asks for.
    init(eventLoop: any EventLoop) { self.eventLoop = eventLoop }

    /// Results and prepared statements that are kept.
    var counts: (results: Int, prepared: Int) { self.state.withLock { ($0.results.count, $0.prepared.count) } }

    // MARK: Results

    /// Keeps a result for its reader.
    /// - Returns: The handle.
    /// - Throws: ``GRPCStatus`` `.resourceExhausted` when too many wait.
    func hold(_ result: HeldResult, for token: String) throws(GRPCStatus) -> [UInt8] {
        let handle = RandomText.bytes(Self.handleBytes)
        let timer = self.timer(FlightLimits.heldTime) { $0.expireResult(handle) }
        let isKept = self.state.withLock { state in
            guard state.results.count < FlightLimits.heldMax,
                state.results.values.lazy.filter({ $0.token == token }).count < FlightLimits.heldPerTokenMax
            else { return false }
            state.results[handle] = Owned(token: token, value: result, timer: timer)
            return true
        }
        guard isKept else {
            timer.cancel()
            throw GRPCStatus(.resourceExhausted, "too many results wait to be read: read or cancel them first")
        }
        return handle
    }

    /// Hands a result to its reader, once.
    /// - Throws: ``GRPCStatus`` `.notFound`; the same for another's result as for none.
    func take(_ handle: [UInt8], by token: String) throws(GRPCStatus) -> HeldResult {
        let owned = self.state.withLock { state -> Owned<HeldResult>? in
            guard let owned = state.results[handle], owned.token == token else { return nil }
            return state.results.removeValue(forKey: handle)
        }
        guard let owned else { throw Self.unknownTicket }
        owned.timer.cancel()
        return owned.value
    }

    private static var unknownTicket: GRPCStatus {
        GRPCStatus(
            .notFound,
            "ticket_unknown: this node holds no such result for you: a ticket is good for one reading, within "
                + "\(FlightLimits.heldTime.components.seconds) s, with the same token, at the node that gave it"
        )
    }

    /// Drops a result that is not wanted any more.
    /// - Returns: False when there was none.
    func cancel(_ handle: [UInt8], by token: String) -> Bool { (try? self.take(handle, by: token)) != nil }

    /// Lets a result wait for its whole time again.
    /// - Throws: As ``take(_:by:)``.
    func renew(_ handle: [UInt8], by token: String) throws(GRPCStatus) {
        let timer = self.timer(FlightLimits.heldTime) { $0.expireResult(handle) }
        // In one step: a reader who comes meanwhile finds it.
        let earlier = self.state.withLock { state -> Scheduled<Void>? in
            guard let owned = state.results[handle], owned.token == token else { return nil }
            state.results[handle] = Owned(token: token, value: owned.value, timer: timer)
            return owned.timer
        }
        guard let earlier else {
            timer.cancel()
            throw Self.unknownTicket
        }
        earlier.cancel()
    }

    private func expireResult(_ handle: [UInt8]) {
        // Let go of outside of the lock: it stops a statement.
        let dropped = self.state.withLock { $0.results.removeValue(forKey: handle) }
        withExtendedLifetime(dropped) {}
    }

    // MARK: Prepared statements

    /// Keeps a prepared statement.
    /// - Returns: The handle.
    /// - Throws: ``GRPCStatus`` `.resourceExhausted` when there are too many.
    func prepare(_ statement: PreparedStatement, for token: String) throws(GRPCStatus) -> [UInt8] {
        let handle = RandomText.bytes(Self.handleBytes)
        let timer = self.timer(FlightLimits.preparedTime) { $0.close(handle) }
        let isKept = self.state.withLock { state in
            guard state.prepared.count < FlightLimits.preparedMax,
                state.prepared.values.lazy.filter({ $0.token == token }).count < FlightLimits.preparedPerTokenMax
            else { return false }
            state.prepared[handle] = Owned(token: token, value: statement, timer: timer)
            return true
        }
        guard isKept else {
            timer.cancel()
            throw GRPCStatus(.resourceExhausted, "too many prepared statements: close some first")
        }
        return handle
    }

    /// A prepared statement, which is kept for its whole time again.
    /// - Throws: ``GRPCStatus`` `.notFound`; the same for another's statement as for none.
    func prepared(_ handle: [UInt8], by token: String) throws(GRPCStatus) -> PreparedStatement {
        let timer = self.timer(FlightLimits.preparedTime) { $0.close(handle) }
        let (statement, ended) = self.state.withLock { state -> (PreparedStatement?, Scheduled<Void>) in
            guard let owned = state.prepared[handle], owned.token == token else { return (nil, timer) }
            state.prepared[handle]?.timer = timer
            return (owned.value, owned.timer)
        }
        ended.cancel()
        guard let statement else { throw Self.unknownStatement }
        return statement
    }

    /// Gives a prepared statement its values.
    /// - Throws: As ``prepared(_:by:)``.
    func bind(_ parameters: [ArrowValue], to handle: [UInt8], by token: String) throws(GRPCStatus) {
        let isBound = self.state.withLock { state in
            guard state.prepared[handle]?.token == token else { return false }
            state.prepared[handle]?.value.parameters = parameters
            return true
        }
        guard isBound else { throw Self.unknownStatement }
    }

    /// Forgets a prepared statement; one that is not known is no error, for clients close twice.
    func close(_ handle: [UInt8], by token: String) {
        let dropped = self.state.withLock { state -> Owned<PreparedStatement>? in
            guard state.prepared[handle]?.token == token else { return nil }
            return state.prepared.removeValue(forKey: handle)
        }
        dropped?.timer.cancel()
    }

    private func close(_ handle: [UInt8]) {
        self.state.withLock { $0.prepared[handle] = nil }
    }

    private static var unknownStatement: GRPCStatus {
        GRPCStatus(
            .notFound,
            "statement_unknown: this node has no such prepared statement of yours: it was closed, unused for "
                + "\(FlightLimits.preparedTime.components.seconds / 60) minutes, or prepared at another node"
        )
    }

    private func timer(_ time: Duration, _ body: @escaping @Sendable (FlightState) -> Void) -> Scheduled<Void> {
        self.eventLoop.scheduleTask(in: TimeAmount(time)) { [weak self] in
            if let self { body(self) }
        }
    }
}
