internal import Foundation
internal import NodeRuntime
internal import Testing

extension RealCluster {
    /// A node's key is changed while the cluster runs: nothing that was signed before loses its worth.
    @Suite("A key that is changed")
    struct KeyRotationTests {
        /// Requests after which a state that must come is given up.
        private static let looksMax = 200

        private static func append(_ cluster: DevCluster) async throws {
            let event = #"{"action":"weigh","entity_type":"sample","entity_id":"s-1"}"#
            let reply = try await cluster.send("POST", "/v1/organizations/lab-a/records", body: event)
            #expect(reply.status == 201, "\(reply)")
        }

        @discardableResult
        private static func run(_ cluster: DevCluster, _ arguments: [String], exits: Int32 = 0) async throws -> String {
            let ran = try await ChildProgram.run(
                Programs.ftnode,
                arguments,
                environment: ["FTNODE_CONTEXT": cluster.contextFile]
            )
            #expect(ran.ending == .exited(exits), "\(arguments): \(ran.output)")
            return ran.output
        }

        /// Appends until a checkpoint of everything has `count` cosignatures of node 2, within all of the nodes'.
        private static func signed(_ cluster: DevCluster, byNode2 count: Int) async throws {
            var note = ""
            for _ in 0..<self.looksMax {
                try await self.append(cluster)
                note = try await self.run(cluster, ["audit", "checkpoint", "--org", "lab-a", "--fresh"])
                let lines = note.split(separator: "\n").filter { $0.hasPrefix("\u{2014} dev/node-") }
                let own = lines.count { $0.hasPrefix("\u{2014} dev/node-2 ") }
                if own == count, lines.count == count + 2 { return }
            }
            Issue.record("node 2 does not sign with \(count) keys: \(note)")
        }

        private static func export(_ cluster: DevCluster, _ file: String) async throws {
            try await self.run(cluster, ["audit", "export", "--org", "lab-a", "--output", file])
        }

        private static func keys(_ cluster: DevCluster, _ folder: TestFolder, _ name: String) async throws -> [String] {
            let all = try await self.run(cluster, ["audit", "keys", "--format", "json"])
            let sized = try await self.run(cluster, ["audit", "keys", "--org", "lab-a", "--format", "json"])
            return [
                try folder.write(Array(all.utf8), to: name + ".json"),
                try folder.write(Array(sized.utf8), to: name + ".lab-a.json"),
            ]
        }

        @Test(.timeLimit(.minutes(4)))
        func packagesAndReceiptsFromBeforeStayValid() async throws {
            try await withFolder("rotation") { folder in
                var cluster = try await DevCluster.start(in: folder)
                do {
                    try await Self.run(cluster, ["org", "create", "lab-a"])
                    try await Self.signed(cluster, byNode2: 1)
                    let (before, proof, record) = (folder.file("before.zip"), folder.file("r1"), folder.file("r1.json"))
                    try await Self.export(cluster, before)
                    try await Self.run(
                        cluster,
                        ["audit", "prove", "--org", "lab-a", "--sequence", "1", "--output", proof, "--record", record]
                    )

                    // Both keys sign while they overlap.
                    let rotated = try await Self.run(cluster, ["cluster", "rotate-key", "--node", "2"])
                    let old = try #require(
                        rotated.split(separator: "\n").last?.split(separator: " ").last.map(String.init)
                    )
                    #expect(old.hasPrefix("dev/node-2+"), "\(rotated)")
                    try await Self.signed(cluster, byNode2: 2)
                    let during = folder.file("during.zip")
                    try await Self.export(cluster, during)
                    // The key file is what the node begins with.
                    #expect(await cluster.stop() == .exited(0))
                    cluster = try await DevCluster.start(in: folder, again: cluster)
                    try await Self.signed(cluster, byNode2: 2)

                    // The one before ends; the new one alone signs.
                    try await Self.run(cluster, ["cluster", "retire-key", "--node", "2", "--key", old])
                    try await Self.signed(cluster, byNode2: 1)
                    let after = folder.file("after.zip")
                    try await Self.export(cluster, after)

                    for keys in try await Self.keys(cluster, folder, "keys") {
                        for package in [before, during, after] {
                            let arguments = ["audit", "verify-package", "--keys", keys, package]
                            try await Self.run(cluster, arguments)
                        }
                        try await Self.run(
                            cluster,
                            [
                                "audit", "check-receipt", proof, "--keys", keys, "--record", record, "--origin",
                                "dev/lab-a",
                            ]
                        )
                    }
                    let sized = try String(contentsOfFile: folder.file("keys.lab-a.json"), encoding: .utf8)
                    #expect(sized.contains(#""origin":"dev/lab-a""#) && sized.contains(#""first_size":"#), "\(sized)")
                } catch {
                    await cluster.stop()
                    throw error
                }
                await cluster.stop()
            }
        }
    }
}
