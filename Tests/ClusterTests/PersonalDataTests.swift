internal import Foundation
internal import HTTPTypes
internal import NodeRuntime
internal import RocksStorage
internal import Storage
internal import Testing

extension RealCluster {
    @Suite("Personal data of a cluster")
    struct PersonalDataTests {
        private static let organization = "clinic"
        private static let path = "/v1/organizations/clinic"
        /// What must be on no disk once its subject is erased, and at no time in the clear.
        private static let secret = "Zebulon-Quartermain"

        private struct Opened: Decodable {
            struct Field: Decodable {
                var path: String
                var subject: String
                var value: String?
                var erasedSequence: Int?
            }
            var opened: [Field]
        }

        private struct Change: Decodable { var sequence: Int? }

        /// Appends a record about a person and returns its sequence.
        private static func append(
            _ subject: String,
            _ cluster: DevCluster,
            node: Int
        ) async throws -> Int {
            let body =
                #"{"action":"create","entity_type":"patient","entity_id":"\#(subject)","#
                + #""after":{"name":"\#(self.secret)","ward":"7"},"#
                + #""personal":[{"path":"/after/name","subject":"\#(subject)"}]}"#
            let reply = try await cluster.send("POST", self.path + "/records", node: node, body: body)
            try #require(reply.status == 201, "\(reply)")
            return try #require(try reply.decode(Change.self).sequence)
        }

        private static func reveal(_ sequence: Int, _ cluster: DevCluster, node: Int) async throws -> Opened.Field {
            let reply = try await cluster.send("GET", self.path + "/records/\(sequence)?reveal=true", node: node)
            try #require(reply.status == 200, "\(reply)")
            return try #require(try reply.decode(Opened.self).opened.first)
        }

        private static func code(_ reply: APIConnection.Reply) throws -> String {
            try reply.decode(APIConnection.ProblemDocument.self).code
        }

        private static func verify(_ cluster: DevCluster) async throws {
            let verified = try await cluster.ftnode("audit", "verify")
            #expect(verified.ending == .exited(0), "\(verified.output)")
        }

        @Test(.timeLimit(.minutes(3)))
        func isSealedRevealedHeldAndErasedOnEveryNodeAndTheLedgerStaysSound() async throws {
            try await withFolder("personal") { folder in
                var cluster = try await DevCluster.start(in: folder)
                do {
                    try await cluster.withClient {
                        _ = try await $0.createOrganization(key: Self.organization, name: nil)
                    }
                    let ada = try await Self.append("p-ada", cluster, node: 1)
                    let bob = try await Self.append("p-bob", cluster, node: 2)
                    let plain = try await cluster.send("GET", Self.path + "/records/\(ada)", node: 3)
                    #expect(plain.text.contains("$commitment") && !plain.text.contains(Self.secret), "\(plain)")
                    for node in 1...3 {
                        #expect(try await Self.reveal(ada, cluster, node: node).value == Self.secret)
                    }
                    let proof = try await Self.prove(ada, cluster, folder)
                    try await Self.check(proof, cluster)
                    try await Self.verify(cluster)

                    try await Self.refusals(cluster)
                    let erased = try await cluster.ftnode(
                        "audit",
                        "erase",
                        "--org",
                        Self.organization,
                        "--subject",
                        "p-ada",
                        "--basis",
                        "GDPR Art. 17",
                        "--wait"
                    )
                    #expect(erased.ending == .exited(0), "\(erased.output)")
                    for node in 1...3 {
                        let field = try await Self.reveal(ada, cluster, node: node)
                        #expect(field.value == nil && field.erasedSequence != nil)
                        #expect(try await Self.reveal(bob, cluster, node: node).value == Self.secret)
                    }
                    try await Self.check(proof, cluster)
                    try await Self.verify(cluster)
                    #expect(await cluster.stop() == .exited(0))
                    for node in 1...3 { try Self.requireGone(cluster.dataFolder(node)) }

                    // A restart brings nothing back, and what is left still opens.
                    cluster = try await DevCluster.start(in: folder, again: cluster)
                    #expect(try await Self.reveal(ada, cluster, node: 1).value == nil)
                    #expect(try await Self.reveal(bob, cluster, node: 2).value == Self.secret)
                    try await Self.verify(cluster)
                } catch {
                    await cluster.stop()
                    throw error
                }
                await cluster.stop()
            }
        }

        /// The files of a receipt: proof, record, and the policy to hold them against.
        private struct Receipt {
            let proof: String
            let record: String
            let policy: String
        }

        private static func prove(_ sequence: Int, _ cluster: DevCluster, _ folder: TestFolder) async throws -> Receipt
        {
            let (proof, record) = (folder.file("r.proof"), folder.file("r.json"))
            let made = try await cluster.ftnode(
                "audit",
                "prove",
                "--org",
                self.organization,
                "--sequence",
                "\(sequence)",
                "--output",
                proof,
                "--record",
                record
            )
            try #require(made.ending == .exited(0), "\(made.output)")
            let policy = try await cluster.send("GET", self.path + "/policy")
            return Receipt(proof: proof, record: record, policy: try folder.write(policy.body, to: "policy"))
        }

        private static func check(_ receipt: Receipt, _ cluster: DevCluster) async throws {
            let checked = try await cluster.ftnode(
                "audit",
                "check-receipt",
                receipt.proof,
                "--keys",
                receipt.policy,
                "--record",
                receipt.record
            )
            #expect(checked.ending == .exited(0), "\(checked.output)")
        }

        /// What must be refused before an erasure and by a hold.
        private static func refusals(_ cluster: DevCluster) async throws {
            let erase = #"{"basis":"GDPR Art. 17"}"#
            let unknown = try await cluster.send("POST", self.path + "/subjects/nobody/erase", body: erase)
            #expect(try self.code(unknown) == "subject_not_found")
            let bare = try await cluster.send("POST", self.path + "/subjects/p-ada/erase", body: "{}")
            #expect(bare.status == 400, "\(bare)")
            let held = try await cluster.ftnode("audit", "hold", "--org", self.organization, "--subject", "p-ada")
            #expect(held.ending == .exited(0), "\(held.output)")
            let refused = try await cluster.send("POST", self.path + "/subjects/p-ada/erase", body: erase)
            #expect(try self.code(refused) == "legal_hold")
            #expect(try await self.reveal(1, cluster, node: 1).value == self.secret)
            let lifted = try await cluster.ftnode(
                "audit",
                "hold",
                "--org",
                self.organization,
                "--subject",
                "p-ada",
                "--release"
            )
            #expect(lifted.ending == .exited(0), "\(lifted.output)")
        }

        /// No key and no sealed value of the erased subject is in a node's store, only those of the other.
        private static func requireGone(_ dataFolder: String) throws {
            let store = try RocksStore.open(path: dataFolder + "/rocksdb")
            defer { try? store.close() }
            for family in [ColumnFamily.subjectKeys, .sealedValues] {
                var rows = 0
                try store.scan(family, from: [], to: nil) { _, _ in
                    rows += 1
                    return true
                }
                #expect(rows == 1, "\(family.rawValue) of \(dataFolder)")
            }
        }
    }
}
