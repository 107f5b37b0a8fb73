/// The calls of the Flight service.
enum FlightMethod: String {
    case handshake = "Handshake"
    case listFlights = "ListFlights"
    case getFlightInfo = "GetFlightInfo"
    case pollFlightInfo = "PollFlightInfo"
    case getSchema = "GetSchema"
    case doGet = "DoGet"
    case doPut = "DoPut"
    case doExchange = "DoExchange"
    case doAction = "DoAction"
    case listActions = "ListActions"

    /// What stands before the name in a request's path.
    static let pathPrefix = "/arrow.flight.protocol.FlightService/"
}

/// Bounds of the Flight service.
enum FlightLimits {
    /// Bytes of one request message that carries no rows.
    static let requestBytesMax = 1 << 20
    /// Bytes of one message with rows from a client.
    static let uploadMessageBytesMax = 16 << 20
    /// Bytes of rows in one message to a client; a single row may be longer.
    static let messageBytesMax = 4 << 20
    /// Bytes of messages that may wait to be sent while the next one is made.
    static let aheadBytes = 4 << 20
    /// Results that wait for their reader, of one node and of one token.
    static let heldMax = 256
    static let heldPerTokenMax = 32
    /// How long a result waits for its reader.
    static let heldTime = Duration.seconds(30)
    /// How long a client may take for one message before its stream is given up.
    static let stalledTime = Duration.seconds(60)
    /// Prepared statements of one node and of one token.
    static let preparedMax = 4096
    static let preparedPerTokenMax = 512
    /// How long an unused prepared statement is kept.
    static let preparedTime = Duration.seconds(3600)
    /// Bytes of one statement.
    static let statementBytesMax = 256 * 1024
    /// Parameters of one statement.
    static let parametersMax = 1024
}
