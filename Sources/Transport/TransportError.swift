/// What can go wrong between two ends of a connection.
///
/// `description` never contains the cause; walk `cause` to see the chain. No payload byte and no secret is ever in it.
package struct TransportError: Error, Sendable, CustomStringConvertible {
    /// The kinds of failure, each with the answer it asks for.
    package enum Code: String, Sendable, CaseIterable {
        /// The TLS handshake failed for another reason than the three below: check both configurations.
        case handshakeFailed
        /// A certificate is no longer, or not yet, valid: renew it.
        case certificateExpired
        /// A certificate is for another name or address: connect to the right one, or reissue it.
        case certificateNameMismatch
        /// A certificate does not chain to the configured CA: configure the right CA.
        case untrustedCertificate
        /// No connection could be opened: retry, or use another address.
        case connectFailed
        /// Another process listens on the port: choose another.
        case portInUse
        /// The other side ended this request only: retry if it is idempotent.
        case streamReset
        /// The connection is gone: connect again, and retry if the request is idempotent.
        case connectionClosed
        /// The other side broke HTTP or TLS: give up this connection.
        case protocolViolation
        /// A body or header is over its limit: send less.
        case tooLarge
        /// Time ran out: the other side may or may not have acted.
        case timeout
        /// A bounded queue is full: retry later.
        case overloaded
        /// A file, address or setting is unusable: the operator must change it.
        case badConfiguration
        /// A C library could not allocate an object.
        case outOfMemory
    }

    /// What kind of failure this is.
    package let code: Code
    /// What was being done, with whom, and what went wrong.
    package let message: String
    /// The failure underneath, if any.
    package let cause: (any Error)?
    /// True when a request was certainly not sent.
    package let wasNotSent: Bool

    /// Makes an error; `message` says what was being done and with which host or file.
    package init(_ code: Code, _ message: String, cause: (any Error)? = nil, wasNotSent: Bool = false) {
        self.code = code
        self.message = message
        self.cause = cause
        self.wasNotSent = wasNotSent
    }

    /// The code and the message, without the cause.
    package var description: String { "\(self.code.rawValue): \(self.message)" }

    /// True when the request was certainly not acted upon by the other side, so that it may be sent again.
    package var isSafeToRetry: Bool {
        switch self.code {
        case .connectFailed, .overloaded, .handshakeFailed, .certificateExpired, .certificateNameMismatch,
            .untrustedCertificate:
            true
        default: self.wasNotSent
        }
    }
}
