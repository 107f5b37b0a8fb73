internal import Foundation
internal import NodeRuntime
internal import Primitives
internal import Synchronization
internal import Testing

extension RealCluster {
    @Suite("Losing a leader")
    struct LeaderLossTests {
        @Test(.timeLimit(.minutes(2)))
        func endsAnImportWithEveryRecordOnceWhenALeaderIsKilled() async throws {
            try await DevCluster.with("leader-loss") { cluster in
                let log = EventLog(seed: 7_011, events: 6000)
                let file = try cluster.folder.write(log.ndjson, to: "log.ndjson")
                let largest = try #require(OrganizationKey(EventLog.largest))
                let leader = try await cluster.withClient { client in
                    for organization in EventLog.organizations {
                        try await client.createOrganization(key: organization, name: nil)
                    }
                    return try await Self.leader(of: EventLog.largest, client)
                }

                let killedAt = Mutex<Int?>(nil)
                let outcome = try await cluster.withClient { client in
                    let run = ImportRun(client: client, createsOrganizations: false, timeout: .seconds(60))
                    return await run.run(try LineSource(path: file)) { progress in
                        // The first receipt of that organization is the signal; more of its batches follow.
                        guard progress.organizations[largest] != nil else { return }
                        killedAt.withLock { killedAt in
                            guard killedAt == nil else { return }
                            killedAt = progress.acknowledged
                            kill(leader.pid, SIGKILL)
                        }
                    }
                }
                #expect(outcome.failure == nil, "seed \(log.seed): \(String(describing: outcome.failure))")
                #expect(outcome.progress.acknowledged == log.events.count)
                let killed = try #require(killedAt.withLock { $0 })
                #expect(killed < log.events.count, "the node was killed after the import, which shows nothing")

                let ended = try await cluster.program.line(containing: "node \(leader.node) ended (signal 9)")
                let started = try await cluster.program.line(
                    containing: "node \(leader.node) started again",
                    from: ended
                )
                try await cluster.program.line(containing: "node \(leader.node) is ready", from: started)

                for node in 1...cluster.nodes {
                    for organization in EventLog.organizations {
                        let records = try await cluster.records(of: organization, node: node)
                        let lines = log.lines(of: organization)
                        #expect(records.map(\.sequence) == Array(1...lines.count), "node \(node), seed \(log.seed)")
                        #expect(records.map(\.line) == lines, "node \(node), \(organization), seed \(log.seed)")
                    }
                }
                let verification = try await cluster.ftnode("audit", "verify")
                #expect(verification.ending == .exited(0), "\(verification.output)")
            }
        }

        /// The node that leads the organization's group, and its process.
        private static func leader(
            of organization: String,
            _ client: ClusterClient
        ) async throws -> (node: Int, pid: Int32) {
            let group = try #require(try await client.organizations().list.first { $0.key == organization }?.group)
            let view = try await client.status().view
            let node = try #require(view.groups.first { $0.id == group }?.leader)
            let pid = try #require(view.nodes.first { $0.id == node }?.pid)
            return (node, Int32(pid))
        }
    }
}
