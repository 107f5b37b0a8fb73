internal import Foundation
internal import Primitives
internal import Testing
@_spi(FixedExpiryValidationTime) internal import X509

@testable internal import NodeRuntime

@Suite("The cluster's CA")
struct PKITests {
    private let now = Timestamp("2026-01-31T08:05:00Z") ?? Timestamp(microseconds: 0)

    private func later(days: Int64) -> Timestamp { Timestamp(microseconds: self.now.rawValue + days * 86_400_000_000) }

    private func withFolder(_ body: (PKIFolder) throws -> Void) throws {
        let path = FileManager.default.temporaryDirectory.appendingPathComponent("pki-\(UUID().uuidString)").path
        defer { try? FileManager.default.removeItem(atPath: path) }
        try body(PKIFolder(path: path))
    }

    private func file(_ issued: CertificateAuthority.Issued) throws -> CertificateFile {
        try CertificateFile(path: "test", pem: issued.certificatePEM)
    }

    private func verify(_ leaf: CertificateFile, _ root: CertificateFile, at moment: Timestamp) async -> Bool {
        var verifier = Verifier(rootCertificates: CertificateStore([root.certificate])) {
            RFC5280Policy(fixedExpiryValidationTime: Date(timeIntervalSince1970: Double(moment.rawValue) / 1_000_000))
        }
        if case .validCertificate = await verifier.validate(
            leaf: leaf.certificate,
            intermediates: CertificateStore()
        ) {
            return true
        }
        return false
    }

    @Test(.timeLimit(.minutes(10))) func signsNodesWhoseChainVerifiesUntilTheyExpire() async throws {
        let authority = try CertificateAuthority.make(cluster: "demo", days: 100, now: self.now)
        let stranger = try CertificateAuthority.make(cluster: "demo", days: 100, now: self.now)
        let root = try self.file(authority.exported())
        let node = try self.file(authority.issueNode(NodeID(2), hosts: ["localhost"], days: 10, now: self.now))
        #expect(await self.verify(node, root, at: self.now))
        #expect(await self.verify(node, root, at: self.later(days: 9)))
        #expect(await !self.verify(node, root, at: self.later(days: 11)))
        let other = try self.file(stranger.exported())
        #expect(await !self.verify(node, other, at: self.now))
        #expect(node.isSigned(by: root))
        #expect(try !node.isSigned(by: self.file(stranger.exported())))
    }

    @Test func namesTheNodeAndItsHosts() throws {
        let authority = try CertificateAuthority.make(cluster: "demo", days: 100, now: self.now)
        let node = try self.file(
            authority.issueNode(NodeID(2), hosts: ["localhost", "127.0.0.1", "::1"], days: 10, now: self.now)
        )
        #expect(node.names == ["node-2.demo.flasktrack.internal", "localhost", "127.0.0.1", "::1"])
        #expect(node.usage == (true, true))
        #expect(node.covers(host: "LOCALHOST"))
        #expect(node.covers(host: "0:0:0:0:0:0:0:1"))
        #expect(!node.covers(host: "127.0.0.2"))
        #expect(!node.isAuthority)
        #expect(node.chainLength == 2)
        #expect(node.validUntil == self.later(days: 10))
    }

    @Test func clientsAreNoNodes() throws {
        let authority = try CertificateAuthority.make(cluster: "demo", days: 100, now: self.now)
        let client = try self.file(authority.issueClient("bench", days: 10, now: self.now))
        #expect(client.usage == (false, true))
        #expect(client.names.allSatisfy { PeerIdentity.node(ofDNSName: $0, cluster: "demo") == nil })
    }

    @Test func peerNamesReadBackExactly() {
        #expect(PeerIdentity.dnsName(node: NodeID(7), cluster: "a-b") == "node-7.a-b.flasktrack.internal")
        #expect(PeerIdentity.node(ofDNSName: "node-7.a-b.flasktrack.internal", cluster: "a-b") == NodeID(7))
        for name in [
            "node-07.a-b.flasktrack.internal", "node-7.other.flasktrack.internal", "node-.a-b.flasktrack.internal",
            "node-7.a-b.flasktrack.internal.evil.org", "node-7", "",
        ] {
            #expect(PeerIdentity.node(ofDNSName: name, cluster: "a-b") == nil)
        }
    }

