internal import Foundation
internal import HTTPTypes
internal import NIOCore
internal import NIOPosix
internal import NodeRuntime
internal import Primitives
internal import Testing
internal import Transport

extension RealCluster.Shared {
    @Suite("The port for peers")
    struct PeerPortTests {
        private static let cluster = "dev"

        private static func connect(
            _ cluster: DevCluster,
            _ identity: TLSClientConfiguration.Identity?
        ) async throws -> HTTPClientConnection {
            let tls = try ReloadableTLSContext(
                client: TLSClientConfiguration(caFile: cluster.caFile, identity: identity)
            )
            let client = HTTPClient(eventLoopGroup: MultiThreadedEventLoopGroup.singleton, tls: tls)
            return try await client.connect(
                host: "127.0.0.1",
                port: cluster.peerPort(1),
                expectedName: PeerIdentity.dnsName(node: NodeID(1), cluster: self.cluster)
            )
        }

        private static func identity(_ folder: PKIFolder, _ name: String) -> TLSClientConfiguration.Identity {
            .init(certificateChainFile: folder.certificateFile(name), privateKeyFile: folder.keyFile(name))
        }

        @Test(.timeLimit(.minutes(1)))
        func refusesWhoeverIsNoNodeOfThisCluster() async throws {
            let cluster = try #require(DevCluster.shared)
            let now = SystemTime.now()
            let stranger = PKIFolder(path: cluster.folder.file("other-ca"))
            try stranger.initialize(cluster: Self.cluster, days: 10, now: now, replacing: false)
            try stranger.issueNode(NodeID(2), hosts: PKIFolder.defaultHosts, days: 5, now: now, replacing: false)
            // The cluster's own CA, copied, so that the cluster's folder stays as it is.
            let own = PKIFolder(path: cluster.folder.file("own-ca"))
            try FileManager.default.createDirectory(atPath: own.path, withIntermediateDirectories: true)
            for file in ["ca.pem", "ca.key"] {
                try FileManager.default.copyItem(atPath: "\(cluster.root)/pki/\(file)", toPath: "\(own.path)/\(file)")
            }
            try own.issueClient("bench", days: 5, now: now, replacing: false)
            try own.issueNode(NodeID(9), hosts: PKIFolder.defaultHosts, days: 5, now: now, replacing: false)
            let past = Timestamp(microseconds: now.rawValue - 20 * 86_400_000_000)
            try own.issueNode(NodeID(3), hosts: PKIFolder.defaultHosts, days: 5, now: past, replacing: false)

            let identities: [(String, TLSClientConfiguration.Identity?)] = [
                ("no certificate", nil), ("a node of another CA", Self.identity(stranger, "node-2")),
                ("a client of this cluster", Self.identity(own, "bench")),
                ("a member's certificate that has expired", Self.identity(own, "node-3")),
            ]
            for (name, identity) in identities {
                await #expect(throws: TransportError.self, "\(name)") {
                    let connection = try await Self.connect(cluster, identity)
                    connection.close()
                }
            }
            // A certificate of this cluster opens the connection; the table of nodes decides about the requests.
            let outsider = try await Self.connect(cluster, Self.identity(own, "node-9"))
            #expect(try await Self.refusal(outsider, Self.introduction(node: 9)) == "unknown_node")
            outsider.close()
            let member = try await Self.connect(
                cluster,
                Self.identity(PKIFolder(path: cluster.root + "/pki"), "node-2")
            )
            defer { member.close() }
            #expect(try await Self.refusal(member, [:]) == "malformed")
            #expect(try await Self.refusal(member, Self.introduction(node: 3)) == "wrong_certificate")
            #expect(try await Self.refusal(member, Self.introduction(node: 2, cluster: "other")) == "wrong_cluster")
            #expect(try await Self.refusal(member, Self.introduction(node: 2, epoch: 7)) == "wrong_epoch")
            #expect(try await Self.refusal(member, Self.introduction(node: 2, version: 99)) == "wrong_version")
            // The same way in works for a member that says who it is, so it was that which was refused.
            #expect(try await Self.refusal(member, Self.introduction(node: 2)) == nil)
        }

        /// What a node says of itself with each request.
        private static func introduction(
            node: Int,
            cluster: String = cluster,
            epoch: Int = 0,
            version: Int = 2
        ) -> [String: String] {
            [
                "flasktrack-cluster": cluster, "flasktrack-node": "\(node)", "flasktrack-epoch": "\(epoch)",
                "flasktrack-peer-protocol": "\(version)",
            ]
        }

