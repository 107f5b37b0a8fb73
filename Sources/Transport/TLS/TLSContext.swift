internal import COpenSSL
internal import Synchronization

/// Owns one `SSL_CTX`: certificate, key, CA and protocol settings of many connections.
///
/// Nothing changes it after `init`; OpenSSL locks it itself.
@safe package final class TLSContext: Sendable {
    nonisolated(unsafe) let handle: OpaquePointer  // sendable-ok: OpenSSL locks it, freed only in deinit
    /// Kept alive for the verify callback, which gets an unretained pointer to it.
    private let peerCheck: PeerCheck?
    /// Connections speak only h2, and TLS 1.3.
    let isForPeers: Bool
    let isClient: Bool

    /// Reads the files of a server.
    /// - Throws: ``TransportError`` `.badConfiguration` naming the file.
    package init(server configuration: TLSServerConfiguration) throws(TransportError) {
        unsafe self.handle = try Self.make(TLS_server_method())
        self.isClient = false
        switch configuration.clients {
        case .anonymous:
            self.isForPeers = false
            self.peerCheck = nil
            unsafe shim_SSL_CTX_set_min_tls12(self.handle)
            unsafe SSL_CTX_set_num_tickets(self.handle, 1)
            unsafe SSL_CTX_set_alpn_select_cb(self.handle, selectClientProtocol, nil)
        case .peers(let caFile):
            let check = PeerCheck(accepts: configuration.acceptsPeer)
            self.isForPeers = true
            self.peerCheck = check
            unsafe shim_SSL_CTX_set_min_tls13(self.handle)
            // A resumed session would skip the check of the certificate.
            unsafe SSL_CTX_set_num_tickets(self.handle, 0)
            unsafe shim_SSL_CTX_no_session_cache(self.handle)
            try opensslCheck(
                unsafe SSL_CTX_load_verify_locations(self.handle, caFile, nil),
                "load the CA file \(caFile)"
            )
            unsafe SSL_CTX_set_client_CA_list(self.handle, SSL_load_client_CA_file(caFile))
            unsafe SSL_CTX_set_verify(
                self.handle,
                SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
                nil
            )
            // Unretained: `self` holds the check, and every SSL holds the context through its TLSSession.
            unsafe SSL_CTX_set_cert_verify_callback(
                self.handle,
                verifyPeer,
                Unmanaged.passUnretained(check).toOpaque()
            )
            unsafe SSL_CTX_set_alpn_select_cb(self.handle, selectPeerProtocol, nil)
        }
        try self.loadIdentity(
            certificateChainFile: configuration.certificateChainFile,
            privateKeyFile: configuration.privateKeyFile
        )
    }

    /// Reads the files of a client.
    /// - Throws: ``TransportError`` `.badConfiguration` naming the file.
    package init(client configuration: TLSClientConfiguration) throws(TransportError) {
        unsafe self.handle = try Self.make(TLS_client_method())
        self.isClient = true
        self.isForPeers = false
        self.peerCheck = nil
        switch configuration.minimumVersion {
        case .tls12: unsafe shim_SSL_CTX_set_min_tls12(self.handle)
        case .tls13: unsafe shim_SSL_CTX_set_min_tls13(self.handle)
        }
        unsafe SSL_CTX_set_verify(self.handle, SSL_VERIFY_PEER, nil)
        unsafe SSL_CTX_set_cert_verify_callback(self.handle, verifyPeer, nil)
        if let caFile = configuration.caFile {
            try opensslCheck(
                unsafe SSL_CTX_load_verify_locations(self.handle, caFile, nil),
                "load the CA file \(caFile)"
            )
        } else {
            try opensslCheck(unsafe SSL_CTX_set_default_verify_paths(self.handle), "load the system's CA certificates")
        }
        let protocols: [UInt8] = [2] + Array("h2".utf8)
        // This one call returns 0 for success.
        guard unsafe SSL_CTX_set_alpn_protos(self.handle, protocols, UInt32(protocols.count)) == 0 else {
            throw TransportError(.outOfMemory, "ALPN protocols")
        }
        if let identity = configuration.identity {
            try self.loadIdentity(
                certificateChainFile: identity.certificateChainFile,
                privateKeyFile: identity.privateKeyFile
            )
        }
    }

    deinit { unsafe SSL_CTX_free(self.handle) }

    private static func make(_ method: OpaquePointer?) throws(TransportError) -> OpaquePointer {
        try OpenSSLLibrary.start()
        ERR_clear_error()
        guard let handle = unsafe SSL_CTX_new(method) else { throw TransportError(.outOfMemory, "SSL_CTX") }
        unsafe shim_SSL_CTX_read_ahead(handle)  // One BIO read for many records, not two per record.
        unsafe shim_SSL_CTX_no_renegotiation(handle)
        unsafe shim_SSL_CTX_release_buffers(handle)
        return unsafe handle
    }

    private func loadIdentity(certificateChainFile: String, privateKeyFile: String) throws(TransportError) {
        try opensslCheck(
            unsafe SSL_CTX_use_certificate_chain_file(self.handle, certificateChainFile),
            "load the certificate \(certificateChainFile)"
        )
        try opensslCheck(
            unsafe SSL_CTX_use_PrivateKey_file(self.handle, privateKeyFile, SSL_FILETYPE_PEM),
            "load the key \(privateKeyFile)"
        )
        try opensslCheck(
            unsafe SSL_CTX_check_private_key(self.handle),
            "match the key \(privateKeyFile) to the certificate \(certificateChainFile)"
        )
    }
}

