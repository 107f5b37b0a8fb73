internal import HTTPTypes
internal import NIOCore

/// Fired into a server's connections to have them finish their requests and close.
struct GracefulShutdownRequested: Sendable {}

/// Runs a handler, posts its answer, and produces the answer's body.
func answer(
    _ handler: @Sendable () async -> ServerResponse,
    id: Int,
    mailbox: Mailbox,
    bufferBytesMax: Int
) async {
    let response = await handler()
    switch response.body {
    case .empty: mailbox.post(.response(id: id, head: response.head, body: .none, endsHandler: true))
    case .bytes(let bytes):
        mailbox.post(.response(id: id, head: response.head, body: .bytes(bytes), endsHandler: true))
    case .stream(let produce):
        let pipe = OutboundBody(bytesMax: bufferBytesMax) { mailbox.post(.outboundReady(id: id)) }
        let isAccepted = mailbox.post(.response(id: id, head: response.head, body: .pipe(pipe), endsHandler: false))
        if !isAccepted { pipe.close(TransportError(.connectionClosed, "the client's connection closed")) }
        do {
            pipe.finish(trailers: try await produce(ResponseBodyWriter(pipe: pipe)))
        } catch {
            pipe.fail(error)
        }
        mailbox.post(.handlerEnded(id: id))
    }
}

/// An answer of this module's own, with its reason as text.
func plainResponse(_ status: HTTPResponse.Status) -> ServerResponse {
    ServerResponse(
        status: status,
        headerFields: [.contentType: "text/plain; charset=utf-8"],
        body: .bytes(ByteBuffer(string: "\(status.code) \(status.reasonPhrase)\n"))
    )
}

/// The `content-length` that a request declares.
func declaredLength(_ request: HTTPRequest) -> Int? {
    request.headerFields.value(of: .contentLength).flatMap { Int($0) }
}

/// The `content-length` to add to an answer, nil for none (RFC 9110, section 8.6).
func contentLength(of content: OutboundContent, status: HTTPResponse.Status, isHeadRequest: Bool) -> Int? {
    guard status.code >= 200, status.code != 204, status.code != 304 else { return nil }
    return switch content {
    case .none: isHeadRequest ? nil : 0
    case .bytes(let bytes): bytes.readableBytes
    case .pipe: nil
    }
}

/// How often a connection looks at its deadlines: often enough for the shortest of them.
func deadlineStep(_ limits: TransportLimits) -> TimeAmount {
    let shortest = min(limits.headTimeout, limits.collectTimeout, limits.idleTimeout)
    return TimeAmount(max(shortest / 4, TransportLimits.deadlineTickMin))
}