        private static func request(_ path: String, _ fields: [String: String]) -> HTTPRequest {
            var head = HTTPRequest(method: .post, scheme: "https", authority: "node-1", path: "/peer/v1/\(path)")
            for (name, value) in fields { HTTPField.Name(name).map { head.headerFields[$0] = value } }
            return head
        }

        /// Why a question for the status is refused; nil when it is answered.
        private static func refusal(
            _ connection: HTTPClientConnection,
            _ fields: [String: String]
        ) async throws -> String? {
            let reply = try await connection.execute(
                self.request("status", fields),
                body: .bytes(ByteBuffer()),
                timeout: .seconds(20)
            )
            _ = try await reply.collect(upTo: 1 << 20)
            if reply.head.status.code == 200 { return nil }
            let reason = HTTPField.Name("flasktrack-refusal").flatMap { reply.head.headerFields[$0] }
            return reason ?? "status \(reply.head.status.code)"
        }

        @Test(.timeLimit(.minutes(1)))
        func takesNoHarmFromAPeerThatSendsGarbage() async throws {
            let bench = try await Bench.prepare()
            let connection = try await Self.connect(
                bench.cluster,
                Self.identity(PKIFolder(path: bench.cluster.root + "/pki"), "node-2")
            )
            defer { connection.close() }
            let bodies: [[UInt8]] = [
                [], [0xFF], Array("no message at all".utf8), [UInt8](repeating: 0, count: 1024),
                [0xFF, 0xFF, 0xFF, 0xFF] + [UInt8](repeating: 0x41, count: 64),
                [0x00, 0x00, 0x00, 0x08] + [UInt8](repeating: 0x80, count: 8),
                // A command for group 1 of bytes that are none.
                [0x08, 0x01, 0x12, 0x20] + [UInt8](repeating: 0x07, count: 32),
                // The same with each kind that a command may have.
                [0x08, 0x01, 0x12, 0x02, 0x01, 0x01], [0x08, 0x00, 0x12, 0x03, 0x01, 0x02, 0x03],
            ]
            let paths = [
                "propose", "read-index", "membership", "transfer", "join", "snapshot", "status", "ledger", "verify",
                "query", "records", "nothing",
            ]
            for path in paths {
                for body in bodies {
                    let reply = try await connection.execute(
                        Self.request(path, Self.introduction(node: 2)),
                        body: .bytes(ByteBuffer(bytes: body)),
                        timeout: .seconds(20)
                    )
                    _ = try await reply.collect(upTo: 1 << 20)
                    let code = reply.head.status.code
                    #expect([200, 400, 404, 409, 503].contains(code), "\(path) with \(body.count) bytes: \(code)")
                }
            }
            // Consensus streams are accepted at once and ended, with a reason in the log, at the first bad frame.
            for path in ["raft/control", "raft/appends"] {
                for body in bodies {
                    let reply = try? await connection.execute(
                        Self.request(path, Self.introduction(node: 2)),
                        body: .bytes(ByteBuffer(bytes: body)),
                        timeout: .seconds(20)
                    )
                    _ = try? await reply?.collect(upTo: 1 << 20)
                }
            }
            // Whatever was taken for a command was refused: the cluster writes, reads and verifies as before.
            let organization = "after-garbage"
            let created = try await bench.cluster.send(
                "POST",
                "/v1/organizations",
                body: "{\"key\":\"\(organization)\"}"
            )
            #expect(created.status == 201, "\(created)")
            for node in 1...bench.cluster.nodes {
                let reply = try await bench.cluster.send(
                    "POST",
                    "/v1/organizations/\(organization)/records",
                    node: node,
                    body: Bench.event("\"reason\":\"after\"")
                )
                #expect(reply.status == 201, "\(reply)")
            }
            #expect(try await bench.cluster.size(of: organization, node: 3) == bench.cluster.nodes)
            #expect(try await bench.cluster.clientRecords(of: Bench.organization) == Bench.records)
            let verification = try await bench.cluster.ftnode("audit", "verify")
            #expect(verification.ending == .exited(0), "\(verification.output)")
            for line in bench.cluster.program.lines { #expect(!line.contains("ended ("), "\(line)") }
        }
    }
}
