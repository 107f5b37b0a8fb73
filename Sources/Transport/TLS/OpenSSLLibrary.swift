internal import COpenSSL

/// The library as a whole.
enum OpenSSLLibrary {
    // Runs once, before anything else of the library that would have it clean up.
    private static let isStarted = OPENSSL_init_ssl(UInt64(OPENSSL_INIT_NO_ATEXIT), nil) == 1

    /// Starts the library so that it is left as it is when the process exits; before each of its first uses.
    ///
    /// By itself it frees its locks in `exit`, while threads of event loops may still close connections: a command that had
    /// done its work ended with a segmentation fault (OPENSSL_init_crypto(3), OPENSSL_INIT_NO_ATEXIT).
    /// - Throws: ``TransportError`` `.outOfMemory`.
    static func start() throws(TransportError) {
        guard self.isStarted else { throw TransportError(.outOfMemory, "OpenSSL") }
    }
}
