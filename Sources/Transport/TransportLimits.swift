/// The bounds on what one peer may make this process hold, and for how long.
///
/// A connection buffers at most `connectionWindowBytes` of bodies that nobody has taken yet, plus
/// `collectedBytesMax` of bodies being collected, plus `concurrentStreamsMax` heads of `headerBytesMax` and as many
/// response buffers of `responseBufferBytes`.
package struct TransportLimits: Sendable, Hashable {
    /// Names and values of one head, with the 32 bytes per field of RFC 9113, section 6.5.2.
    package var headerBytesMax = 16 * 1024
    /// Streams that a client may have open at once on one connection.
    package var concurrentStreamsMax = 256
    /// Body bytes of one stream that may be on their way before their consumer has taken any.
    package var streamWindowBytes = 256 * 1024
    /// The same for all streams of a connection.
    package var connectionWindowBytes = 4 * 1024 * 1024
    /// Bytes of unfinished `.collected` bodies of one connection; a stream that goes over it is refused (retryable).
    package var collectedBytesMax = 64 * 1024 * 1024
    /// From the TCP connection to the end of the TLS handshake.
    package var handshakeTimeout: Duration = .seconds(10)
    /// From the first byte of a request's head to its last.
    package var headTimeout: Duration = .seconds(10)
    /// From a request's head to the last byte of a body that is being collected.
    package var collectTimeout: Duration = .seconds(120)
    /// A connection on which nothing moves for so long is closed.
    package var idleTimeout: Duration = .seconds(120)
    /// How long a graceful shutdown lets open streams go on.
    package var gracefulShutdownTimeout: Duration = .seconds(10)
    /// Stream resets that a client may send in one burst before its connection is ended.
    package var streamResetsMax = 500
    /// Stream resets per second that refill that burst.
    package var streamResetsPerSecond = 50
    /// PING, SETTINGS, PRIORITY, WINDOW_UPDATE and empty frames that may come in one burst without useful traffic.
    package var controlFramesMax = 2_000
    /// Such frames per second that refill that burst.
    package var controlFramesPerSecond = 200
    /// Connections that a server serves at once; further ones are closed at once.
    package var connectionsMax = 10_000
    /// Bytes of one streamed body that may wait to be sent before its writer is suspended.
    package var responseBufferBytes = 256 * 1024
    /// Bytes that may wait in the socket's queue before no more frames are made.
    package var writeBufferBytesMax = 256 * 1024
    /// Requests of a client that may wait for a free stream on one connection.
    package var queuedRequestsMax = 4_096
    /// From the start of a client's connection attempt to the server's SETTINGS.
    package var connectTimeout: Duration = .seconds(10)
    /// Silence after which a client sends a PING; nil for never.
    package var keepAliveInterval: Duration?
    /// How long a client waits for the answer to that PING before it closes the connection.
    package var keepAliveTimeout: Duration = .seconds(3)

    /// The defaults, meant for a server that faces clients.
    package init() {}

    /// The defaults for links between nodes: dead links are noticed within seconds.
    package static var peers: TransportLimits {
        var limits = TransportLimits()
        limits.concurrentStreamsMax = 1024
        limits.streamWindowBytes = 4 * 1024 * 1024
        limits.connectionWindowBytes = 32 * 1024 * 1024
        // A chunk of a snapshot is on its way while the next is read.
        limits.responseBufferBytes = 2 * 1024 * 1024
        limits.connectTimeout = .seconds(3)
        limits.keepAliveInterval = .seconds(2)
        return limits
    }

    /// Frames that are encrypted together and sent with one call of the system, about: each call wakes the client.
    static let burstBytesMax = 1024 * 1024
    /// Longest DATA frame that is sent to a peer that takes longer ones than RFC 9113 has all of them take.
    static let dataFrameBytesMax = 256 * 1024
    /// The plaintext of one TLS record (RFC 8446, section 5.1).
    static let recordBytes = 16 * 1024
    /// Connections the kernel completes before they are accepted.
    static let listenBacklog: CInt = 1024
    /// How often a connection looks at its deadlines, at most.
    static let deadlineTickMin: Duration = .milliseconds(50)
    /// A head this many times over `headerBytesMax` resets its stream instead of being answered with 431.
    static let headerOverrunMax = 4

    /// Checks that every bound is usable.
    /// - Throws: ``TransportError`` `.badConfiguration` naming the first bad bound.
    package func validate() throws(TransportError) {
        let positive: [(String, Int)] = [
            ("headerBytesMax", self.headerBytesMax), ("concurrentStreamsMax", self.concurrentStreamsMax),
            ("collectedBytesMax", self.collectedBytesMax), ("streamResetsMax", self.streamResetsMax),
            ("streamResetsPerSecond", self.streamResetsPerSecond), ("controlFramesMax", self.controlFramesMax),
            ("controlFramesPerSecond", self.controlFramesPerSecond), ("connectionsMax", self.connectionsMax),
            ("responseBufferBytes", self.responseBufferBytes), ("writeBufferBytesMax", self.writeBufferBytesMax),
            ("queuedRequestsMax", self.queuedRequestsMax), ("streamWindowBytes", self.streamWindowBytes),
        ]
        for (name, value) in positive where value < 1 || value > Int(Int32.max) {
            throw TransportError(.badConfiguration, "\(name) is \(value), it must be in 1...\(Int32.max)")
        }
        guard self.connectionWindowBytes >= 65_535, self.connectionWindowBytes <= Int(Int32.max) else {
            throw TransportError(
                .badConfiguration,
                "connectionWindowBytes is \(self.connectionWindowBytes), it must be in 65535...\(Int32.max)"
            )
        }
    }
}
