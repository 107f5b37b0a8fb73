internal import COpenSSL

/// What a certificate says, as values.
package struct PeerCertificate: Sendable, Hashable {
    /// Subject alternative names of kind DNS.
    package let dnsNames: [String]
    /// Subject alternative names of kind IP address, as text.
    package let ipAddresses: [String]
    /// Subject alternative names of kind URI.
    package let uris: [String]
    /// The subject as one line, such as `CN = node-1`.
    package let subject: String
    /// The issuer as one line.
    package let issuer: String
    /// Seconds since 1970-01-01T00:00:00Z from which the certificate is valid.
    package let notBeforeUnixSeconds: Int64
    /// Seconds since 1970-01-01T00:00:00Z after which the certificate is no longer valid.
    package let notAfterUnixSeconds: Int64

    /// Copies what the handshake's certificate says; `handle` is only lent.
    init(handle: OpaquePointer) {
        var dnsNames: [String] = []
        var ipAddresses: [String] = []
        var uris: [String] = []
        if let names = unsafe X509_get_ext_d2i(handle, NID_subject_alt_name, nil, nil) {
            let names = OpaquePointer(names)
            for index in unsafe 0..<max(0, shim_general_names_count(names)) {
                var bytes: UnsafePointer<UInt8>?
                var length: Int32 = 0
                let kind = unsafe shim_general_name(names, index, &bytes, &length)
                let value = unsafe [UInt8](UnsafeBufferPointer(start: bytes, count: Int(max(length, 0))))
                switch kind {
                case GEN_DNS: dnsNames.append(String(decoding: value, as: UTF8.self))
                case GEN_URI: uris.append(String(decoding: value, as: UTF8.self))
                case GEN_IPADD: ipAddresses.append(Self.text(ofAddress: value))
                default: break
                }
            }
            unsafe GENERAL_NAMES_free(names)
        }
        self.dnsNames = dnsNames
        self.ipAddresses = ipAddresses
        self.uris = uris
        self.subject = unsafe Self.text(of: X509_get_subject_name(handle))
        self.issuer = unsafe Self.text(of: X509_get_issuer_name(handle))
        self.notBeforeUnixSeconds = unsafe Self.unixSeconds(X509_get0_notBefore(handle))
        self.notAfterUnixSeconds = unsafe Self.unixSeconds(X509_get0_notAfter(handle))
    }

    private static func text(of name: OpaquePointer?) -> String {
        guard let name = unsafe name, let bio = unsafe BIO_new(BIO_s_mem()) else { return "" }
        defer { unsafe BIO_free(bio) }
        guard unsafe X509_NAME_print_ex(bio, name, 0, UInt(shim_XN_FLAG_ONELINE())) >= 0 else { return "" }
        let count = unsafe shim_BIO_pending(bio)
        return unsafe String(unsafeUninitializedCapacity: count) { space in
            var read = 0
            return unsafe BIO_read_ex(bio, space.baseAddress, count, &read) == 1 ? read : 0
        }
    }

    private static func text(ofAddress bytes: [UInt8]) -> String {
        if bytes.count == 4 { return bytes.map(String.init).joined(separator: ".") }
        let groups = stride(from: 0, to: bytes.count - 1, by: 2).map {
            String(UInt16(bytes[$0]) << 8 | UInt16(bytes[$0 + 1]), radix: 16)
        }
        return groups.joined(separator: ":")
    }

    private static func unixSeconds(_ time: UnsafePointer<ASN1_TIME>?) -> Int64 {
        guard let epoch = unsafe ASN1_TIME_set(nil, 0) else { return 0 }
        defer { unsafe ASN1_TIME_free(epoch) }
        var days: Int32 = 0
        var seconds: Int32 = 0
        guard unsafe ASN1_TIME_diff(&days, &seconds, epoch, time) == 1 else { return 0 }
        return Int64(days) * 86_400 + Int64(seconds)
    }

    /// All names and addresses, for messages.
    var namesText: String {
        let names = self.dnsNames + self.ipAddresses + self.uris
        return names.isEmpty ? "no alternative names" : names.joined(separator: ", ")
    }
}
