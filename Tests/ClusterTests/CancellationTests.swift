internal import Foundation
internal import Testing

extension RealCluster {
    /// `Benchmarks/cancel.py` over shards on two nodes. The promise is 100 ms, which a person measures on a machine that has
    /// nothing else to do; here is only shown that every way of cancelling ends every shard's part, and soon.
    @Suite("Statements that are cancelled")
    struct CancellationTests {
        private static let ways: Set = ["delete", "reset", "close", "deadline"]
        /// Far more than it takes, far less than the statement would.
        private static let millisecondsMax = 10_000.0

        private struct Line: Decodable {
            let cancelledBy: String
            let maxMs: Double
        }

        @Test(.timeLimit(.minutes(3)))
        func endOnEveryShard() async throws {
            let python = FileManager.default.currentDirectoryPath + "/.clients/bin/python"
            let script = FileManager.default.currentDirectoryPath + "/Benchmarks/cancel.py"
            try await withFolder("cancellation") { folder in
                // Of two nodes each has half of the organizations: one part is always remote.
                let cluster = try await DevCluster.start(in: folder, nodes: 2)
                let result: (ending: ChildProgram.Ending, output: String)
                do {
                    result = try await ChildProgram.run(
                        python,
                        [script, "\(cluster.port)", "\(cluster.nodes)", cluster.caFile, cluster.token, "1"]
                    )
                } catch {
                    await cluster.stop()
                    throw error
                }
                await cluster.stop()
                #expect(result.ending == .exited(0), "\(result.output)")
                let decoder = JSONDecoder()
                decoder.keyDecodingStrategy = .convertFromSnakeCase
                let lines = result.output.split(separator: "\n").compactMap {
                    try? decoder.decode(Line.self, from: Data($0.utf8))
                }
                #expect(Set(lines.map(\.cancelledBy)) == Self.ways, "\(result.output)")
                for line in lines { #expect(line.maxMs < Self.millisecondsMax, "\(result.output)") }
                print(result.output)
            }
        }
    }
}
