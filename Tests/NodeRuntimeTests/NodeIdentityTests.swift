internal import Consensus
internal import Primitives
internal import Storage
internal import Testing

@testable internal import NodeRuntime

@Suite("A data directory says whom it belongs to")
struct NodeIdentityTests {
    static func configuration(
        node: UInt64 = 1,
        cluster: String = "lab",
        dataGroups: Int = 4,
        nodes: [UInt64] = [1, 2, 3]
    ) -> NodeConfiguration {
        var configuration = NodeConfiguration(
            clusterID: cluster,
            members: nodes.map { id in
                NodeConfiguration.Member(
                    id: NodeID(id),
                    apiAddress: .init(host: "n\(id)", port: 8443),
                    peerAddress: .init(host: "n\(id)", port: 8543)
                )
            },
            nodeID: NodeID(node),
            dataDirectory: "/data",
            apiListen: .init(host: "n", port: 8443),
            apiCertificateFile: "c",
            apiKeyFile: "k",
            peerListen: .init(host: "n", port: 8543),
            peerCertificateFile: "c",
            peerKeyFile: "k",
            caFile: "ca"
        )
        configuration.dataGroups = dataGroups
        return configuration
    }

    private func refusal(_ found: NodeIdentity, _ configuration: NodeConfiguration) -> String? {
        do {
            try found.requireMatch(configuration, directory: "/data")
            return nil
        } catch {
            return error.message
        }
    }

    @Test func anEmptyOneSaysNothingAndAClaimedOneSaysTheSameAgain() throws {
        let store = InMemoryStore()
        #expect(try NodeIdentity.read(store, directory: "/data") == nil)
        for identity in [
            NodeIdentity(founding: Self.configuration()), NodeIdentity(joining: Self.configuration()),
            NodeIdentity(joining: Self.configuration(), hasJoined: 7),
            NodeIdentity(founding: Self.configuration()).recovered(),
        ] {
            try identity.claim(store)
            #expect(try NodeIdentity.read(store, directory: "/data") == identity)
        }
    }

    @Test func oneOfAnotherClusterNodeOrShapeIsRefused() {
        let found = NodeIdentity(founding: Self.configuration())
        #expect(self.refusal(found, Self.configuration()) == nil)
        #expect(
            self.refusal(found, Self.configuration(cluster: "other"))
                == "data directory /data belongs to cluster \"lab\", not \"other\""
        )
        #expect(
            self.refusal(found, Self.configuration(node: 2))
                == "data directory /data belongs to node 1, not 2; a copy of another node's directory is never used"
        )
        #expect(
            self.refusal(found, Self.configuration(dataGroups: 8))
                == "data directory /data has 4 data groups, the configuration says 8: they are fixed at creation"
        )
    }

    @Test func theListOfNodesMayChangeAfterTheFirstStart() {
        let found = NodeIdentity(founding: Self.configuration())
        #expect(self.refusal(found, Self.configuration(nodes: [1, 4])) == nil)
        #expect(found.firstGroups.count == 5)
        #expect(NodeIdentity(joining: Self.configuration(), hasJoined: 0).firstGroups.isEmpty)
    }

    @Test(arguments: [UInt32(1), 2, 4])
    func anotherFormatIsRefused(version: UInt32) throws {
        let store = InMemoryStore()
        var writer = ByteWriter()
        writer.write(version)
        var batch = WriteBatch()
        batch.put(.meta, key: Array("identity".utf8), value: writer.bytes)
        try store.write(batch)
        let error = #expect(throws: NodeError.self) { try NodeIdentity.read(store, directory: "/data") }
        #expect(error?.message.hasPrefix("data directory /data is of format \(version), this program needs 3") == true)
    }

    @Test(arguments: [0, 3, 6, 20, 40])
    func oneThatWasCutShortIsRefused(count: Int) throws {
        let store = InMemoryStore()
        try NodeIdentity(founding: Self.configuration()).claim(store)
        let whole = try #require(try store.get(Array("identity".utf8), in: .meta))
        var batch = WriteBatch()
        batch.put(.meta, key: Array("identity".utf8), value: Array(whole.prefix(count)))
        try store.write(batch)
        let error = #expect(throws: NodeError.self) { try NodeIdentity.read(store, directory: "/data") }
        #expect(error?.code == .dataDirectory)
    }
}
