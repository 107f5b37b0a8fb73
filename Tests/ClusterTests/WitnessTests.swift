internal import Foundation
internal import NodeRuntime
internal import Primitives
internal import Testing

extension RealCluster {
    /// `ftnode witness` beside a node: it remembers over restarts and refuses to go back, and the node goes on without it.
    @Suite("A witness of its own")
    struct WitnessTests {
        /// Requests after which a state that must come is given up.
        private static let looksMax = 5000

        private struct Sight: Decodable {
            struct Node: Decodable {
                struct Audit: Decodable {
                    struct Witness: Decodable {
                        var state: String
                        var pending: Int
                    }
                    var witnesses: [Witness]
                }
                var audit: Audit?
            }
            var nodes: [Node]
        }

        /// A node with one witness that may or may not run.
        private struct Setting {
            let nodes: ServedNodes
            let port: Int
            let key: String
            let data: String
            let logKey: String
            let api: APIConnection

            init(_ folder: TestFolder) async throws {
                let port = try LoopbackPorts.base(offsets: [0])
                let key = folder.file("witness")
                let made = try await ChildProgram.run(
                    Programs.ftnode,
                    ["pki", "witness-key", "--name", "w.example/w1", "--out", key]
                )
                #expect(made.ending == .exited(0), "\(made.output)")
                let vkey = try Self.text(key + ".vkey")
                let pki = folder.file("pki-lab")
                var settings = ServedNodes.Settings()
                settings.extra = """
                    audit: {signing_key: "\(pki)/node-1.signing.key"}
                    witnesses: [{url: "https://127.0.0.1:\(port)", vkey: "\(vkey)", ca: "\(pki)/ca.pem"}]
                    """
                self.nodes = try ServedNodes(folder, settings)
                // The witness' own certificate, of the same CA.
                try self.nodes.issueCertificate(2, now: SystemTime.now(), days: 10)
                self.port = port
                self.key = key + ".key"
                self.data = folder.file("witness-data")
                self.logKey = try Self.text("\(pki)/node-1.vkey")
                self.api = try APIConnection(port: self.nodes.apiPort(1), caFile: self.nodes.pki.caFile)
            }

            static func text(_ path: String) throws -> String {
                try String(contentsOfFile: path, encoding: .utf8).trimmingCharacters(in: .whitespacesAndNewlines)
            }

            func startWitness() async throws -> ChildProgram {
                let certificate = "\(self.nodes.pki.path)/node-2"
                let program = try await ChildProgram.start(
                    Programs.ftnode,
                    [
                        "witness", "--listen", "127.0.0.1:\(self.port)", "--key", self.key, "--data", self.data,
                        "--log", self.logKey, "--certificate", certificate + ".pem", "--certificate-key",
                        certificate + ".key",
                    ]
                )
                try await program.line(containing: "serving")
                return program
            }

            func send(_ method: String, _ path: String, _ body: String? = nil) async throws -> APIConnection.Reply {
                try await self.api.send(
                    method,
                    path,
                    authorization: self.nodes.authorization,
                    contentType: body == nil ? nil : "application/json",
                    body: body.map { Array($0.utf8) }
                )
            }

            func append() async throws {
                let event = #"{"action":"weigh","entity_type":"sample","entity_id":"s-1"}"#
                let reply = try await self.send("POST", "/v1/organizations/lab-a/records", event)
                #expect(reply.status == 201, "\(reply)")
            }

            /// A checkpoint of everything, whatever the witness does.
            func fresh() async throws -> String {
                var last = ""
                for _ in 0..<WitnessTests.looksMax {
                    let reply = try await self.send("GET", "/v1/organizations/lab-a/checkpoint?fresh=true")
                    if reply.status == 200 { return reply.text }
                    // The key of a node that has just begun may be on its way.
                    last = reply.text
                }
                Issue.record("no checkpoint: \(last)")
                return last
            }

            /// Asks the node until its witness is as it must become.
            func waitFor(_ state: String, hasPending: Bool) async throws {
                var last = ""
                for _ in 0..<WitnessTests.looksMax {
                    let reply = try await self.send("GET", "/v1/cluster")
                    last = reply.text
                    let witness = try reply.decode(Sight.self).nodes.first?.audit?.witnesses.first
                    if let witness, witness.state == state, (witness.pending > 0) == hasPending { return }
                }
                Issue.record("the witness never became \(state): \(last)")
            }

            /// One request to the witness itself.
            func ask(_ body: String) async throws -> APIConnection.Reply {
                let connection = try APIConnection(port: self.port, caFile: self.nodes.pki.caFile)
                defer { connection.close() }
                return try await connection.send(
                    "POST",
                    "/add-checkpoint",
                    authorization: nil,
                    body: Array(body.utf8)
                )
            }
        }

        @Test(.timeLimit(.minutes(3)))
        func remembersAndRefusesToGoBackAndHoldsNothingUp() async throws {
            try await withFolder("witness") { folder in
                let setting = try await Setting(folder)
                defer { setting.api.close() }
                let node = try await setting.nodes.start(1)
                try await setting.nodes.waitUntilReady([1])
                let created = try await setting.send("POST", "/v1/organizations", #"{"key":"lab-a","name":"A"}"#)
                #expect(created.status == 201, "\(created)")
                try await setting.append()

                // Nobody is there: checkpoints are published, and the state is seen.
                let first = try await setting.fresh()
                #expect(first.hasPrefix("lab/lab-a\n1\n") && !first.contains("w.example"), "\(first)")
                try await setting.waitFor("unreachable", hasPending: true)

                // It comes, and catches up.
                var witness = try await setting.startWitness()
                try await setting.waitFor("ok", hasPending: false)
                try await setting.append()
                _ = try await setting.fresh()
                try await setting.waitFor("ok", hasPending: false)
                let second = try await setting.send("GET", "/v1/organizations/lab-a/checkpoint?size=2")
                #expect(second.text.contains("\u{2014} w.example/w1 "), "\(second)")

                // It refuses to go back, also after it was killed.
                for round in 1...2 {
                    let back = try await setting.ask("old 0\n\n" + first)
                    #expect(back.status == 409 && back.text == "2\n", "round \(round): \(back)")
                    let again = try await setting.ask("old 2\n\n" + second.text)
                    #expect(again.status == 200 && again.text.hasPrefix("\u{2014} w.example/w1 "), "\(again)")
                    guard round == 1 else { break }
                    await witness.stop(SIGKILL)
                    witness = try await setting.startWitness()
                }

                // And goes on where it was.
                try await setting.append()
                _ = try await setting.fresh()
                try await setting.waitFor("ok", hasPending: false)
                let third = try await setting.send("GET", "/v1/organizations/lab-a/checkpoint?size=3")
                #expect(third.text.contains("\u{2014} w.example/w1 "), "\(third)")
                #expect(await witness.stop() == .exited(0))
                #expect(await node.stop() == .exited(0))
            }
        }
    }
}
