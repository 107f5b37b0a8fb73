internal import AuditLedger
internal import Foundation
internal import Primitives
internal import Testing

@testable internal import NodeRuntime

@Suite("Files of keys for checkpoints")
struct SigningKeyTests {
    @Test func areMadeOnceAndOutliveCertificates() async throws {
        try await Fixture.withDirectory { folder in
            let pki = PKIFolder(path: folder + "/pki")
            let now = Timestamp(microseconds: 1_800_000_000_000_000)
            try pki.initialize(cluster: "lab", days: 10, now: now, replacing: false)
            let node = NodeID(2)
            for _ in 0..<2 { try pki.issueNode(node, hosts: ["localhost"], days: 5, now: now, replacing: true) }
            let path = pki.signingKeyFile(node)
            let first = try WholeTextFile.read(path)
            try pki.issueNode(node, hosts: ["localhost"], days: 5, now: now, replacing: true)
            #expect(try WholeTextFile.read(path) == first, "a renewal does not touch it")
            let mode = try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int
            #expect(mode == 0o600)
            let keys = try SigningKeyFile(path: path).read(cluster: "lab", node: node)
            #expect(keys.map(\.name.description) == ["lab/node-2"])
            let text = try WholeTextFile.read(pki.verifierKeyFile(node))
            #expect(try NoteVerifierKey(parsing: String(text.dropLast())) == keys[0].verifierKey)
            #expect(throws: PKIError.self) { try pki.issueSigningKey(node, replacing: false) }
            try pki.issueSigningKey(node, replacing: true)
            #expect(try WholeTextFile.read(path) != first)
        }
    }

    @Test func wrongOnesAreRefusedWithoutTheirContent() async throws {
        try await Fixture.withDirectory { folder in
            let key = try SigningKeyFile.makeKey(cluster: "lab", node: NodeID(2))
            let secret = String(decoding: key.secretText, as: UTF8.self)
            let file = SigningKeyFile(path: folder + "/node-2.signing.key")
            try file.write([key], replacing: false)
            #expect(file.verifierKeyPath == folder + "/node-2.vkey")
            for (cluster, node) in [("other", NodeID(2)), ("lab", NodeID(3))] {
                #expect(throws: PKIError.self) { try file.read(cluster: cluster, node: node) }
            }
            let plain = try NoteSignerKey(name: key.name, type: .ed25519, seed: key.seed)
            let wrong = [
                "", "\n", "x\n", String(secret.dropLast()), String(decoding: plain.secretText, as: UTF8.self),
                Array(repeating: secret, count: SigningKeyFile.keysMax + 1).joined(separator: "\n"),
            ]
            for text in wrong {
                try WholeTextFile.write(text, to: file.path, for: .owner, replacing: true)
                let error = #expect(throws: PKIError.self) { try file.read() }
                #expect(error.map { !errorChain($0).contains(secret.suffix(20)) } ?? false)
            }
            try file.write([key, key], replacing: true)
            #expect(try file.read().count == 2)
        }
    }

    @Test func witnessesAreReadFromTheConfiguration() throws {
        let key = try SigningKeyFile.makeKey(named: "w.example/1")
        let vkey = String(decoding: key.verifierKey.text, as: UTF8.self)
        func problems(_ witnesses: String) -> [String] {
            let text = """
                cluster: {id: lab, replicas: 1, nodes: [{id: 1, api: "h:1", peer: "h:2"}]}
                node: {id: 1, data: data}
                api: {listen: "h:1", certificate: c, key: k}
                peer: {listen: "h:2", certificate: c, key: k, ca: ca}
                \(witnesses)
                """
            let outcome = ConfigurationLoader.examine(
                content: ConfigurationFile(path: "/etc/n.yaml", text: text),
                environment: [:],
                overrides: [],
                workingFolder: "/"
            )
            if let loaded = outcome.loaded {
                #expect(loaded.configuration.witnesses.map(\.url) == ["https://w.example"])
                #expect(loaded.configuration.witnesses.first?.caFile == "/etc/w.pem")
            }
            return outcome.problems.map(\.description)
        }
        #expect(problems("witnesses: [{url: \"https://w.example\", vkey: \"\(vkey)\", ca: w.pem}]").isEmpty)
        let wrong = [
            "witnesses: [{url: \"http://w.example\", vkey: \"\(vkey)\"}]",
            "witnesses: [{url: \"https://w.example\", vkey: \"x+y\"}]",
            "witnesses: [{url: \"https://w.example\"}]",
            "witnesses: [{url: \"https://w.example\", vkey: \"\(vkey)\", key: k}]",
            "witnesses: {url: \"https://w.example\"}",
            "witnesses: [\"https://w.example\"]",
            "audit: {witness_quorum: 1}",
        ]
        for text in wrong { #expect(!problems(text).isEmpty, "\(text)") }
    }
}

@Suite("Checking a receipt without asking anyone")
struct ReceiptCheckTests {
    private struct Case {
        var receipt: [UInt8]
        let record: [UInt8]
        let keys: [NoteSignerKey]

