internal import Foundation
internal import NodeRuntime
internal import Testing

extension RealCluster {
    @Suite("Who was refused and who looked, on record")
    struct AccessRecordTests {
        private struct Page: Decodable {
            struct Entry: Decodable { var record: Record }
            struct Record: Decodable {
                struct Actor: Decodable {
                    var name: String?
                    var role: String?
                }
                struct After: Decodable {
                    var operation: String?
                    var part: String?
                    var count: Int?
                    var sha256: String?
                    var size: Int?
                    var export: Int?
                    var subjectsTotal: Int?
                    var personalValues: Int?
                }
                var sequence: Int
                var action: String
                var outcome: String
                var actor: Actor
                var after: After?
            }
            var records: [Entry]
        }

        private static func records(
            _ cluster: DevCluster,
            _ key: String,
            _ action: String
        ) async throws -> [Page.Record] {
            let reply = try await cluster.send("GET", "/v1/organizations/\(key)/records?action=\(action)")
            try #require(reply.status == 200, "\(reply)")
            return try reply.decode(Page.self).records.map(\.record)
        }

        /// Reads until the records of an action count as many acts; the test's time limit ends it.
        private static func untilThereAre(
            _ cluster: DevCluster,
            _ key: String,
            _ action: String,
            acts: Int
        ) async throws -> [Page.Record] {
            while true {
                let found = try await self.records(cluster, key, action)
                if found.reduce(0, { $0 + ($1.after?.count ?? 1) }) >= acts { return found }
                await Task.yield()
            }
        }

