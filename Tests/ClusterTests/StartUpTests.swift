internal import Foundation
internal import NodeRuntime
internal import Primitives
internal import RocksStorage
internal import Storage
internal import Testing

extension RealCluster {
    @Suite("A node that cannot start")
    struct StartUpTests {
        /// Starts the node, which must end with status 1 and a line that contains all of `texts`.
        private static func requireRefusal(
            _ nodes: ServedNodes,
            _ overrides: [String] = [],
            node: Int = 1,
            saying texts: [String]
        ) async throws {
            let program = try await nodes.launch(node, overrides)
            let ending = await program.end()
            #expect(ending == .exited(1), "\(program.output)")
            let complaints = program.lines.filter { $0.hasPrefix("ftnode: ") }
            #expect(
                complaints.contains { line in texts.allSatisfy { line.contains($0) } },
                "no line says \(texts):\n\(program.output)"
            )
            #expect(complaints.count == 1, "more than one line: \(program.output)")
            #expect(!program.output.contains("Fatal error") && !program.output.contains("Swift/"), "\(program.output)")
        }

        @Test(.timeLimit(.minutes(1)))
        func saysWhichKeyIsUnknownAndWhere() async throws {
            try await withFolder("start") { folder in
                let nodes = try ServedNodes(folder, .init(extra: "querry: {time_limit_ms: 100}"))
                try await Self.requireRefusal(nodes, saying: ["querry", "lab-1.yaml:", "query"])
                let misspelt = try ServedNodes(folder, .init(clusterID: "two", extra: "query: {time_limit: 100}"))
                try await Self.requireRefusal(
                    misspelt,
                    saying: ["query.time_limit", "two-1.yaml:", "query.time_limit_ms"]
                )
                let wrong = try ServedNodes(folder, .init(clusterID: "three", extra: "raft: {tick_ms: soon}"))
                try await Self.requireRefusal(wrong, saying: ["raft.tick_ms", "three-1.yaml:"])
                try await Self.requireRefusal(wrong, ["raft.tick_ms=50", "no.key=1"], saying: ["no.key", "--set"])
            }
        }

        @Test(.timeLimit(.minutes(1)))
        func saysWhichFileIsMissingOrExpiredOrAnothers() async throws {
            try await withFolder("start") { folder in
                let nodes = try ServedNodes(folder, .init(members: [1, 2, 3]))
                let pki = nodes.pki
                try await Self.requireRefusal(
                    nodes,
                    ["peer.ca=\(folder.file("none.pem"))"],
                    saying: ["peer.ca", folder.file("none.pem"), "no such file"]
                )
                try await Self.requireRefusal(
                    nodes,
                    ["api.key=\(pki.keyFile("node-2"))"],
                    saying: ["api.key", "node-2.key", "node-1.pem"]
                )
                try await Self.requireRefusal(
                    nodes,
                    ["peer.certificate=\(pki.certificateFile("node-2"))", "peer.key=\(pki.keyFile("node-2"))"],
                    saying: ["peer.certificate", "node-2.lab", "node-1.lab"]
                )
                let past = Timestamp(microseconds: SystemTime.now().rawValue - 30 * 86_400_000_000)
                try nodes.issueCertificate(3, now: past, days: 10)
                let program = try await nodes.launch(3)
                #expect(await program.end() == .exited(1))
                for key in ["api.certificate", "peer.certificate"] {
                    #expect(
                        program.lines.contains {
                            $0.contains(key) && $0.contains("node-3.pem") && $0.contains("expired")
                        },
                        "\(program.output)"
                    )
                }
                let absent = try await ChildProgram.run(
                    Programs.ftnode,
                    ["serve", "--config", folder.file("none.yaml")]
                )
                #expect(absent.ending == .exited(1) && absent.output.contains("none.yaml"), "\(absent.output)")
                let usage = try await ChildProgram.run(Programs.ftnode, ["serve"])
                #expect(usage.ending == .exited(2) && usage.output.contains("--config"), "\(usage.output)")
            }
        }

        @Test(.timeLimit(.minutes(1)))
        func saysWhatKeepsThePortOrTheDataDirectory() async throws {
            try await withFolder("start") { folder in
                let nodes = try ServedNodes(folder)
                try await LoopbackPorts.whileListening { port in
                    try await Self.requireRefusal(
                        nodes,
                        ["api.listen=127.0.0.1:\(port)"],
                        saying: ["127.0.0.1:\(port)", "in use"]
                    )
                    try await Self.requireRefusal(
                        nodes,
                        ["peer.listen=127.0.0.1:\(port)"],
                        saying: ["127.0.0.1:\(port)", "in use"]
                    )
                }

                // The refused starts have left a data directory that the node can use.
                let running = try await nodes.start(1)
                try await nodes.waitUntilReady([1])
                try await Self.requireRefusal(
                    nodes,
                    ["api.listen=127.0.0.1:\(nodes.apiPort(50))", "peer.listen=127.0.0.1:\(nodes.peerPort(50))"],
                    saying: [nodes.dataFolder(1), "another"]
                )
                _ = try await nodes.withClient([1]) { try await $0.createOrganization(key: "kept", name: nil) }
                #expect(await running.stop() == .exited(0), "\(running.output)")

                try await Self.requireForeignData(nodes, folder)
                try await Self.requireNewerFormat(nodes)

                // Nothing of all this has changed the data.
                let again = try await nodes.start(1)
                try await nodes.waitUntilReady([1])
                let keys = try await nodes.withClient([1]) { try await $0.organizations().list.map(\.key) }
                #expect(keys == ["kept"])
                #expect(await again.stop() == .exited(0), "\(again.output)")
            }
        }

        /// The data directory of one node is refused by another node, and by a node of another cluster.
        private static func requireForeignData(_ nodes: ServedNodes, _ folder: TestFolder) async throws {
            let data = nodes.dataFolder(1)
            let other = try ServedNodes(folder, .init(clusterID: "other"))
            try await self.requireRefusal(
                other,
                ["node.data=\(data)"],
                saying: [data, "cluster \"lab\"", "\"other\""]
            )
            // The same cluster's name, another member.
            let second = try TestFolder("start-second")
            defer { second.remove() }
            let neighbour = try ServedNodes(second, .init(members: [2]))
            try await self.requireRefusal(
                neighbour,
                ["node.data=\(data)"],
                node: 2,
                saying: [data, "belongs to node 1", "2"]
            )
            try await self.requireRefusal(nodes, ["cluster.data_groups=5"], saying: [data, "2 data groups", "5"])
        }

        private static func requireNewerFormat(_ nodes: ServedNodes) async throws {
            let path = nodes.dataFolder(1) + "/rocksdb"
            let original = try self.replaceFormat(at: path) { value in
                // The first four bytes are the format's number, the most significant one first.
                [0, 0, 0, 99] + value.dropFirst(4)
            }
            try await self.requireRefusal(nodes, saying: [nodes.dataFolder(1), "format 99", "newer"])
            _ = try self.replaceFormat(at: path) { _ in original }
        }

        /// - Returns: What was there before.
        private static func replaceFormat(at path: String, _ change: ([UInt8]) -> [UInt8]) throws -> [UInt8] {
            let store = try RocksStore.open(path: path)
            defer { try? store.close() }
            let key = Array("identity".utf8)
            let value = try #require(try store.get(key, in: .meta))
            var batch = WriteBatch()
            batch.put(.meta, key: key, value: change(value))
            try store.write(batch)
            try store.sync()
            return value
        }
    }
}
