internal import AuditLedger
internal import Foundation
internal import NodeRuntime
internal import Primitives
internal import RocksStorage
internal import Storage
internal import Testing

extension RealCluster {
    @Suite("Checkpoints of three processes")
    struct CheckpointTests {
        private static let event = #"{"action":"weigh","entity_type":"sample","entity_id":"s-1"}"#

        private static func append(_ count: Int, to cluster: DevCluster) async throws {
            for _ in 0..<count {
                let reply = try await cluster.send("POST", "/v1/organizations/lab-a/records", body: self.event)
                #expect(reply.status == 201, "\(reply)")
            }
        }

        /// The names of those who cosigned a note.
        private static func cosigners(_ note: String) -> [String] {
            note.split(separator: "\n").filter { $0.hasPrefix("\u{2014} dev/node-") }
                .map { String($0.split(separator: " ")[1]) }.sorted()
        }

        private static func alarms(_ cluster: DevCluster, node: Int) async throws -> (forks: Int, contradictions: Int) {
            struct Status: Decodable {
                struct Node: Decodable {
                    struct Audit: Decodable {
                        var forks: Int
                        var contradictions: Int
                    }
                    var id: Int
                    var audit: Audit?
                }
                var nodes: [Node]
            }
            let reply = try await cluster.send("GET", "/v1/cluster")
            let audit = try reply.decode(Status.self).nodes.first { $0.id == node }?.audit
            return (audit?.forks ?? 0, audit?.contradictions ?? 0)
        }

        @Test(.timeLimit(.minutes(2)))
        func areSignedByAllAndAChangedReplicaIsFound() async throws {
            try await withFolder("checkpoints") { folder in
                var cluster = try await DevCluster.start(in: folder)
                do {
                    let created = try await cluster.ftnode("org", "create", "lab-a")
                    #expect(created.ending == .exited(0), "\(created.output)")
                    try await Self.append(20, to: cluster)
                    // The keys of a cluster that has just begun may be on their way.
                    let first = try await cluster.ftnode("audit", "checkpoint", "--org", "lab-a", "--fresh")
                    #expect(first.ending == .exited(0), "\(first.output)")
                    #expect(first.output.hasPrefix("dev/lab-a\n20\n"), "\(first.output)")
                    #expect(Self.cosigners(first.output) == ["dev/node-1", "dev/node-2", "dev/node-3"])
                    try await self.prove(cluster, folder)
                    #expect(await cluster.stop() == .exited(0))

                    try Self.changeTree(cluster.dataFolder(2))
                    cluster = try await DevCluster.start(in: folder, again: cluster)
                    try await Self.append(1, to: cluster)
                    let second = try await cluster.ftnode("audit", "checkpoint", "--org", "lab-a", "--fresh")
                    try await self.expectAlarm(second.output, cluster)
                } catch {
                    await cluster.stop()
                    throw error
                }
                await cluster.stop()
            }
        }

        /// The one that was changed does not sign; whether it leads or follows, it says so.
        private func expectAlarm(_ output: String, _ cluster: DevCluster) async throws {
            #expect(!Self.cosigners(output).contains("dev/node-2"), "\(output)")
            let alarms = try await Self.alarms(cluster, node: 2)
            #expect(alarms.contradictions == 1)
            let others = try await Self.alarms(cluster, node: 1)
            #expect(others.contradictions == 0)
            let status = try await cluster.ftnode("cluster", "status")
            #expect(status.output.contains("ALARM: node 2 "), "\(status.output)")
            let log = try String(contentsOfFile: "\(cluster.root)/nodes/2/node.log", encoding: .utf8)
            #expect(log.contains("this node stores another history than it has signed"))
        }

        private func prove(_ cluster: DevCluster, _ folder: TestFolder) async throws {
            let (receipt, record, keys) = (folder.file("r.proof"), folder.file("r.json"), folder.file("keys"))
            let proven = try await cluster.ftnode(
                "audit",
                "prove",
                "--org",
                "lab-a",
                "--sequence",
                "7",
                "--output",
                receipt,
                "--record",
                record
            )
            #expect(proven.ending == .exited(0), "\(proven.output)")
            let vkeys = try (1...3).map { node in
                try String(contentsOfFile: "\(cluster.root)/pki/node-\(node).vkey", encoding: .utf8)
            }
            try vkeys.joined().write(toFile: keys, atomically: true, encoding: .utf8)
            let good = try await cluster.ftnode(
                "audit",
                "check-receipt",
                receipt,
                "--keys",
                keys,
                "--record",
                record,
                "--origin",
                "dev/lab-a"
            )
            #expect(good.ending == .exited(0), "\(good.output)")
            let text = try String(contentsOfFile: record, encoding: .utf8)
            try text.replacing("s-1", with: "s-2").write(toFile: record, atomically: true, encoding: .utf8)
            let bad = try await cluster.ftnode(
                "audit",
                "check-receipt",
                receipt,
                "--keys",
                keys,
                "--record",
                record,
                "--origin",
                "dev/lab-a"
            )
            #expect(bad.ending == .exited(1), "\(bad.output)")
            let elsewhere = try await cluster.ftnode(
                "audit",
                "check-receipt",
                receipt,
                "--keys",
                keys,
                "--origin",
                "dev/lab-b"
            )
            #expect(elsewhere.ending == .exited(1), "\(elsewhere.output)")
        }

        /// Another digest at the top of the tree of the organization's first 16 records.
        private static func changeTree(_ dataFolder: String) throws {
            let store = try RocksStore.open(path: dataFolder + "/rocksdb")
            defer { try? store.close() }
            let key = LedgerKeys.node(OrganizationID(1), TreePosition(level: 4, index: 0))
            let value = try #require(try store.get(key, in: .treeNodes))
            var batch = WriteBatch()
            batch.put(.treeNodes, key: key, value: value.map { $0 ^ 0x55 })
            try store.write(batch)
            try store.sync()
        }
    }
}
