internal import Crypto
internal import Foundation
package import Primitives
internal import SwiftASN1
internal import X509

/// A cluster's own certificate authority: signs the certificates of its nodes and of clients.
///
/// ECDSA with P-256 and SHA-256; the CA may sign end certificates only (path length 0). RFC 5280.
package struct CertificateAuthority: Sendable {
    /// A certificate, with the chain that a server must show, and its private key, as PEM.
    package struct Issued: Sendable {
        package let certificatePEM: String
        package let keyPEM: String
    }

    /// How long certificates are valid when nobody says otherwise.
    package enum DefaultDays {
        package static let authority = 3650
        package static let node = 825
        package static let client = 365
    }

    /// The longest validity, in days.
    package static let daysMax = 36_500
    /// The most hosts of one node certificate.
    package static let hostsMax = 64

    /// The cluster that it signs for.
    package let clusterID: String
    private let certificate: Certificate
    private let key: Certificate.PrivateKey

    private init(clusterID: String, certificate: Certificate, key: Certificate.PrivateKey) {
        self.clusterID = clusterID
        self.certificate = certificate
        self.key = key
    }

    /// Makes a new CA for `cluster`, valid from a little before `now` for `days`.
    /// - Throws: ``PKIError`` `.invalidArgument`.
    package static func make(cluster: String, days: Int, now: Timestamp) throws(PKIError) -> CertificateAuthority {
        guard ConfigurationRules.isName(cluster) else {
            throw PKIError(
                .invalidArgument,
                "\"\(cluster)\" is not a cluster's name: \(ConfigurationKind.name.allowed)"
            )
        }
        let key = Certificate.PrivateKey(P256.Signing.PrivateKey())
        let validity = try self.validity(days: days, now: now)
        return try self.signing { () throws -> CertificateAuthority in
            let name = try DistinguishedName {
                OrganizationName(cluster)
                CommonName("\(cluster) Flask Track CA")
            }
            let certificate = try Certificate(
                version: .v3,
                serialNumber: .init(),
                publicKey: key.publicKey,
                notValidBefore: validity.from,
                notValidAfter: validity.until,
                issuer: name,
                subject: name,
                extensions: try Certificate.Extensions {
                    Critical(BasicConstraints.isCertificateAuthority(maxPathLength: 0))
                    Critical(KeyUsage(keyCertSign: true, cRLSign: true))
                    SubjectKeyIdentifier(hash: key.publicKey)
                },
                issuerPrivateKey: key
            )
            return CertificateAuthority(clusterID: cluster, certificate: certificate, key: key)
        }
    }

    /// Takes a CA from its PEM texts; `path` stands in errors.
    /// - Throws: ``PKIError`` `.malformed` also for a certificate that is no CA of a cluster, or another one's key.
    package init(certificatePEM: String, keyPEM: String, path: String) throws(PKIError) {
        let file = try CertificateFile(path: path, pem: certificatePEM)
        guard file.isAuthority, let cluster = Self.clusterID(of: file.certificate.subject) else {
            throw PKIError(.malformed, "\(path) is not a cluster's CA made by pki init")
        }
        let key: Certificate.PrivateKey
        do { key = try Certificate.PrivateKey(pemEncoded: keyPEM) } catch {
            throw PKIError(.malformed, "the private key of \(path) is not a private key in PEM")
        }
        guard key.publicKey == file.certificate.publicKey else {
            throw PKIError(.malformed, "the private key beside \(path) belongs to another certificate")
        }
        self.init(clusterID: cluster, certificate: file.certificate, key: key)
    }

    /// The CA's own certificate and key.
    package func exported() throws(PKIError) -> Issued {
        try Self.signing { () throws -> Issued in
            Issued(
                certificatePEM: try self.certificate.serializeAsPEM().pemString + "\n",
                keyPEM: try self.key.serializeAsPEM().pemString + "\n"
            )
        }
    }

    /// Signs a certificate for a node: it serves the API and is both ends of peer links.
    ///
    /// - Parameter hosts: DNS names and IP addresses by which clients reach the node; the peer identity is added.
    /// - Throws: ``PKIError`` `.invalidArgument`.
    package func issueNode(_ node: NodeID, hosts: [String], days: Int, now: Timestamp) throws(PKIError) -> Issued {
        guard hosts.count <= Self.hostsMax else {
            throw PKIError(.invalidArgument, "at most \(Self.hostsMax) hosts can stand in one certificate")
        }
        let identity = PeerIdentity.dnsName(node: node, cluster: self.clusterID)
        var names: [GeneralName] = [.dnsName(identity)]
        for host in hosts {
            if let address = IPAddressBytes.parse(host) {
                names.append(.ipAddress(ASN1OctetString(contentBytes: address[...])))
            } else if !host.isEmpty, host.utf8.count <= 253, host.utf8.allSatisfy(ConfigurationRules.isHostByte) {
                names.append(.dnsName(host))
            } else {
                throw PKIError(.invalidArgument, "\"\(host.prefix(80))\" is neither a DNS name nor an IP address")
            }
        }
        return try self.issue(
            commonName: "node-\(node)",
            names: names,
            usages: [.serverAuth, .clientAuth],
            days: days,
            now: now
        )
    }

    /// Signs a certificate for a client; nodes do not take it for one of theirs.
    /// - Throws: ``PKIError`` `.invalidArgument`.
    package func issueClient(_ name: String, days: Int, now: Timestamp) throws(PKIError) -> Issued {
        guard ConfigurationRules.isName(name) else {
            throw PKIError(
                .invalidArgument,
                "\"\(name.prefix(80))\" is not a client's name: \(ConfigurationKind.name.allowed)"
            )
        }
        return try self.issue(
            commonName: name,
            names: [.dnsName("\(name).client.\(self.clusterID).flasktrack.internal")],
            usages: [.clientAuth],
            days: days,
            now: now
        )
    }

    private func issue(
        commonName: String,
        names: [GeneralName],
        usages: [ExtendedKeyUsage.Usage],
        days: Int,
        now: Timestamp
    ) throws(PKIError) -> Issued {
        let key = Certificate.PrivateKey(P256.Signing.PrivateKey())
        let validity = try Self.validity(days: days, now: now)
        guard validity.until <= self.certificate.notValidAfter else {
            throw PKIError(.invalidArgument, "\(days) days is longer than the CA itself is valid")
        }
        return try Self.signing { () throws -> Issued in
            let authority = try self.certificate.extensions.subjectKeyIdentifier?.keyIdentifier
            let certificate = try Certificate(
                version: .v3,
                serialNumber: .init(),
                publicKey: key.publicKey,
                notValidBefore: validity.from,
                notValidAfter: validity.until,
                issuer: self.certificate.subject,
                subject: try DistinguishedName {
                    OrganizationName(self.clusterID)
                    CommonName(commonName)
                },
                extensions: try Certificate.Extensions {
                    Critical(BasicConstraints.notCertificateAuthority)
                    Critical(KeyUsage(digitalSignature: true))
                    try ExtendedKeyUsage(usages)
                    SubjectAlternativeNames(names)
                    SubjectKeyIdentifier(hash: key.publicKey)
                    AuthorityKeyIdentifier(keyIdentifier: authority)
                },
                issuerPrivateKey: self.key
            )
            // The CA signs directly, so a node shows its own certificate and the CA's.
            let chain = try [certificate, self.certificate].map { try $0.serializeAsPEM().pemString + "\n" }
            return Issued(certificatePEM: chain.joined(), keyPEM: try key.serializeAsPEM().pemString + "\n")
        }
    }

    /// Clocks of nodes may differ by this much, in seconds.
    private static let clockSkewSeconds = 300.0

    private static func validity(days: Int, now: Timestamp) throws(PKIError) -> (from: Date, until: Date) {
        guard (1...self.daysMax).contains(days) else {
            throw PKIError(.invalidArgument, "a certificate is valid for 1 to \(self.daysMax) days, not \(days)")
        }
        let start = (Double(now.rawValue) / 1_000_000).rounded(.down)
        return (
            Date(timeIntervalSince1970: start - self.clockSkewSeconds),
            Date(timeIntervalSince1970: start + Double(days) * 86_400)
        )
    }

    private static func signing<Value>(_ body: () throws -> Value) throws(PKIError) -> Value {
        do { return try body() } catch {
            throw PKIError(.malformed, "a certificate could not be made", cause: error)
        }
    }

    private static func clusterID(of subject: DistinguishedName) -> String? {
        for name in subject {
            for attribute in name where attribute.type == .RDNAttributeType.organizationName {
                return String(attribute.value)
            }
        }
        return nil
    }
}
