internal import Crypto
internal import Foundation
package import Primitives
internal import SwiftASN1
internal import X509

/// The first certificate of a PEM file, with what operators and checks want to know of it.
package struct CertificateFile: Sendable {
    /// Where it was read from.
    package let path: String
    let certificate: Certificate
    /// How many certificates the file holds.
    package let chainLength: Int

    /// Reads the PEM file at `path`.
    /// - Throws: ``PKIError`` `.unreadableFile`, `.malformed`.
    package init(path: String) throws(PKIError) {
        try self.init(path: path, pem: WholeTextFile.read(path))
    }

    /// Takes `pem` as the content of a file at `path`.
    package init(path: String, pem: String) throws(PKIError) {
        do {
            let documents = try PEMDocument.parseMultiple(pemString: pem)
                .filter { $0.discriminator == Certificate.defaultPEMDiscriminator }
            guard let first = documents.first else {
                throw PKIError(.malformed, "\(path) holds no certificate (PEM block CERTIFICATE)")
            }
            self.certificate = try Certificate(pemDocument: first)
            self.chainLength = documents.count
            self.path = path
        } catch let error as PKIError {
            throw error
        } catch {
            throw PKIError(.malformed, "\(path) is not a certificate in PEM", cause: error)
        }
    }

    package var subject: String { String(describing: self.certificate.subject) }
    package var issuer: String { String(describing: self.certificate.issuer) }
    package var validFrom: Timestamp { Self.timestamp(self.certificate.notValidBefore) }
    package var validUntil: Timestamp { Self.timestamp(self.certificate.notValidAfter) }

    /// DNS names and IP addresses of the subject alternative names, as text, in their order.
    package var names: [String] { self.alternativeNames.compactMap(Self.text) }

    /// SHA-256 of the certificate's DER bytes.
    package var fingerprint: Primitives.Digest? {
        guard let bytes = try? self.certificate.serializeAsPEM().derBytes else { return nil }
        return Primitives.Digest(bytes: Array(SHA256.hash(data: bytes)))
    }

    /// True when the certificate may sign others.
    package var isAuthority: Bool {
        if case .isCertificateAuthority = try? self.certificate.extensions.basicConstraints { true } else { false }
    }

    /// Whether it may serve, and whether it may be a client; a certificate without extended key usage may both.
    package var usage: (server: Bool, client: Bool) {
        guard let usage = try? self.certificate.extensions.extendedKeyUsage else { return (true, true) }
        return (
            usage.contains(.serverAuth) || usage.contains(.any), usage.contains(.clientAuth) || usage.contains(.any)
        )
    }

    /// True when `host`, a DNS name or an IP address, is among the alternative names; `*.` covers one label.
    package func covers(host: String) -> Bool {
        if let address = IPAddressBytes.parse(host) {
            return self.alternativeNames.contains { name in
                if case .ipAddress(let bytes) = name { Array(bytes.bytes) == address } else { false }
            }
        }
        let wanted = host.lowercased()
        let wildcard = wanted.firstIndex(of: ".").map { "*" + wanted[$0...] }
        return self.alternativeNames.contains { name in
            if case .dnsName(let text) = name {
                text.lowercased() == wanted || text.lowercased() == wildcard
            } else {
                false
            }
        }
    }

    /// True when `authority`'s key signed this certificate and its name is the issuer's.
    package func isSigned(by authority: CertificateFile) -> Bool {
        self.certificate.issuer == authority.certificate.subject
            && authority.certificate.publicKey.isValidSignature(self.certificate.signature, for: self.certificate)
    }

    /// True when the private key in the PEM file at `path` belongs to this certificate.
    /// - Throws: ``PKIError`` `.unreadableFile`, `.malformed`.
    package func matches(keyFile path: String) throws(PKIError) -> Bool {
        let pem = try WholeTextFile.read(path)
        do {
            return try Certificate.PrivateKey(pemEncoded: pem).publicKey == self.certificate.publicKey
        } catch {
            throw PKIError(
                .malformed,
                "\(path) is not a private key in PEM that can be read (unencrypted PKCS#8, SEC 1 or RSA)"
            )
        }
    }

    /// Lines for `ftnode pki show`.
    package func explanation(now: Timestamp) -> [(label: String, value: String)] {
        let validity =
            now < self.validFrom
            ? "not valid yet" : now >= self.validUntil ? "EXPIRED" : "valid, \(self.daysLeft(now)) days left"
        return [
            ("subject", self.subject),
            ("issuer", self.issuer + (self.certificate.issuer == self.certificate.subject ? " (itself)" : "")),
            ("kind", self.isAuthority ? "certificate authority" : self.usageText),
            ("names", self.names.isEmpty ? "none" : self.names.joined(separator: ", ")),
            ("valid from", self.validFrom.description),
            ("valid until", "\(self.validUntil) (\(validity))"),
            ("serial", Hex.encode(self.certificate.serialNumber.bytes)),
            ("fingerprint", self.fingerprint.map { "sha256 \($0)" } ?? "cannot be computed"),
        ]
    }

    private func daysLeft(_ now: Timestamp) -> Int64 { (self.validUntil.rawValue - now.rawValue) / 86_400_000_000 }

    private var usageText: String {
        switch self.usage {
        case (true, true): "server and client"
        case (true, false): "server"
        case (false, true): "client"
        case (false, false): "neither server nor client"
        }
    }

    private var alternativeNames: [GeneralName] {
        (try? self.certificate.extensions.subjectAlternativeNames).map(Array.init) ?? []
    }

    private static func text(_ name: GeneralName) -> String? {
        switch name {
        case .dnsName(let text): text
        case .ipAddress(let bytes): IPAddressBytes.text(Array(bytes.bytes))
        default: nil
        }
    }

    private static func timestamp(_ date: Date) -> Timestamp {
        Timestamp(microseconds: Int64(date.timeIntervalSince1970 * 1_000_000))
    }
}

/// IP addresses between text and the bytes that stand in certificates.
enum IPAddressBytes {
    /// 4 or 16 bytes; nil when `text` is no address.
    static func parse(_ text: String) -> [UInt8]? {
        var four = in_addr()
        if inet_pton(AF_INET, text, &four) == 1 { return withUnsafeBytes(of: &four) { Array($0) } }
        var sixteen = in6_addr()
        if inet_pton(AF_INET6, text, &sixteen) == 1 { return withUnsafeBytes(of: &sixteen) { Array($0) } }
        return nil
    }

    static func text(_ bytes: [UInt8]) -> String? {
        guard bytes.count == 4 || bytes.count == 16 else { return nil }
        let lengthMax = Int(INET6_ADDRSTRLEN)
        var text = [CChar](repeating: 0, count: lengthMax)
        let family = bytes.count == 4 ? AF_INET : AF_INET6
        guard inet_ntop(family, bytes, &text, socklen_t(lengthMax)) != nil else { return nil }
        return String(decoding: text.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
    }
}
