internal import Foundation
package import HTTPTypes
package import NIOCore
internal import NIOPosix
internal import Primitives
internal import Synchronization
package import Transport

/// Talks to a cluster through whichever of its nodes answers.
///
/// One connection a node, shared by all requests. An address that fails is left for the next one; requests that may
/// be repeated are, within their budget. Safe from any task. ``close()`` ends it.
package final class ClusterClient: Sendable {
    /// The largest answer that ``send(_:)`` collects, in bytes.
    package static let answerBytesMax = 64 << 20

    /// A node that does not even shake hands within this is left for the next one.
    package static let connectTimeout = Duration.seconds(3)

    /// A whole answer.
    package struct Answer: Sendable {
        package var status: Int
        package var fields: HTTPFields
        package var body: ByteBuffer

        package var bytes: [UInt8] { Array(self.body.readableBytesView) }
        /// True when the cluster had acted upon the same idempotency key before.
        package var isReplayed: Bool {
            HTTPField.Name.API.idempotencyReplayed.flatMap { self.fields[$0] } == "true"
        }
    }

    private let context: ClientContext
    private let pool: HTTPClientPool
    private let clock: any Clock<Duration>
    private let preferred = Mutex(0)
    private let now: @Sendable () -> Duration

    /// Makes a client for `context`; connects when the first request is sent.
    /// - Throws: ``ClientError`` `.badContext` when the CA cannot be used.
    package convenience init(context: ClientContext) throws {
        let clock = ContinuousClock()  // ambient-ok: the command line waits in real time
        let start = clock.now
        try self.init(context: context, connectTimeout: Self.connectTimeout) { start.duration(to: clock.now) }
    }

    /// - Parameter now: What budgets are measured by.
    init(context: ClientContext, connectTimeout: Duration, now: @escaping @Sendable () -> Duration) throws {
        self.context = context
        if let caFile = context.caFile {
            do { _ = try CertificateFile(path: caFile) } catch {
                throw ClientError(.badContext, "the CA of the client context cannot be used: \(error)")
            }
        }
        let group = MultiThreadedEventLoopGroup.singleton
        // Certificates of an outside proxy may be served over TLS 1.2.
        let tls = try ReloadableTLSContext(
            client: TLSClientConfiguration(caFile: context.caFile, minimumVersion: .tls12)
        )
        var limits = TransportLimits()
        limits.connectTimeout = connectTimeout
        limits.handshakeTimeout = connectTimeout
        self.pool = HTTPClientPool(client: HTTPClient(eventLoopGroup: group, tls: tls, limits: limits))
        self.clock = ContinuousClock()  // ambient-ok: the command line waits in real time
        self.now = now
    }

    /// Closes all connections; open requests fail.
    package func close() { self.pool.closeAll() }

    /// Sends a request and collects the answer.
    /// - Throws: ``ClientError``.
    package func send(_ request: APIRequest) async throws -> Answer {
        try await self.run(request) { response in
            let body = try await response.collect(upTo: Self.answerBytesMax)
            return Answer(status: response.head.status.code, fields: response.head.headerFields, body: body)
        }
    }

    /// Sends a request and hands the response over as soon as its head is there; a body that breaks off is not
    /// asked for again.
    /// - Throws: ``ClientError``.
    package func open(_ request: APIRequest) async throws -> ClientResponse {
        try await self.run(request) { $0 }
    }

    private func run<Value: Sendable>(
        _ request: APIRequest,
        finish: (ClientResponse) async throws -> Value
    ) async throws -> Value {
        var policy = RetryPolicy(budget: request.budget, addressCount: self.context.addresses.count)
        let start = self.now()
        while true {
            let index = self.preferred.withLock { $0 }
            let failure: RetryPolicy.Failure
            let reason: ClientError
            do {
                let response = try await self.attempt(request, index: index)
                guard let problem = try await Self.problem(of: response) else { return try await finish(response) }
                guard let unavailable = Self.unavailability(problem, response) else {
                    throw ClientError(
                        .refused(problem: problem.code),
                        problem.description,
                        line: problem.line
                    )
                }
                (failure, reason) = (
                    unavailable, ClientError(.unavailable(problem: problem.code), problem.description)
                )
            } catch let error as TransportError {
                failure = Self.failure(of: error)
                reason = ClientError(
                    .unreachable,
                    "no answer from \(self.context.addresses[index]): \(errorChain(error))"
                        + (failure == .unknown && !request.mayRepeat ? "; it may have been acted upon" : "")
                )
            }
            self.leave(index)
            let decision = policy.next(
                after: failure,
                mayRepeat: request.mayRepeat,
                elapsed: self.now() - start,
                jitter: Double.random(in: 0...1)  // ambient-ok: clients must not retry in step
            )
            switch decision {
            case .giveUp: throw reason
            case .retry(let pause): try await self.clock.sleep(for: pause)
            }
        }
    }

    /// The next request goes to the next address, unless another task has moved on already.
    private func leave(_ index: Int) {
        self.preferred.withLock { if $0 == index { $0 = (index + 1) % self.context.addresses.count } }
    }

    private func attempt(_ request: APIRequest, index: Int) async throws -> ClientResponse {
        let address = self.context.addresses[index]
        var head = HTTPRequest(
            method: request.method,
            scheme: "https",
            authority: address.description,
            path: request.path
        )
        head.headerFields[.authorization] = "Bearer \(self.context.token)"
        head.headerFields[.userAgent] = "ftnode/\(ProductVersion.text)"
        if request.body != nil { head.headerFields[.contentType] = request.contentType }
        if let key = request.idempotencyKey, let name = HTTPField.Name.API.idempotencyKey {
            head.headerFields[name] = key
        }
        let connection: HTTPClientConnection
        do { connection = try await self.pool.connection(host: address.host, port: address.port) } catch {
            guard let error = error as? TransportError, error.code == .timeout || error.code == .connectionClosed else {
                throw error
            }
            // Nothing was sent, so that even what must not be repeated may go to another node.
            throw TransportError(.connectFailed, "cannot connect to \(address)", cause: error)
        }
        return try await connection.execute(
            head,
            body: request.body.map { .bytes($0) } ?? .none,
            timeout: request.timeout
        )
    }

    private static func problem(of response: ClientResponse) async throws -> ProblemDetails? {
        guard !(200...299).contains(response.head.status.code) else { return nil }
        let requestID = HTTPField.Name.API.requestID.flatMap { response.head.headerFields[$0] }
        let body: ByteBuffer
        do { body = try await response.collect(upTo: ProblemDetails.bytesMax) } catch let error as TransportError {
            guard error.code == .tooLarge else { throw error }
            body = ByteBuffer()
        }
        return ProblemDetails(
            status: response.head.status.code,
            body: body.readableBytesView,
            requestID: requestID
        )
    }

    private static func unavailability(
        _ problem: ProblemDetails,
        _ response: ClientResponse
    ) -> RetryPolicy.Failure? {
        guard [429, 502, 503].contains(response.head.status.code) else { return nil }
        let seconds = response.head.headerFields[.retryAfter].flatMap { Int($0) }
        let certainlyNotActed: Set<String> = ["no_leader", "shutting_down", "shard_unavailable", "query_unavailable"]
        return .unavailable(
            retryAfterSeconds: seconds,
            mayHaveActed: response.head.status.code != 429 && !certainlyNotActed.contains(problem.code)
        )
    }

    private static func failure(of error: TransportError) -> RetryPolicy.Failure {
        switch error.code {
        case .certificateExpired, .certificateNameMismatch, .untrustedCertificate, .badConfiguration: .wrongIdentity
        default: error.isSafeToRetry ? .notSent : .unknown
        }
    }
}

/// The version of this program.
package enum ProductVersion {
    package static let text = "0.1.0"
}
