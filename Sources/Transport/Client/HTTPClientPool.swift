package import HTTPTypes
internal import NIOCore
internal import Synchronization

/// Keeps one connection to each server and opens it when it is first needed, or needed again. Thread safe.
package final class HTTPClientPool: Sendable {
    private struct Key: Hashable {
        var host: String
        var port: Int
        var expectedName: String?
    }

    private enum Slot {
        case connecting(Task<HTTPClientConnection, any Error>)
        case open(HTTPClientConnection)
    }

    private struct State {
        var slots: [Key: Slot] = [:]
        var isClosed = false
    }

    private let client: HTTPClient
    private let state = Mutex(State())

    /// A pool of the client's connections.
    package init(client: HTTPClient) { self.client = client }

    /// The connection to a server, opened if need be; callers that come meanwhile share the attempt.
    /// - Throws: ``TransportError`` as ``HTTPClient/connect(host:port:expectedName:)`` does.
    package func connection(
        host: String,
        port: Int,
        expectedName: String? = nil
    ) async throws -> HTTPClientConnection {
        let key = Key(host: host, port: port, expectedName: expectedName)
        let slot: Slot = try self.state.withLock { state in
            guard !state.isClosed else { throw TransportError(.connectionClosed, "the connection pool is closed") }
            switch state.slots[key] {
            case .open(let connection) where connection.isOpen: return .open(connection)
            case .connecting(let task): return .connecting(task)
            case .open, nil: break
            }
            let task = Task { try await self.connect(key) }  // task-owner: closeAll() cancels it, callers await it
            state.slots[key] = .connecting(task)
            return .connecting(task)
        }
        switch slot {
        case .open(let connection): return connection
        case .connecting(let task): return try await task.value
        }
    }

    private func connect(_ key: Key) async throws -> HTTPClientConnection {
        do {
            let connection = try await self.client.connect(
                host: key.host,
                port: key.port,
                expectedName: key.expectedName
            )
            let isClosed = self.state.withLock { state in
                state.slots[key] = state.isClosed ? nil : .open(connection)
                return state.isClosed
            }
            guard !isClosed else {
                connection.close()
                throw TransportError(.connectionClosed, "the connection pool is closed")
            }
            return connection
        } catch {
            self.state.withLock { $0.slots[key] = nil }
            throw error
        }
    }

    /// Sends a request over the connection to a server; see ``HTTPClientConnection/execute(_:body:timeout:)``.
    package func execute(
        host: String,
        port: Int,
        expectedName: String? = nil,
        _ head: HTTPRequest,
        body: RequestBodySource = .none,
        timeout: Duration? = nil
    ) async throws -> ClientResponse {
        let connection = try await self.connection(host: host, port: port, expectedName: expectedName)
        return try await connection.execute(head, body: body, timeout: timeout)
    }

    /// Closes all connections and refuses new ones.
    package func closeAll() {
        let slots = self.state.withLock { state in
            state.isClosed = true
            defer { state.slots = [:] }
            return state.slots.values.map(\.self)
        }
        for slot in slots {
            switch slot {
            case .connecting(let task): task.cancel()
            case .open(let connection): connection.close()
            }
        }
    }
}