/// Certificates that can be read again while connections go on.
package final class ReloadableTLSContext: Sendable {
    private let make: @Sendable () throws(TransportError) -> TLSContext
    private let newest: Mutex<TLSContext>

    /// Reads the files of a server.
    /// - Throws: ``TransportError`` `.badConfiguration` naming the file.
    package init(server configuration: TLSServerConfiguration) throws(TransportError) {
        self.make = { () throws(TransportError) in try TLSContext(server: configuration) }
        self.newest = Mutex(try TLSContext(server: configuration))
    }

    /// Reads the files of a client.
    /// - Throws: ``TransportError`` `.badConfiguration` naming the file.
    package init(client configuration: TLSClientConfiguration) throws(TransportError) {
        self.make = { () throws(TransportError) in try TLSContext(client: configuration) }
        self.newest = Mutex(try TLSContext(client: configuration))
    }

    /// What new connections use.
    package var current: TLSContext { self.newest.withLock { $0 } }

    /// Reads the files again; connections opened from now on use them, open ones go on.
    ///
    /// Blocks for a few file reads. After an error the former certificates stay in use.
    /// - Throws: ``TransportError`` `.badConfiguration` naming the file.
    package func reload() throws(TransportError) {
        let context = try self.make()
        self.newest.withLock { $0 = context }
    }
}

/// The application's check of a peer.
private final class PeerCheck: Sendable {
    let accepts: @Sendable (PeerCertificate) -> Bool

    init(accepts: @escaping @Sendable (PeerCertificate) -> Bool) { self.accepts = accepts }
}

/// Verifies the chain as OpenSSL would, then, with a ``PeerCheck``, asks the application about the leaf's names.
private func verifyPeer(_ store: OpaquePointer?, _ argument: UnsafeMutableRawPointer?) -> Int32 {
    let isChainGood = unsafe X509_verify_cert(store) == 1
    guard let leaf = unsafe X509_STORE_CTX_get0_cert(store) else { return 0 }
    guard let argument = unsafe argument else {
        if !isChainGood { unsafe TLSSession.noteRefused(leaf, store: store) }
        return isChainGood ? 1 : 0
    }
    let check = unsafe Unmanaged<PeerCheck>.fromOpaque(argument).takeUnretainedValue()
    if isChainGood, check.accepts(unsafe PeerCertificate(handle: leaf)) { return 1 }
    if isChainGood { unsafe X509_STORE_CTX_set_error(store, X509_V_ERR_CERT_REJECTED) }
    unsafe TLSSession.noteRefused(leaf, store: store)
    return 0
}

/// ALPN for clients: `h2`, else `http/1.1`.
private func selectClientProtocol(
    _: OpaquePointer?,
    selected: UnsafeMutablePointer<UnsafePointer<UInt8>?>?,
    selectedLength: UnsafeMutablePointer<UInt8>?,
    offered: UnsafePointer<UInt8>?,
    offeredLength: UInt32,
    _: UnsafeMutableRawPointer?
) -> Int32 {
    for name in ["h2", "http/1.1"]
    where unsafe select(name, &selected.unsafelyUnwrapped.pointee, selectedLength, offered, offeredLength) {
        return SSL_TLSEXT_ERR_OK
    }
    return SSL_TLSEXT_ERR_ALERT_FATAL
}

/// ALPN for peers: `h2` or nothing.
private func selectPeerProtocol(
    _: OpaquePointer?,
    selected: UnsafeMutablePointer<UnsafePointer<UInt8>?>?,
    selectedLength: UnsafeMutablePointer<UInt8>?,
    offered: UnsafePointer<UInt8>?,
    offeredLength: UInt32,
    _: UnsafeMutableRawPointer?
) -> Int32 {
    let isFound = unsafe select("h2", &selected.unsafelyUnwrapped.pointee, selectedLength, offered, offeredLength)
    return isFound ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL
}

/// Looks for a name in the client's list of length-prefixed names.
///
/// The answer points into the client's own list, so that nothing of Swift's has to outlive the call.
private func select(
    _ wanted: String,
    _ selected: inout UnsafePointer<UInt8>?,
    _ selectedLength: UnsafeMutablePointer<UInt8>?,
    _ offered: UnsafePointer<UInt8>?,
    _ offeredLength: UInt32
) -> Bool {
    let names = unsafe UnsafeBufferPointer(start: offered, count: Int(offeredLength))
    var start = 0
    while start < names.count {
        let name = unsafe names[(start + 1)...].prefix(Int(names[start]))
        if unsafe name.elementsEqual(wanted.utf8) {
            unsafe selected = UnsafeBufferPointer(rebasing: name).baseAddress
            unsafe selectedLength?.pointee = UInt8(name.count)
            return true
        }
        start = unsafe name.endIndex
    }
    return false
}
