internal import Foundation
internal import NodeRuntime
internal import Primitives
internal import Testing

extension RealCluster.Shared {
    @Suite("Importing an event log and asking about it")
    struct ImportTests {
        @Test(.timeLimit(.minutes(2)))
        func importsEveryEventOnceAndAnswersAsOneDatabaseDoes() async throws {
            let cluster = try #require(DevCluster.shared)
            let log = EventLog(seed: 20_261_121, events: 700)
            let file = try cluster.folder.write(log.ndjson, to: "log.ndjson")

            let first = try await cluster.ftnode("import", file, "--create-organizations")
            #expect(first.ending == .exited(0), "\(first.output)")
            #expect(try Self.counts(first.output) == [700, 0, 6], "\(first.output)")
            try await Self.requireWhole(log, cluster)

            let second = try await cluster.ftnode("import", file, "--create-organizations")
            #expect(second.ending == .exited(0), "\(second.output)")
            #expect(try Self.counts(second.output) == [0, 700, 6], "\(second.output)")
            try await Self.requireWhole(log, cluster)

            let verification = try await cluster.ftnode("audit", "verify")
            #expect(verification.ending == .exited(0), "\(verification.output)")
            for organization in EventLog.organizations { #expect(verification.output.contains(organization)) }

            try await Self.requireSameAnswers(log, cluster)
        }

        /// Every event is in its organization, in the order of the file, with sequences that have no gap.
        static func requireWhole(_ log: EventLog, _ cluster: DevCluster) async throws {
            for organization in EventLog.organizations {
                let records = try await cluster.records(of: organization)
                let lines = log.lines(of: organization)
                #expect(
                    records.map(\.sequence) == Array(1...lines.count),
                    "organization \(organization), seed \(log.seed)"
                )
                #expect(records.map(\.line) == lines, "organization \(organization), seed \(log.seed)")
            }
        }

        private static func requireSameAnswers(_ log: EventLog, _ cluster: DevCluster) async throws {
            let expected = try await Oracle.answers(log)
            let organizations = EventLog.organizations.map { "\"\($0)\"" }.joined(separator: ",")
            for node in 1...cluster.nodes {
                for (place, statement) in Oracle.statements.enumerated() {
                    let sql = statement.sql.split(separator: "\n").joined(separator: " ")
                    let reply = try await cluster.send(
                        "POST",
                        "/v1/query",
                        node: node,
                        body: "{\"sql\":\"\(sql)\",\"organizations\":[\(organizations)]}"
                    )
                    #expect(reply.status == 200, "\(reply)")
                    let rows = try Oracle.rows(reply.body)
                    #expect(rows == expected[place], "\(statement.name) through node \(node), seed \(log.seed)")
                    // The counts also by hand: an oracle that errs in the same way would not be noticed otherwise.
                    if place == 0 {
                        let counts = log.counts.sorted { $0.key < $1.key }.map { "[\"\($0.key)\",\($0.value)]" }
                        #expect(rows == "[\(counts.joined(separator: ","))]")
                    }
                }
            }
        }

        /// Records appended, already there, and organizations, from the table that an import ends with.
        private static func counts(_ output: String) throws -> [Int] {
            let line = try #require(output.split(separator: "\n").last)
            let cells = line.split(whereSeparator: { !($0.isNumber || $0 == "," || $0 == ".") })
            return cells.prefix(3).compactMap { Int($0.filter(\.isNumber)) }
        }
    }
}
