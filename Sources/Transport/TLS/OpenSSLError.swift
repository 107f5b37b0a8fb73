internal import COpenSSL

/// One entry of OpenSSL's error queue.
struct OpenSSLFailure {
    var reason: Int32
    var library: Int32
    var text: String
}

/// Empties this thread's OpenSSL error queue.
func drainOpenSSLErrors() -> [OpenSSLFailure] {
    let entriesMax = 16
    var failures: [OpenSSLFailure] = []
    while case let code = ERR_get_error(), code != 0 {
        guard failures.count < entriesMax else { continue }
        let text = unsafe ERR_reason_error_string(code).map { unsafe String(cString: $0) }
        failures.append(
            OpenSSLFailure(
                reason: shim_ERR_reason(code),
                library: shim_ERR_library(code),
                text: text ?? "error \(String(code, radix: 16))"
            )
        )
    }
    return failures
}

/// This thread's OpenSSL error queue as one line of text.
func opensslReason() -> String {
    let failures = drainOpenSSLErrors()
    return failures.isEmpty ? "no reason given" : failures.map(\.text).joined(separator: "; ")
}

/// Throws unless an OpenSSL call returned 1.
func opensslCheck(_ result: Int32, _ operation: @autoclosure () -> String) throws(TransportError) {
    guard result == 1 else {
        throw TransportError(.badConfiguration, "\(operation()): \(opensslReason())")
    }
}

extension TransportError {
    /// The error for a certificate that this side refused; `verifyResult` is an `X509_V_ERR_…`.
    static func refused(verifyResult: Int, peer: String, certificate: PeerCertificate?) -> TransportError {
        let code: Code =
            switch Int32(truncatingIfNeeded: verifyResult) {
            case X509_V_ERR_CERT_HAS_EXPIRED, X509_V_ERR_CERT_NOT_YET_VALID: .certificateExpired
            case X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH, X509_V_ERR_CERT_REJECTED:
                .certificateNameMismatch
            default: .untrustedCertificate
            }
        let reason = unsafe X509_verify_cert_error_string(verifyResult).map { unsafe String(cString: $0) } ?? "refused"
        var message = "the certificate of \(peer) is refused: \(reason)"
        if let certificate { message += " (it is for \(certificate.namesText); issued by \(certificate.issuer))" }
        return TransportError(code, message)
    }

    /// The error for a handshake or record that failed.
    static func tls(_ operation: String, peer: String, failures: [OpenSSLFailure]) -> TransportError {
        let text = failures.isEmpty ? "the other side ended it" : failures.map(\.text).joined(separator: "; ")
        let alert = failures.first { $0.library == ERR_LIB_SSL && $0.reason > SSL_AD_REASON_OFFSET }
        let code: Code =
            switch alert.map({ $0.reason - SSL_AD_REASON_OFFSET }) {
            case SSL_AD_CERTIFICATE_EXPIRED: .certificateExpired
            case SSL_AD_UNKNOWN_CA: .untrustedCertificate
            default: .handshakeFailed
            }
        let who = alert == nil ? "" : " (said by the other side)"
        return TransportError(code, "TLS \(operation) with \(peer): \(text)\(who)")
    }
}
