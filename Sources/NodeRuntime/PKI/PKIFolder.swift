internal import AuditLedger
package import Primitives

/// A folder with a cluster's CA and the certificates that it signed, named as `ftnode pki` names them.
///
/// Keys have mode 0600. Nothing is replaced unless asked.
package struct PKIFolder: Sendable {
    /// Hosts that a node certificate names when none are given.
    package static let defaultHosts = ["localhost", "127.0.0.1", "::1"]

    package let path: String

    package init(path: String) { self.path = path }

    package var caFile: String { self.path + "/ca.pem" }
    package var caKeyFile: String { self.path + "/ca.key" }

    /// The certificate chain of a node or client: `NAME.pem`.
    package func certificateFile(_ name: String) -> String { "\(self.path)/\(name).pem" }
    /// The private key of a node or client: `NAME.key`.
    package func keyFile(_ name: String) -> String { "\(self.path)/\(name).key" }
    /// The private key with which a node signs checkpoints.
    package func signingKeyFile(_ node: NodeID) -> String { "\(self.path)/\(Self.name(of: node)).signing.key" }
    /// The public key that checks what a node signs.
    package func verifierKeyFile(_ node: NodeID) -> String { "\(self.path)/\(Self.name(of: node)).vkey" }
    /// The key under which a node keeps the keys of data subjects.
    package func sealingKeyFile(_ node: NodeID) -> String { "\(self.path)/\(Self.name(of: node)).sealing.key" }
    /// The name under which a node's files are kept.
    package static func name(of node: NodeID) -> String { "node-\(node)" }

    /// Makes the folder and a new CA in it.
    /// - Throws: ``PKIError``.
    package func initialize(cluster: String, days: Int, now: Timestamp, replacing: Bool) throws(PKIError) {
        let authority = try CertificateAuthority.make(cluster: cluster, days: days, now: now)
        try WholeTextFile.makeFolder(self.path, for: .everybody)
        try self.write(authority.exported(), name: "ca", replacing: replacing)
    }

    /// The CA of this folder.
    /// - Throws: ``PKIError``.
    package func authority() throws(PKIError) -> CertificateAuthority {
        try CertificateAuthority(
            certificatePEM: WholeTextFile.read(self.caFile),
            keyPEM: WholeTextFile.read(self.caKeyFile),
            path: self.caFile
        )
    }

    /// Signs and writes `node-N.pem` and `node-N.key`, and makes a key for checkpoints and one for personal data when there
    /// is none.
    ///
    /// `replacing` does not touch those: they outlive certificates.
    /// - Throws: ``PKIError``.
    package func issueNode(
        _ node: NodeID,
        hosts: [String],
        days: Int,
        now: Timestamp,
        replacing: Bool
    ) throws(PKIError) {
        let authority = try self.authority()
        let issued = try authority.issueNode(node, hosts: hosts, days: days, now: now)
        try self.write(issued, name: Self.name(of: node), replacing: replacing)
        if !FilePaths.exists(self.signingKeyFile(node)) {
            try self.makeSigningKey(node, cluster: authority.clusterID, replacing: false)
        }
        if !FilePaths.exists(self.sealingKeyFile(node)) { try self.issueSealingKey(node, replacing: false) }
    }

    /// Makes `node-N.signing.key` and `node-N.vkey`.
    /// - Throws: ``PKIError``.
    package func issueSigningKey(_ node: NodeID, replacing: Bool) throws(PKIError) {
        try self.makeSigningKey(node, cluster: try self.authority().clusterID, replacing: replacing)
    }

    /// Makes `node-N.sealing.key`.
    /// - Throws: ``PKIError``.
    package func issueSealingKey(_ node: NodeID, replacing: Bool) throws(PKIError) {
        try SealingKeyFile(path: self.sealingKeyFile(node)).make(replacing: replacing)
    }

    private func makeSigningKey(_ node: NodeID, cluster: String, replacing: Bool) throws(PKIError) {
        let key = try SigningKeyFile.makeKey(cluster: cluster, node: node)
        try SigningKeyFile(path: self.signingKeyFile(node)).write([key], replacing: replacing)
        // A public key without its private key is useless, so it may be replaced.
        try SigningKeyFile.writePublic(key.verifierKey, to: self.verifierKeyFile(node), replacing: true)
    }

    /// Signs and writes `NAME.pem` and `NAME.key`.
    /// - Throws: ``PKIError``.
    package func issueClient(_ name: String, days: Int, now: Timestamp, replacing: Bool) throws(PKIError) {
        guard name != "ca", !name.hasPrefix("node-") else {
            throw PKIError(.invalidArgument, "a client cannot be named \"\(name)\": that file belongs to the cluster")
        }
        try self.write(
            self.authority().issueClient(name, days: days, now: now),
            name: name,
            replacing: replacing
        )
    }

    private func write(_ issued: CertificateAuthority.Issued, name: String, replacing: Bool) throws(PKIError) {
        let paths = [self.keyFile(name), self.certificateFile(name)]
        if !replacing, let present = paths.first(where: { FilePaths.exists($0) }) {
            throw PKIError(.exists, "\(present) exists already; --force replaces it")
        }
        try WholeTextFile.write(issued.keyPEM, to: paths[0], for: .owner, replacing: replacing)
        try WholeTextFile.write(issued.certificatePEM, to: paths[1], for: .everybody, replacing: replacing)
    }
}