    @Test func refusesWhatCannotStandInACertificate() throws {
        #expect(throws: PKIError.self) { try CertificateAuthority.make(cluster: "Demo", days: 1, now: self.now) }
        #expect(throws: PKIError.self) { try CertificateAuthority.make(cluster: "demo", days: 0, now: self.now) }
        let authority = try CertificateAuthority.make(cluster: "demo", days: 5, now: self.now)
        #expect(throws: PKIError.self) { try authority.issueNode(NodeID(1), hosts: [], days: 6, now: self.now) }
        #expect(throws: PKIError.self) { try authority.issueNode(NodeID(1), hosts: ["a b"], days: 1, now: self.now) }
        #expect(throws: PKIError.self) { try authority.issueClient("x/y", days: 1, now: self.now) }
    }

    @Test func keysAreForTheOwnerAndNothingIsReplacedUnasked() throws {
        try self.withFolder { folder in
            try folder.initialize(cluster: "demo", days: 100, now: self.now, replacing: false)
            try folder.issueNode(NodeID(1), hosts: [], days: 10, now: self.now, replacing: false)
            for path in [folder.caKeyFile, folder.keyFile("node-1")] {
                let mode = try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int
                #expect(mode == 0o600)
            }
            let before = try CertificateFile(path: folder.caFile).fingerprint
            #expect(throws: PKIError.self) {
                try folder.initialize(cluster: "demo", days: 100, now: self.now, replacing: false)
            }
            #expect(throws: PKIError.self) {
                try folder.issueNode(NodeID(1), hosts: [], days: 10, now: self.now, replacing: false)
            }
            #expect(try CertificateFile(path: folder.caFile).fingerprint == before)
            try folder.initialize(cluster: "demo", days: 100, now: self.now, replacing: true)
            #expect(try CertificateFile(path: folder.caFile).fingerprint != before)
        }
    }

    @Test func configurationChecksFindEveryUnusableCertificate() throws {
        try self.withFolder { folder in
            try folder.initialize(cluster: "demo", days: 100, now: self.now, replacing: false)
            for node in [NodeID(1), NodeID(2)] {
                try folder.issueNode(node, hosts: ["127.0.0.1"], days: 10, now: self.now, replacing: false)
            }
            let text = ConfigurationLoaderTests.good.replacingOccurrences(of: "pki/", with: folder.path + "/")
            func problems(_ overrides: [String], now: Timestamp) throws -> [String] {
                try #require(
                    ConfigurationLoader.examine(
                        content: ConfigurationFile(path: "/etc/ft/node.yaml", text: text),
                        environment: [:],
                        overrides: overrides,
                        workingFolder: "/"
                    ).loaded
                ).problems(now: now).map(\.message)
            }
            #expect(try problems([], now: self.now).isEmpty)
            let expired = try problems([], now: self.later(days: 11))
            #expect(expired.count == 2)
            #expect(expired.allSatisfy { $0.contains("expired at 2026-02-10T08:05:00.000000Z") })
            #expect(
                try problems(
                    ["peer.certificate=\(folder.path)/node-2.pem", "peer.key=\(folder.path)/node-2.key"],
                    now: self.now
                ) == [
                    "names node-2.demo.flasktrack.internal, 127.0.0.1, but this node is node-1.demo.flasktrack.internal"
                ]
            )
            #expect(
                try problems(["api.key=\(folder.path)/node-2.key"], now: self.now)
                    == ["\(folder.path)/node-2.key is not the key of \(folder.path)/node-1.pem"]
            )
            #expect(
                try problems(["peer.ca=\(folder.path)/none.pem"], now: self.now)
                    == ["cannot read \(folder.path)/none.pem: no such file or directory"]
            )
            #expect(
                try problems(["peer.ca=\(folder.path)/node-1.pem"], now: self.now) == [
                    "\(folder.path)/node-1.pem is not a certificate authority", "is not signed by the CA of peer.ca",
                ]
            )
        }
    }
}
