internal import Foundation
internal import HTTPTypes
internal import NIOCore
internal import NodeRuntime
internal import Testing
internal import Transport

extension RealCluster {
    @Suite("Three nodes that are started and stopped one by one")
    struct NodeLossTests {
        private static let organization = "lab-a"
        /// Without records; a statement over both is gathered by the query router.
        private static let neighbour = "lab-b"
        private static let writeTimeoutMilliseconds = 2000
        /// Beyond the time-out of a write: for the machine, not for the cluster.
        private static let slack = Duration.seconds(3)

        @Test(.timeLimit(.minutes(2)))
        func servesWithoutOneNodeAndRefusesWritesWithoutTwoAndLosesNothing() async throws {
            try await withFolder("node-loss") { folder in
                let nodes = try ServedNodes(
                    folder,
                    ServedNodes.Settings(
                        members: [1, 2, 3],
                        extra: """
                            raft: {tick_ms: 25}
                            write: {timeout_ms: \(Self.writeTimeoutMilliseconds)}
                            query: {time_limit_ms: 1500, result_mb_max: 1}
                            """
                    )
                )
                var programs: [Int: ChildProgram] = [:]
                for node in 1...3 { programs[node] = try await nodes.start(node) }
                do {
                    try await nodes.waitUntilReady([1, 2, 3])
                    try await Self.run(nodes, &programs)
                } catch {
                    for program in programs.values { await program.stop(SIGKILL) }
                    throw error
                }
                for program in programs.values { #expect(await program.stop() == .exited(0), "\(program.output)") }
            }
        }

        private static func run(_ nodes: ServedNodes, _ programs: inout [Int: ChildProgram]) async throws {
            try await nodes.withClient([1, 2, 3]) { client in
                try await client.createOrganization(key: self.organization, name: nil)
                try await client.createOrganization(key: self.neighbour, name: nil)
                for number in 1...20 { try await self.append(number, client) }
            }
            try await self.requireLimits(nodes)

            // One stopped: the other two serve.
            let first = try #require(programs[1])
            #expect(await first.stop() == .exited(0), "\(first.output)")
            try await nodes.withClient([2, 3]) { client in
                for number in 21...30 { try await self.append(number, client) }
            }
            for node in [2, 3] { #expect(try await self.count(nodes, node, "linearizable") == "[[30,30]]") }

            let partial = try await self.verify(nodes)
            #expect(partial.ending == .exited(1), "a replica that cannot be reached is not verified: \(partial.output)")
            #expect(
                partial.output.contains("node 1, organization \(self.organization): unreachable"),
                "\(partial.output)"
            )

            // Two stopped: the last one refuses writes in time, and answers what it has.
            let second = try #require(programs[2])
            #expect(await second.stop() == .exited(0), "\(second.output)")
            try await self.requireRefusal(nodes)
            #expect(try await self.count(nodes, 3, "eventual") == "[[30,30]]")

            // All again: everything acknowledged is there, and the refused write can be repeated.
            programs[1] = try await nodes.start(1)
            programs[2] = try await nodes.start(2)
            try await nodes.withClient([1, 2, 3]) { try await self.append(31, $0) }
            for node in 1...3 { #expect(try await self.count(nodes, node, "linearizable") == "[[31,31]]") }
            let verification = try await self.verify(nodes)
            #expect(verification.ending == .exited(0), "\(verification.output)")
        }

        private static func verify(_ nodes: ServedNodes) async throws -> (ending: ChildProgram.Ending, output: String) {
            let context = try nodes.folder.write(
                Array(
                    ClientContext.text(
                        addresses: (1...3).map { "127.0.0.1:\(nodes.apiPort($0))" },
                        caFile: nodes.pki.caFile,
                        token: nodes.token
                    ).utf8
                ),
                to: "client.yaml"
            )
            return try await ChildProgram.run(
                Programs.ftnode,
                ["audit", "verify", "--org", self.organization, "--context", context]
            )
        }

        /// The event with this number, as JSON.
        private static func event(_ number: Int) -> String {
            "{\"action\":\"counted\",\"entity_type\":\"number\",\"entity_id\":\"n\(number)\"}"
        }

        /// Appends the event with this number once, however often it is tried.
        private static func append(_ number: Int, _ client: ClusterClient) async throws {
            var request = APIRequest(
                .post,
                "/v1/organizations/\(self.organization)/records",
                body: ByteBuffer(string: self.event(number))
            )
            request.idempotencyKey = "number-\(number)"
            request.budget = .seconds(30)
            #expect(try await client.send(request).status == 201)
        }

        /// Records, and different entities in them: equal only when none was written twice.
        private static func count(_ nodes: ServedNodes, _ node: Int, _ consistency: String) async throws -> String {
            let body =
                "{\"sql\":\"select count(*), count(distinct entity_id) from audit_log where action = 'counted'\","
                + "\"organizations\":[\"\(self.organization)\"],\"consistency\":\"\(consistency)\"}"
            return try await nodes.withClient([node]) { client in
                var request = APIRequest(.post, "/v1/query", body: ByteBuffer(string: body))
                request.isReadOnly = true
                request.budget = .seconds(30)
                return try Oracle.rows(try await client.send(request).bytes)
            }
        }

        private static func requireRefusal(_ nodes: ServedNodes) async throws {
            let connection = try APIConnection(port: nodes.apiPort(3), caFile: nodes.pki.caFile)
            defer { connection.close() }
            let reply = try await connection.send(
                "POST",
                "/v1/organizations/\(self.organization)/records",
                authorization: nodes.authorization,
                contentType: "application/json",
                idempotencyKey: "number-31",
                body: Array(self.event(31).utf8),
                timeout: .milliseconds(self.writeTimeoutMilliseconds) + self.slack
            )
            #expect(reply.status == 503, "\(reply)")
            let problem = try reply.decode(APIConnection.ProblemDocument.self)
            #expect(["no_leader", "no_quorum"].contains(problem.code), "\(reply)")
            #expect(reply.fields[.contentType] == "application/problem+json")
            #expect(reply.fields[.retryAfter] != nil)
        }

        /// The limits of statements, which this cluster has set low.
        private static func requireLimits(_ nodes: ServedNodes) async throws {
            let connection = try APIConnection(port: nodes.apiPort(2), caFile: nodes.pki.caFile)
            defer { connection.close() }
            func ask(
                _ sql: String,
                _ format: String,
                _ organizations: [String] = [self.organization]
            ) async throws -> APIConnection.Reply {
                try await connection.send(
                    "POST",
                    "/v1/query",
                    authorization: nodes.authorization,
                    contentType: "application/json",
                    body: Array(
                        ("{\"sql\":\"\(sql)\",\"organizations\":[\"\(organizations.joined(separator: "\",\""))\"],"
                            + "\"format\":\"\(format)\"}").utf8
                    )
                )
            }
            // Twenty records joined ten times with themselves: more rows than any machine counts in time.
            let joined = (1...10).map { "audit_log a\($0)" }.joined(separator: ", ")
            let bomb = "select count(*) from \(joined) where concat(a1.entity_id, a10.entity_id) <> a5.entity_id"
            for format in ["json", "csv"] {
                let reply = try await ask(bomb, format)
                #expect(reply.status == 504, "\(format): \(reply)")
                try reply.requireProblem("query_time_limit", format)
            }
            let gathered = try await ask(bomb, "json", [self.organization, self.neighbour])
            #expect(gathered.status == 504, "\(gathered)")
            try gathered.requireProblem("query_time_limit", "gathered")
            let large = "select repeat('x', 10000) as text from audit_log a, audit_log b"
            let reply = try await ask(large, "json")
            #expect(reply.status == 413, "\(reply.status)")
            try reply.requireProblem("result_too_large", "json")
            // A stream that has begun can only break off: it must never look as if it were whole.
            do {
                let streamed = try await ask(large, "csv")
                #expect(streamed.status == 413, "\(streamed.status) with \(streamed.body.count) bytes")
                try streamed.requireProblem("result_too_large", "csv")
            } catch let error as TransportError {
                #expect(error.code == .streamReset, "\(error)")
            }
            let alive = try await connection.send("GET", "/healthz", authorization: nil)
            #expect(alive.status == 200)
        }
    }
}
