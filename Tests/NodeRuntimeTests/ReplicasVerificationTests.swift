internal import Laboratory
internal import Primitives
internal import Storage
internal import Testing

@testable internal import NodeRuntime

@Suite("What a verification says")
struct ReplicasVerificationTests {
    private let root = Digest(words: (0, 0, 0, 1))

    private func entry() throws -> OrganizationEntry {
        OrganizationEntry(
            id: OrganizationID(1),
            key: try Fixture.key("lab-a"),
            name: "A",
            group: GroupID(1),
            createdAt: Timestamp(microseconds: 0)
        )
    }

    private func replica(
        _ node: UInt64,
        size: UInt64,
        _ finding: ReplicaReader.Verification.Finding? = nil
    )
        -> ReplicaReader.Verification
    {
        ReplicaReader.Verification(
            node: NodeID(node),
            outcome: .read(size: size, root: self.root, lastChecksum: .zero, finding: finding)
        )
    }

    private func lines(_ verifications: [ReplicaReader.Verification]) throws -> [String] {
        var summary = VerificationSummary()
        var json = JSONOutput()
        summary.write(try self.entry(), verifications, to: &json)
        summary.write(to: &json, elapsed: .milliseconds(7))
        return String(decoding: json.bytes, as: UTF8.self).split(separator: "\n").map(String.init)
    }

    private let zeros = String(repeating: "0", count: 64)
    private var rootText: String { String(repeating: "0", count: 63) + "1" }

    @Test func soundReplicasAreOneLineAndASummary() throws {
        let lines = try self.lines([self.replica(1, size: 5), self.replica(2, size: 4)])
        #expect(
            lines[0] == #"{"organization":"lab-a","status":"ok","size":5,"root":"\#(self.rootText)","replicas":["#
                + #"{"node":1,"status":"ok","size":5,"root":"\#(self.rootText)","#
                + #""last_checksum":"\#(self.zeros)","finding":null},"#
                + #"{"node":2,"status":"ok","size":4,"root":"\#(self.rootText)","#
                + #""last_checksum":"\#(self.zeros)","finding":null}]}"#
        )
        #expect(lines[1] == #"{"summary":{"organizations":1,"replicas":2,"records":9,"failed":0,"elapsed_ms":7}}"#)
    }

    @Test func aFindingFailsTheOrganizationAndIsNamed() throws {
        let finding = ReplicaReader.Verification.Finding(sequence: 3, kind: "modified", detail: "x")
        let lines = try self.lines([self.replica(1, size: 5), self.replica(2, size: 2, finding)])
        #expect(lines[0].contains(#""status":"failed","size":5"#))
        #expect(lines[0].contains(#""node":2,"status":"failed""#))
        #expect(lines[0].contains(#""finding":{"sequence":3,"kind":"modified","detail":"x"}"#))
        #expect(lines[1].contains(#""failed":1"#))
    }

    @Test func aReplicaThatCannotBeReachedFailsTheOrganization() throws {
        let away = ReplicaReader.Verification(node: NodeID(2), outcome: .unreachable("no connection"))
        #expect(!away.isSound)
        let lines = try self.lines([self.replica(1, size: 5), away])
        #expect(lines[0].contains(#"{"node":2,"status":"unreachable","detail":"no connection","finding":null}"#))
        #expect(lines[1].contains(#""failed":1"#))
    }
}

@Suite("Whom a data directory belongs to")
struct ReplicasNodeIdentityTests {
    private func configuration(
        cluster: String = "lab",
        node: UInt64 = 1,
        members: ClosedRange<UInt64> = 1...3,
        dataGroups: Int = 8,
        replicas: Int = 3
    ) -> NodeConfiguration {
        let address = NodeConfiguration.HostPort(host: "127.0.0.1", port: 1)
        var configuration = NodeConfiguration(
            clusterID: cluster,
            members: members.map {
                NodeConfiguration.Member(id: NodeID($0), apiAddress: address, peerAddress: address)
            },
            nodeID: NodeID(node),
            dataDirectory: "/d",
            apiListen: address,
            apiCertificateFile: "",
            apiKeyFile: "",
            peerListen: address,
            peerCertificateFile: "",
            peerKeyFile: "",
            caFile: ""
        )
        configuration.dataGroups = dataGroups
        configuration.replicas = replicas
        return configuration
    }

    private func claimed() throws -> InMemoryStore {
        let store = InMemoryStore()
        try NodeIdentity(self.configuration()).claim(store, directory: "/d")
        return store
    }

    @Test func aNewDirectoryIsMarkedAndItsOwnerComesBack() throws {
        let store = try self.claimed()
        #expect(try store.count(of: .meta) == 1)
        try NodeIdentity(self.configuration()).claim(store, directory: "/d")
    }

    @Test func everyDifferenceIsNamed() throws {
        let store = try self.claimed()
        let others: [(NodeConfiguration, [String])] = [
            (self.configuration(cluster: "other"), ["\"lab\"", "\"other\""]),
            (self.configuration(node: 2), ["node 1", "not 2"]),
            (self.configuration(dataGroups: 9), ["8 data groups", "says 9"]),
            (self.configuration(members: 1...5), ["1, 2, 3", "1, 2, 3, 4, 5"]),
            (self.configuration(replicas: 1), ["3 replicas", "with 1"]),
        ]
        for (configuration, words) in others {
            let error = #expect(throws: NodeError.self) {
                try NodeIdentity(configuration).claim(store, directory: "/d")
            }
            #expect(error?.code == .dataDirectory)
            for word in words + ["/d"] {
                #expect(error?.message.contains(word) == true, "\(word) in \(error?.message ?? "")")
            }
        }
        // Nothing was written over.
        try NodeIdentity(self.configuration()).claim(store, directory: "/d")
    }

    private func overwrite(_ store: InMemoryStore, _ change: ([UInt8]) -> [UInt8]) throws {
        var batch = WriteBatch()
        try store.scan(.meta, from: [], to: nil) { key, value in
            batch.put(.meta, key: key, value: change(value))
            return true
        }
        try store.write(batch)
    }

    @Test func aNewerFormatIsRefused() throws {
        let store = try self.claimed()
        try self.overwrite(store) { [0, 0, 0, 2] + $0.dropFirst(4) }
        let error = #expect(throws: NodeError.self) {
            try NodeIdentity(self.configuration()).claim(store, directory: "/d")
        }
        #expect(error?.message.contains("format 2") == true)
    }

    @Test func aMarkThatCannotBeReadIsRefusedWithTheDirectorysName() throws {
        for count in [0, 3, 6, 20] {
            let store = try self.claimed()
            try self.overwrite(store) { Array($0.prefix(count)) }
            let error = #expect(throws: NodeError.self) {
                try NodeIdentity(self.configuration()).claim(store, directory: "/d")
            }
            #expect(error?.code == .dataDirectory)
            #expect(error?.message.contains("/d") == true)
        }
    }
}
