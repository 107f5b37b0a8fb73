internal import HTTPTypes
internal import NIOCore

/// One stream of a connection, with what either role needs. Confined to the connection's event loop.
final class HTTP2Stream {
    /// Where arriving body bytes go.
    enum Inbound {
        /// Nobody has decided yet: they wait, and count as not consumed.
        case undecided(ByteBuffer?)
        /// Into one buffer, up to a bound; they count as consumed at once.
        case collecting(ByteBuffer?, bytesMax: Int)
        /// To a consumer, who opens the window as it takes them.
        case streaming(InboundBody)
        /// Nowhere.
        case discarding
    }

    /// Where bytes to be sent come from.
    enum Outbound {
        case none
        case bytes(ByteBuffer)
        case pipe(OutboundBody)
    }

    /// The pseudo-header fields and fields of a head while it arrives.
    struct Head {
        var method: HTTPRequest.Method?
        var path: String?
        var scheme: String?
        var authority: String?
        var status: Int?
        var fields = HTTPFields()
    }

    let id: Int32
    var head = Head()
    var headBytes = 0
    var isHeadTooLarge = false
    /// The head has been handed on; what comes after it are trailers.
    var isHeadReported = false
    var trailers: HTTPFields?
    var inbound: Inbound
    var hasInboundEnded = false
    var outbound = Outbound.none
    var hasOutboundEnded = false
    var isClosed = false

    // MARK: a server's

    var task: Task<Void, Never>?
    var isHeadRequest = false
    var isResponseSubmitted = false
    /// What to run, and when the request arrived, while its body is being collected.
    var collector: Collector?

    struct Collector {
        var request: HTTPRequest
        var handler: @Sendable (ServerRequest, ByteBuffer) async -> ServerResponse
        var tooLarge: (@Sendable () -> ServerResponse)?
        var startedAt: NIODeadline
    }

    // MARK: a client's

    var exchange: ClientExchange?

    init(id: Int32, inbound: Inbound = .undecided(nil)) {
        self.id = id
        self.inbound = inbound
    }

    /// The request whose fields have arrived.
    func makeRequest() -> HTTPRequest {
        defer { self.head = Head() }
        return HTTPRequest(
            method: self.head.method ?? .get,
            scheme: self.head.scheme,
            authority: self.head.authority,
            path: self.head.path,
            headerFields: self.head.fields
        )
    }

    /// The response whose fields have arrived.
    func makeResponse() -> HTTPResponse {
        defer { self.head = Head() }
        let code = self.head.status ?? 0
        let status = (100...999).contains(code) ? HTTPResponse.Status(code: code) : .badGateway
        return HTTPResponse(status: status, headerFields: self.head.fields)
    }
}