        var vkeys: [UInt8] { self.keys.flatMap { $0.verifierKey.text + [UInt8(ascii: "\n")] } }
    }

    private static func make(signers: Int = 2) throws -> Case {
        let keys = try (1...3).map { try SigningKeyFile.makeKey(cluster: "lab", node: NodeID($0)) }
        let records = (0..<11).map { Array("{\"n\":\($0)}".utf8) }
        let nodes = MerkleNodes(leaves: records.map { LedgerHash.leaf($0) })
        let origin = try LogOrigin("lab/lab-a")
        var note = try SignedCheckpoint(Checkpoint(origin: origin, size: 11, root: try nodes.treeRoot(size: 11)))
        try note.sign(try NoteSignerKey(name: try origin.keyName, type: .ed25519, seed: keys[0].seed))
        for key in keys.prefix(signers) { try note.cosign(key, timeSeconds: 1000) }
        let inclusion = try InclusionProof.build(index: 4, size: 11, from: nodes)
        let proof = try TransparencyProof(inclusion: inclusion, checkpoint: note)
        return Case(receipt: proof.encoded, record: records[4], keys: keys)
    }

    private static func verdict(
        _ made: Case,
        record: [UInt8]? = nil,
        origin: String? = "lab/lab-a",
        keys: [UInt8]? = nil
    ) -> ReceiptCheck.Verdict {
        ReceiptCheck.check(
            receipt: made.receipt,
            keys: keys ?? made.vkeys,
            record: record ?? made.record,
            origin: origin
        ).verdict
    }

    @Test func isValidWithAMajority() throws {
        let made = try Self.make()
        #expect(Self.verdict(made) == .valid)
        let logs = try made.keys.map {
            try NoteVerifierKey(name: NoteKeyName("lab/lab-a"), type: .ed25519, publicKey: $0.verifierKey.publicKey)
        }
        let policy = try TrustPolicy.cluster(logs: logs, replicas: made.keys.map(\.verifierKey), replicasNeeded: 2)
        #expect(Self.verdict(made, keys: policy.encoded) == .valid, "a policy says the same")
        let listed = made.keys.map { "{\"key\":\"\(String(decoding: $0.verifierKey.text, as: UTF8.self))\"}" }
        let answer = Array("{\"cluster\":\"lab\",\"keys\":[\(listed.joined(separator: ","))]}".utf8)
        #expect(Self.verdict(made, keys: answer) == .valid, "and so does the list that the API gives")
        #expect(Self.verdict(made, keys: Array("{\"keys\":[]}".utf8)) == .unreadable)
    }

    @Test func namesWhatIsWrong() throws {
        var made = try Self.make()
        #expect(Self.verdict(made, record: Array("{\"n\":5}".utf8)) == .tampered)
        #expect(Self.verdict(made, origin: "lab/lab-b") == .tampered)
        #expect(Self.verdict(try Self.make(signers: 1)) == .policyNotMet)
        #expect(
            Self.verdict(made, keys: try Self.make().vkeys) == .policyNotMet,
            "keys of another cluster of that name"
        )
        #expect(Self.verdict(made, keys: Array("nothing\n".utf8)) == .unreadable)
        let text = String(decoding: made.receipt, as: UTF8.self)
        made.receipt = Array(text.replacing("\n11\n", with: "\n12\n").utf8)
        #expect(Self.verdict(made) == .tampered, "another size under the same signatures")
        made.receipt = Array(text.replacing("index 4", with: "index 5").utf8)
        #expect(Self.verdict(made) == .tampered)
        made.receipt = Array(text.dropLast(3).utf8)
        #expect(Self.verdict(made) == .unreadable)
    }
}
