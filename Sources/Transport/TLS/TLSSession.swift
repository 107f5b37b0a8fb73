internal import COpenSSL
internal import NIOCore

/// Owns one `SSL` and, through it, a memory BIO for what arrives and a sink for what is sent: one end of one TLS
/// connection as a transformation of bytes, with no socket. Confined to one event loop.
@safe final class TLSSession {
    enum ReadOutcome { case needsInput, closedByPeer }

    private let ssl: OpaquePointer
    private let ciphertextIn: OpaquePointer
    private let ciphertextOut = CiphertextSink()
    private let context: TLSContext  // The SSL's verify callback points to what it owns.
    /// The other side, for messages.
    private let peer: String

    /// The certificate that was refused during the handshake.
    private var refused: PeerCertificate?

    /// One end of a connection; `serverName` is what a client demands of the server's certificate.
    init(context: TLSContext, peer: String, serverName: String? = nil) throws(TransportError) {
        let ssl = unsafe SSL_new(context.handle)
        let input = unsafe BIO_new(BIO_s_mem())
        let output = unsafe self.ciphertextOut.makeBIO()
        guard let ssl = unsafe ssl, let input = unsafe input, let output = unsafe output else {
            unsafe SSL_free(ssl)
            unsafe BIO_free(input)
            unsafe BIO_free(output)
            throw TransportError(.outOfMemory, "SSL")
        }
        unsafe shim_BIO_set_empty_is_retry(input)
        unsafe SSL_set_bio(ssl, input, output)  // `ssl` owns both BIOs from here on.
        unsafe self.ssl = ssl
        unsafe self.ciphertextIn = input
        self.context = context
        self.peer = peer
        // Unretained: callbacks come only from within this object's own methods.
        guard unsafe shim_SSL_set_owner(ssl, Unmanaged.passUnretained(self).toOpaque()) == 1 else {
            throw TransportError(.outOfMemory, "SSL")
        }
        guard context.isClient else {
            unsafe SSL_set_accept_state(ssl)
            return
        }
        unsafe SSL_set_connect_state(ssl)
        try self.demand(serverName: serverName ?? peer)
    }

    deinit { unsafe SSL_free(self.ssl) }

    /// Keeps what a verify callback refuses, for the error's message.
    static func noteRefused(_ certificate: OpaquePointer, store: OpaquePointer?) {
        guard let owner = unsafe shim_X509_STORE_CTX_owner(store) else { return }
        let session = unsafe Unmanaged<TLSSession>.fromOpaque(owner).takeUnretainedValue()
        session.refused = unsafe PeerCertificate(handle: certificate)
    }

    /// Makes the handshake fail unless the server's certificate is for this name or address.
    private func demand(serverName name: String) throws(TransportError) {
        let parameters = unsafe SSL_get0_param(self.ssl)
        unsafe X509_VERIFY_PARAM_set_hostflags(
            parameters,
            UInt32(X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT)
        )
        if unsafe X509_VERIFY_PARAM_set1_ip_asc(parameters, name) == 1 { return }
        ERR_clear_error()
        try opensslCheck(unsafe X509_VERIFY_PARAM_set1_host(parameters, name, name.utf8.count), "demand \(name)")
        guard unsafe shim_SSL_set_server_name(self.ssl, name) == 1 else {
            throw TransportError(.badConfiguration, "\(name) is no host name: \(opensslReason())")
        }
    }

    /// The protocol agreed on by ALPN, known once the handshake is complete.
    var applicationProtocol: String? {
        var name: UnsafePointer<UInt8>?
        var length: UInt32 = 0
        unsafe SSL_get0_alpn_selected(self.ssl, &name, &length)
        guard let name = unsafe name else { return nil }
        return unsafe String(decoding: UnsafeBufferPointer(start: name, count: Int(length)), as: UTF8.self)
    }

    /// `TLSv1.3` or `TLSv1.2`.
    var version: String { unsafe String(cString: SSL_get_version(self.ssl)) }

    /// What the other side's certificate says, nil when it showed none.
    var peerCertificate: PeerCertificate? {
        guard let certificate = unsafe SSL_get0_peer_certificate(self.ssl) else { return nil }
        return unsafe PeerCertificate(handle: certificate)
    }

    /// Takes bytes from the network.
    func receive(_ ciphertext: ByteBuffer) throws(TransportError) {
        let accepted = unsafe ciphertext.withUnsafeReadableBytes { bytes in
            var count = 0
            return unsafe bytes.isEmpty
                || BIO_write_ex(self.ciphertextIn, bytes.baseAddress, bytes.count, &count) == 1
        }
        guard accepted else { throw TransportError(.outOfMemory, "TLS input") }
    }

    /// Goes on with the handshake; true once it is complete.
    func handshake() throws(TransportError) -> Bool {
        ERR_clear_error()
        let result = unsafe SSL_do_handshake(self.ssl)
        if result == 1 { return true }
        guard unsafe SSL_get_error(self.ssl, result) == SSL_ERROR_WANT_READ else { throw self.failure("handshake") }
        return false
    }

    /// Appends all plaintext that the received bytes hold.
    func decrypt(into plaintext: inout ByteBuffer) throws(TransportError) -> ReadOutcome {
        while true {
            ERR_clear_error()
            let count = unsafe plaintext.writeWithUnsafeMutableBytes(
                minimumWritableBytes: TransportLimits.recordBytes
            ) { space in
                var count = 0
                return unsafe SSL_read_ex(self.ssl, space.baseAddress, space.count, &count) == 1 ? count : 0
            }
            if count > 0 { continue }
            switch unsafe SSL_get_error(self.ssl, 0) {
            case SSL_ERROR_WANT_READ: return .needsInput
            case SSL_ERROR_ZERO_RETURN: return .closedByPeer
            default: throw self.failure("read")
            }
        }
    }

    /// Makes room for the records of plaintext that will be encrypted in several parts.
    func reserve(plaintextBytes: Int) { self.ciphertextOut.reserve(plaintextBytes: plaintextBytes) }

    /// Encrypts plaintext; the records wait for `takeCiphertext()`.
    func encrypt(_ plaintext: ByteBuffer) throws(TransportError) {
        ERR_clear_error()
        self.ciphertextOut.reserve(plaintextBytes: plaintext.readableBytes)
        let written = unsafe plaintext.withUnsafeReadableBytes { bytes in
            var count = 0  // The sink takes everything, so a write is never partial.
            return unsafe bytes.isEmpty || SSL_write_ex(self.ssl, bytes.baseAddress, bytes.count, &count) == 1
        }
        guard written else { throw self.failure("write") }
    }

    /// Everything that waits to be sent, or nil.
    func takeCiphertext() -> ByteBuffer? { self.ciphertextOut.take() }

    /// Queues the closing alert.
    func shutdown() {
        ERR_clear_error()
        unsafe SSL_shutdown(self.ssl)  // Its result only says whether the peer has closed too.
    }

    private func failure(_ operation: String) -> TransportError {
        let failures = drainOpenSSLErrors()
        let verifyResult = unsafe SSL_get_verify_result(self.ssl)
        let isRefusedHere = failures.contains {
            $0.library == ERR_LIB_SSL && $0.reason == SSL_R_CERTIFICATE_VERIFY_FAILED
        }
        if isRefusedHere, verifyResult != Int(X509_V_OK) {
            return .refused(verifyResult: verifyResult, peer: self.peer, certificate: self.refused)
        }
        return .tls(operation, peer: self.peer, failures: failures)
    }
}
