internal import COpenSSL

/// Reads certificates from PEM files, for checks at start-up.
package enum CertificateInspector {
    /// What the first certificate of a PEM file says.
    /// - Throws: ``TransportError`` `.badConfiguration` naming the file.
    package static func inspect(file: String) throws(TransportError) -> PeerCertificate {
        try OpenSSLLibrary.start()
        ERR_clear_error()
        guard let bio = unsafe BIO_new_file(file, "r") else {
            throw TransportError(.badConfiguration, "cannot open the certificate file \(file): \(opensslReason())")
        }
        defer { unsafe BIO_free(bio) }
        guard let certificate = unsafe PEM_read_bio_X509(bio, nil, nil, nil) else {
            throw TransportError(.badConfiguration, "\(file) holds no PEM certificate: \(opensslReason())")
        }
        defer { unsafe X509_free(certificate) }
        return unsafe PeerCertificate(handle: certificate)
    }

    /// Checks that the first certificate of a PEM file is valid at a time.
    /// - Parameter nowUnixSeconds: The caller's clock, seconds since 1970-01-01T00:00:00Z.
    /// - Throws: ``TransportError`` `.certificateExpired` naming the file, or `.badConfiguration`.
    @discardableResult
    package static func requireValid(file: String, nowUnixSeconds: Int64) throws(TransportError) -> PeerCertificate {
        let certificate = try self.inspect(file: file)
        guard nowUnixSeconds <= certificate.notAfterUnixSeconds else {
            let days = (nowUnixSeconds - certificate.notAfterUnixSeconds) / 86_400
            throw TransportError(
                .certificateExpired,
                "the certificate in \(file) (\(certificate.subject)) expired \(days) days ago"
            )
        }
        guard nowUnixSeconds >= certificate.notBeforeUnixSeconds else {
            throw TransportError(
                .certificateExpired,
                "the certificate in \(file) (\(certificate.subject)) is not valid yet; is this machine's clock right?"
            )
        }
        return certificate
    }
}
