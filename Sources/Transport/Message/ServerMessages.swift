package import HTTPTypes
package import NIOCore

/// What is known about the connection that a request came by.
package final class ConnectionInfo: Sendable {
    /// The client's address and port as text, nil when the socket does not say.
    package let remoteAddress: String?
    /// The client's address without its port, nil when the socket does not say.
    package let remoteHost: String?
    /// The client's certificate, nil when it showed none.
    package let peer: PeerCertificate?
    /// `h2` or `http/1.1`.
    package let applicationProtocol: String
    /// `TLSv1.3` or `TLSv1.2`.
    package let tlsVersion: String

    /// Describes a connection.
    package init(
        remoteAddress: String?,
        peer: PeerCertificate? = nil,
        applicationProtocol: String,
        tlsVersion: String
    ) {
        self.remoteAddress = remoteAddress
        self.remoteHost = remoteAddress.map(Self.withoutPort)
        self.peer = peer
        self.applicationProtocol = applicationProtocol
        self.tlsVersion = tlsVersion
    }

    /// The address of `host:port` or `[host]:port`.
    private static func withoutPort(_ address: String) -> String {
        guard let colon = address.lastIndex(of: ":") else { return address }
        return address[..<colon].filter { $0 != "[" && $0 != "]" }
    }

    /// The DNS names of the client's certificate; empty when it showed none.
    package var peerNames: [String] { self.peer?.dnsNames ?? [] }
}

/// A request that a handler answers.
package struct ServerRequest: Sendable {
    /// Method, path, authority and header fields.
    package let head: HTTPRequest
    /// The body; empty for `.collected` routes, whose handlers get it as a buffer.
    package let body: RequestBody
    /// Where the request came from.
    package let connection: ConnectionInfo
}

/// The answer to a request.
package struct ServerResponse: Sendable {
    /// What follows the head.
    package enum Body: Sendable {
        /// Nothing.
        case empty
        /// These bytes; `content-length` is added.
        case bytes(ByteBuffer)
        /// Whatever the function writes, then the trailers it returns.
        ///
        /// It runs in the handler's task. A thrown error resets the stream.
        case stream(@Sendable (ResponseBodyWriter) async throws -> HTTPFields?)
    }

    /// Status and header fields.
    package var head: HTTPResponse
    /// What follows the head.
    package var body: Body

    /// An answer with a head of one's own.
    package init(head: HTTPResponse, body: Body = .empty) {
        self.head = head
        self.body = body
    }

    /// An answer made from its parts.
    package init(status: HTTPResponse.Status, headerFields: HTTPFields = [:], body: Body = .empty) {
        self.init(head: HTTPResponse(status: status, headerFields: headerFields), body: body)
    }
}

/// How a request will be answered, decided on its head alone.
package enum RoutePlan: Sendable {
    /// This answer, sent from the event loop without a task; a request body is discarded.
    case immediate(ServerResponse)
    /// The handler runs once the whole body has arrived.
    ///
    /// A body of more than `bodyBytesMax` is answered with `tooLarge`, or a plain 413 when nil, and not read further.
    case collected(
        bodyBytesMax: Int,
        tooLarge: (@Sendable () -> ServerResponse)? = nil,
        handler: @Sendable (ServerRequest, ByteBuffer) async -> ServerResponse
    )
    /// The handler runs at once and reads the body as it arrives.
    case streaming(handler: @Sendable (ServerRequest) async -> ServerResponse)
}

/// Decides how requests are answered.
package protocol RequestRouter: Sendable {
    /// Says how to answer a request; called on the connection's event loop, so it must neither block nor take long.
    func route(_ head: HTTPRequest, _ connection: ConnectionInfo) -> RoutePlan
}
