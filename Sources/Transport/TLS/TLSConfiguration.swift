/// What a server shows and asks for in its handshakes.
package struct TLSServerConfiguration: Sendable {
    /// Whom the server talks to.
    package enum Clients: Sendable {
        /// Anyone; TLS 1.2 or 1.3, ALPN `h2` or `http/1.1`. Clients show no certificate.
        case anonymous
        /// Only holders of a certificate of the CA in this PEM file; TLS 1.3 and ALPN `h2` only.
        case peers(caFile: String)
    }

    /// PEM: the server's certificate, then the intermediate ones.
    package var certificateChainFile: String
    /// PEM: the key of the first certificate.
    package var privateKeyFile: String
    /// Whom the server talks to.
    package var clients: Clients
    /// Asked during the handshake, on an event loop, about a peer whose certificate chains to the CA.
    ///
    /// False ends the handshake with an alert, before any byte of application data.
    package var acceptsPeer: @Sendable (PeerCertificate) -> Bool

    /// Describes a server.
    package init(
        certificateChainFile: String,
        privateKeyFile: String,
        clients: Clients = .anonymous,
        acceptsPeer: @escaping @Sendable (PeerCertificate) -> Bool = { _ in true }
    ) {
        self.certificateChainFile = certificateChainFile
        self.privateKeyFile = privateKeyFile
        self.clients = clients
        self.acceptsPeer = acceptsPeer
    }
}

/// What a client checks and shows in its handshakes.
package struct TLSClientConfiguration: Sendable {
    /// A certificate and its key.
    package struct Identity: Sendable {
        /// PEM: the client's certificate, then the intermediate ones.
        package var certificateChainFile: String
        /// PEM: the key of the first certificate.
        package var privateKeyFile: String

        /// Names the files of an identity.
        package init(certificateChainFile: String, privateKeyFile: String) {
            self.certificateChainFile = certificateChainFile
            self.privateKeyFile = privateKeyFile
        }
    }

    /// The oldest version of TLS that is spoken.
    package enum MinimumVersion: Sendable {
        /// For servers of the outside world.
        case tls12
        /// For peers.
        case tls13
    }

    /// PEM: the CA certificates that servers' certificates must chain to; nil for the operating system's.
    package var caFile: String?
    /// What the client shows when asked; nil for nothing.
    package var identity: Identity?
    /// The oldest version of TLS that is spoken.
    package var minimumVersion: MinimumVersion

    /// Describes a client.
    package init(caFile: String?, identity: Identity? = nil, minimumVersion: MinimumVersion = .tls13) {
        self.caFile = caFile
        self.identity = identity
        self.minimumVersion = minimumVersion
    }
}
