internal import Foundation
internal import Testing

extension RealCluster.Shared {
    @Suite("Flight SQL clients as people install them")
    struct FlightClientTests {
        /// Made by `scripts/setup.sh test`.
        private static let python = FileManager.default.currentDirectoryPath + "/.clients/bin/python"
        private static let script = FileManager.default.currentDirectoryPath + "/Tests/Clients/flight_clients.py"
        private static let checks = 14

        @Test(.timeLimit(.minutes(3)))
        func everyClientGetsWhatItAsksFor() async throws {
            let cluster = try #require(DevCluster.shared)
            try #require(
                FileManager.default.isExecutableFile(atPath: Self.python),
                "the clients are missing: scripts/setup.sh test"
            )
            let created = try await cluster.send(
                "POST",
                "/v1/organizations",
                node: 1,
                body: #"{"key":"flight-lab","name":"Flight"}"#
            )
            #expect(created.status == 201, "\(created)")
            // A node that need not lead any group.
            let port = "\(cluster.port + cluster.nodes - 1)"
            let result = try await ChildProgram.run(
                Self.python,
                [Self.script, port, cluster.caFile, cluster.token, "flight-lab"]
            )
            #expect(result.ending == .exited(0), "\(result.output)")
            let passed = result.output.split(separator: "\n").filter { $0.hasPrefix("ok ") }.count
            #expect(passed == Self.checks, "\(result.output)")
        }
    }
}
