internal import Foundation
internal import Testing

extension RealCluster.Shared {
    @Suite("Flight SQL clients as people install them")
    struct FlightClientTests {
        /// Made by `scripts/setup.sh test`.
        private static let python = FileManager.default.currentDirectoryPath + "/.clients/bin/python"
        private static let folder = FileManager.default.currentDirectoryPath + "/Tests/Clients/"

        @Test(.timeLimit(.minutes(3)))
        func everyClientGetsWhatItAsksFor() async throws {
            try await Self.run("flight_clients.py", organization: "flight-lab", checks: 15)
        }

        @Test(.timeLimit(.minutes(3)))
        func everyCallOfOtherClientsIsAnswered() async throws {
            try await Self.run("flight_sequences.py", organization: "flight-calls", checks: 14)
        }

        private static func run(_ script: String, organization: String, checks: Int) async throws {
            let cluster = try #require(DevCluster.shared)
            try #require(
                FileManager.default.isExecutableFile(atPath: Self.python),
                "the clients are missing: scripts/setup.sh test"
            )
            let created = try await cluster.send(
                "POST",
                "/v1/organizations",
                node: 1,
                body: #"{"key":"\#(organization)","name":"Flight"}"#
            )
            #expect(created.status == 201, "\(created)")
            let appended = try await cluster.send(
                "POST",
                "/v1/organizations/\(organization)/records",
                node: 1,
                body: #"{"action":"weigh","entity_type":"sample","entity_id":"s-1"}"#
            )
            #expect(appended.status == 201, "\(appended)")
            // A node that need not lead any group.
            let port = "\(cluster.port + cluster.nodes - 1)"
            let result = try await ChildProgram.run(
                Self.python,
                [Self.folder + script, port, cluster.caFile, cluster.token, organization]
            )
            #expect(result.ending == .exited(0), "\(result.output)")
            let passed = result.output.split(separator: "\n").filter { $0.hasPrefix("ok ") }.count
            #expect(passed == checks, "\(result.output)")
        }
    }
}