        private static func token(_ cluster: DevCluster, _ role: String, _ key: String) async throws -> String {
            try await cluster.withClient { client in
                let made = try await client.createToken(role: role, organizations: [key], name: "\(role) of \(key)")
                return "Bearer " + (try #require(made.token))
            }
        }

        @Test(.timeLimit(.minutes(3)))
        func everyRefusalIsInTheLedgerThatItConcernsAlsoAcrossARestart() async throws {
            try await withFolder("access") { folder in
                var cluster = try await DevCluster.start(in: folder, nodes: 1, recordsReadings: true)
                do {
                    try await cluster.withClient { client in
                        for key in ["lab-a", "lab-b"] { _ = try await client.createOrganization(key: key, name: nil) }
                    }
                    try await Self.refuse(cluster)
                    await cluster.stop()
                    // What was counted with others is written while the node stops.
                    cluster = try await DevCluster.start(in: folder, nodes: 1, again: cluster, recordsReadings: true)
                    let denied = try await Self.records(cluster, "lab-a", "authorization_denied")
                    #expect(denied.first?.after?.count == nil && (2...5).contains(denied.count), "\(denied)")
                    #expect(denied.reduce(0) { $0 + ($1.after?.count ?? 1) } == 50, "\(denied)")
                    #expect(denied.allSatisfy { $0.outcome == "denied" && $0.after?.operation == "append_records" })
                    #expect(denied.allSatisfy { $0.actor.name == "reader of lab-a" && $0.actor.role == "reader" })
                    let read = try await Self.records(cluster, "lab-a", "read_ledger")
                    let auditor = read.filter { $0.actor.role == "auditor" }
                    #expect(auditor.reduce(0) { $0 + ($1.after?.count ?? 1) } == 3, "\(read)")
                    #expect(auditor.allSatisfy { $0.after?.part == "records" }, "\(read)")
                    let own = read.filter { $0.actor.role == "reader" }
                    #expect(own.isEmpty, "what a reader reads is its own work")
                    let verified = try await cluster.ftnode("audit", "verify")
                    #expect(verified.ending == .exited(0), "\(verified.output)")
                } catch {
                    await cluster.stop()
                    throw error
                }
                await cluster.stop()
            }
        }

        @Test(.timeLimit(.minutes(2)))
        func anAttemptWithARevokedTokenNamesIt() async throws {
            try await withFolder("revoked") { folder in
                let cluster = try await DevCluster.start(in: folder, nodes: 1)
                do {
                    let token = try await cluster.withClient { client in
                        _ = try await client.createOrganization(key: "lab-a", name: nil)
                        let made = try await client.createToken(
                            role: "writer",
                            organizations: ["lab-a"],
                            name: "scanner"
                        )
                        try await client.revokeToken(id: made.id)
                        return "Bearer " + (try #require(made.token))
                    }
                    let connection = try #require(cluster.connections[1])
                    for authorization in [token, "Bearer ft_0000"] {
                        let path = "/v1/organizations/lab-a/records"
                        let reply = try await connection.send("GET", path, authorization: authorization)
                        #expect(reply.status == 401, "\(reply)")
                    }
                    let failed = try await Self.untilThereAre(cluster, "system", "login_failed", acts: 2)
                    let known = failed.filter { $0.actor.role == "writer" && $0.actor.name == "scanner" }
                    #expect(known.count == 1 && known.first?.after?.operation == "revoked_token", "\(failed)")
                    #expect(failed.contains { $0.actor.role == nil && $0.after?.operation == "bearer" }, "\(failed)")
                } catch {
                    await cluster.stop()
                    throw error
                }
                await cluster.stop()
            }
        }

        private static func refuse(_ cluster: DevCluster) async throws {
            let connection = try #require(cluster.connections[1])
            let reader = try await self.token(cluster, "reader", "lab-a")
            let auditor = try await self.token(cluster, "auditor", "lab-a")
            for _ in 0..<50 {
                let reply = try await connection.send(
                    "POST",
                    "/v1/organizations/lab-a/records",
                    authorization: reader,
                    contentType: "application/json",
                    body: Array(Bench.event("\"reason\":\"r\"").utf8)
                )
                #expect(reply.status == 403)
            }
            let first = try await self.untilThereAre(cluster, "lab-a", "authorization_denied", acts: 1)
            #expect(first.count == 1, "the first is there at once, the others are counted: \(first)")
            for key in ["lab-b", "nowhere"] {
                let reply = try await connection.send("GET", "/v1/organizations/\(key)/records", authorization: reader)
                #expect(reply.status == 404)
            }
            let crossed = try await self.untilThereAre(cluster, "lab-b", "restricted_attempt", acts: 1)
            #expect(crossed.first?.actor.role == "reader" && crossed.first?.actor.name == nil, "\(crossed)")
            #expect(try await connection.send("GET", "/v1/cluster", authorization: reader).status == 403)
            #expect(try await connection.send("GET", "/v1/cluster", authorization: "Bearer wrong").status == 401)
            _ = try await self.untilThereAre(cluster, "system", "restricted_attempt", acts: 1)
            _ = try await self.untilThereAre(cluster, "system", "authorization_denied", acts: 1)
            let unknown = try await self.untilThereAre(cluster, "system", "login_failed", acts: 1)
            #expect(unknown.first?.outcome == "denied")
            for authorization in [reader, auditor, auditor, auditor] {
                let reply = try await connection.send(
                    "GET",
                    "/v1/organizations/lab-a/records",
                    authorization: authorization
                )
                #expect(reply.status == 200)
            }
        }

        @Test(.timeLimit(.minutes(3)))
        func anExportIsOnRecordWithItsHashAndItsOpenings() async throws {
            try await withFolder("openings") { folder in
                let cluster = try await DevCluster.start(in: folder)
                do {
                    try await cluster.withClient { client in
                        _ = try await client.createOrganization(key: "clinic", name: nil)
                    }
                    try await Self.export(cluster, folder)
                    try await Self.investigate(cluster)
                } catch {
                    await cluster.stop()
                    throw error
                }
                await cluster.stop()
            }
        }

        private static func export(_ cluster: DevCluster, _ folder: TestFolder) async throws {
            let event =
                #"{"action":"create","entity_type":"patient","entity_id":"p-1","after":{"name":"Ada"},"#
                + #""personal":[{"path":"/after/name","subject":"p-1"}]}"#
            let appended = try await cluster.send("POST", "/v1/organizations/clinic/records", body: event)
            try #require(appended.status == 201, "\(appended)")
            let keys = try folder.write(
                Array(try await cluster.ftnode("audit", "keys", "--format", "json").output.utf8),
                to: "keys.json"
            )
            let before = folder.file("before.zip")
            let made = try await cluster.ftnode("audit", "export", "--org", "clinic", "--output", before, "--reveal")
            #expect(made.ending == .exited(0), "\(made.output)")
            let completed = try await self.records(cluster, "clinic", "export_completed")
            let record = try #require(completed.first)
            #expect(made.output.contains("SHA-256 \(record.after?.sha256 ?? "-")"), "\(made.output) \(completed)")
            #expect(record.after?.size == (try Data(contentsOf: URL(fileURLWithPath: before))).count)
            let exports = try await self.records(cluster, "clinic", "export")
            #expect(exports.first?.sequence == record.after?.export && exports.first?.after?.personalValues == 1)
            let seen = try await self.records(cluster, "clinic", "read_sensitive")
            #expect(seen.first?.after?.subjectsTotal == 1, "\(seen)")
            try await self.check(cluster, before, keys, says: "1 personal values are opened")

            let erased = try await cluster.ftnode(
                "audit",
                "erase",
                "--org",
                "clinic",
                "--subject",
                "p-1",
                "--basis",
                "GDPR Art. 17(1)(b)",
                "--wait"
            )
            #expect(erased.ending == .exited(0), "\(erased.output)")
            let after = folder.file("after.zip")
            let again = try await cluster.ftnode("audit", "export", "--org", "clinic", "--output", after, "--reveal")
            #expect(again.ending == .exited(0), "\(again.output)")
            try await self.check(cluster, before, keys, says: "1 personal values are opened")
            try await self.check(cluster, after, keys, says: "1 data subjects were erased")
            let system = folder.file("system.zip")
            let whole = try await cluster.ftnode("audit", "export", "--org", "system", "--output", system)
            #expect(whole.ending == .exited(0), "\(whole.output)")
            #expect(try await self.records(cluster, "system", "export").count == 1)
            #expect(try await self.records(cluster, "system", "export_completed").count == 1)
        }

        private static func check(
            _ cluster: DevCluster,
            _ package: String,
            _ keys: String,
            says text: String
        ) async throws {
            let ours = try await cluster.ftnode("audit", "verify-package", "--keys", keys, package)
            #expect(ours.ending == .exited(0) && ours.output.contains(text), "\(ours.output)")
            let theirs = try await ChildProgram.run("/usr/bin/python3", [ExportTests.script, package, keys])
            #expect(theirs.ending == .exited(0), "\(theirs.output)")
        }

        private static func investigate(_ cluster: DevCluster) async throws {
            func run(_ arguments: String...) async throws -> (ending: ChildProgram.Ending, output: String) {
                try await ChildProgram.run(
                    Programs.ftnode,
                    ["audit"] + arguments + ["--org", "clinic"],
                    environment: ["FTNODE_CONTEXT": cluster.contextFile]
                )
            }
            let save = ["--title", "Who took what away", "--filter"]
            let kept = try await run("investigations", "--save", "exports", save[0], save[1], save[2], "action=export")
            #expect(kept.ending == .exited(0), "\(kept.output)")
            let list = try await run("investigations")
            #expect(list.output.contains("action=export"), "\(list.output)")
            let found = try await run("investigate", "exports", "--format", "json")
            #expect(found.output.split(separator: "\n").count == 2, "\(found.output)")
            let gone = try await run("investigations", "--delete", "exports")
            #expect(gone.ending == .exited(0), "\(gone.output)")
            #expect(try await run("investigate", "exports").ending == .exited(1))
            let builtIn = try await run("investigations", "--save", "user-actions", "--filter", "action=export")
            #expect(builtIn.ending == .exited(1), "\(builtIn.output)")
        }
    }
}
