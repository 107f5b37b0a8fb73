internal import Foundation
internal import NodeRuntime
internal import Testing

extension RealCluster {
    /// Workers of a real node are killed while it is written to and asked.
    @Suite("Worker processes that are killed under load")
    struct WorkerLossTests {
        private static let organizations = ["lab-a", "lab-b", "lab-c"]
        private static let kills = 6
        private static let appendsPerKill = 10

        /// The ids of the worker processes below a process.
        private static func workers(below root: pid_t) -> [pid_t] {
            var parents: [pid_t: pid_t] = [:]
            for name in (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? [] {
                guard let pid = pid_t(name),
                    let stat = try? String(contentsOfFile: "/proc/\(pid)/stat", encoding: .utf8),
                    // The name, in brackets, may have spaces in it.
                    let fields = stat.split(separator: ")").last?.split(separator: " "), fields.count > 1
                else { continue }
                parents[pid] = pid_t(fields[1])
            }
            return parents.keys.filter { pid in
                guard let command = try? String(contentsOfFile: "/proc/\(pid)/cmdline", encoding: .utf8),
                    command.split(separator: "\0").dropFirst().first == "worker"
                else { return false }
                var ancestor: pid_t? = pid
                while let next = ancestor, next > 1, next != root { ancestor = parents[next] }
                return ancestor == root
            }
        }

        @Test(.timeLimit(.minutes(3)))
        func costRepetitionsAndNothingElse() async throws {
            try await withFolder("worker-loss") { folder in
                let cluster = try await DevCluster.start(in: folder, nodes: 1)
                do {
                    try await Self.run(cluster)
                } catch {
                    await cluster.stop()
                    throw error
                }
                await cluster.stop()
            }
        }

        private static func run(_ cluster: DevCluster) async throws {
            try await cluster.withClient { client in
                for key in self.organizations { _ = try await client.createOrganization(key: key, name: nil) }
            }
            var refused = 0
            for round in 1...self.kills {
                // Under load: statements that take a while run when their processes go.
                try await withThrowingTaskGroup(of: Int.self) { group in
                    for _ in 0..<4 {
                        group.addTask {
                            // Another one each round: one that was running whenever its process ended would be refused.
                            let sql = "SELECT count(*) FROM audit_log, range(\(30_000_000 + round))"
                            let body = #"{"sql":"\#(sql)"}"#
                            return try await cluster.send("POST", "/v1/query", body: body).status
                        }
                    }
                    try await self.append(cluster)
                    let workers = self.workers(below: cluster.program.pid)
                    #expect(!workers.isEmpty, "there are workers to kill")
                    for pid in workers { kill(pid, SIGKILL) }
                    // The ledger notices nothing.
                    try await self.append(cluster)
                    for try await status in group {
                        #expect(status == 200 || status == 503, "round \(round): \(status)")
                        if status == 503 { refused += 1 }
                    }
                }
                try await self.requireAll(cluster, round * 2 * self.appendsPerKill)
            }
            #expect(refused > 0, "no statement was running when its process was killed: nothing was tested")
            let verified = try await cluster.ftnode("audit", "verify")
            #expect(verified.ending == .exited(0), "\(verified.output)")
            let status = try await cluster.ftnode("cluster", "status")
            #expect(status.output.contains("ended, signal 9"), "why the last ones ended: \(status.output)")
            let metrics = try await cluster.send("GET", "/metrics")
            #expect(metrics.text.contains("ft_workers_alive 3"), "all are there again")
        }

        private static func append(_ cluster: DevCluster) async throws {
            for number in 0..<self.appendsPerKill {
                for key in self.organizations {
                    let reply = try await cluster.send(
                        "POST",
                        "/v1/organizations/\(key)/records",
                        body: Bench.event("\"reason\":\"\(number)\"")
                    )
                    #expect(reply.status == 201, "\(reply)")
                }
            }
        }

        /// Asks until it is answered, as clients do after `query_unavailable`.
        private static func requireAll(_ cluster: DevCluster, _ count: Int) async throws {
            let sql =
                "SELECT organization, count(*) AS n FROM audit_log WHERE action = 'checked' GROUP BY ALL ORDER BY ALL"
            while true {
                let reply = try await cluster.send("POST", "/v1/query", body: #"{"sql":"\#(sql)"}"#)
                if reply.status == 503 {
                    #expect(reply.text.contains("query_unavailable"), "\(reply)")
                    continue
                }
                try #require(reply.status == 200, "\(reply)")
                for key in self.organizations { #expect(reply.text.contains("[\"\(key)\",\(count)]"), "\(reply)") }
                return
            }
        }
    }
}
