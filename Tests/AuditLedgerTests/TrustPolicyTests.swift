import AuditLedger
import Primitives
import Testing

/// Policy files of C2SP tlog-policy.
struct TrustPolicyTests {
    static let keys = (1...6).map { NoteFixture.key("w\($0)", .cosignature, seed: 40 + UInt8($0)).verifierKey }
    static func vkey(_ number: Int) -> String { text(Self.keys[number - 1].text) }
    static let log = text(NoteFixture.log.verifierKey.text)

    /// The example of the specification, with keys.
    static let example = """
        # Two organizations.
        log \(Self.log)

        witness X1 \(Self.vkey(1))
        witness X2 \(Self.vkey(2)) https://x2.example/witness
        \twitness  X3\t\(Self.vkey(3))
        group X-witnesses 2 X1 X2 X3

        witness Y1 \(Self.vkey(4))
        witness Y2 \(Self.vkey(5))
        witness Y3 \(Self.vkey(6))
        group Y-witnesses any Y1 Y2 Y3

        group X-and-Y all X-witnesses Y-witnesses
          # comment
        quorum X-and-Y

        """

    static func names(_ names: String...) throws -> Set<PolicyName> { Set(try names.map { try PolicyName($0) }) }

    @Test func appliesTheExampleOfTheSpecification() throws {
        let policy = try TrustPolicy(parsing: Self.example.utf8)
        #expect(policy.logs.map(\.key) == [NoteFixture.log.verifierKey])
        #expect(policy.witnesses.map(\.key) == Self.keys)
        #expect(policy.witnesses[1].url.map { text($0) } == "https://x2.example/witness")
        #expect(policy.groups.map(\.threshold) == [2, 1, 2])
        #expect(policy.evaluate(cosigners: try Self.names("X1", "X3", "Y2")).quorumIsMet)
        #expect(policy.evaluate(cosigners: try Self.names("X1", "X2", "X3", "Y1", "Y2", "Y3")).quorumIsMet)
        #expect(!policy.evaluate(cosigners: try Self.names("X1", "X2", "X3")).quorumIsMet)
        #expect(!policy.evaluate(cosigners: try Self.names("X1", "Y1", "Y2", "Y3")).quorumIsMet)
        #expect(!policy.evaluate(cosigners: []).quorumIsMet)
        let groups = policy.evaluate(cosigners: try Self.names("X1", "Y1")).groups
        #expect(groups.map(\.witnessedCount) == [1, 1, 1])
        #expect(groups.map(\.isMet) == [false, true, false])
        #expect(try TrustPolicy(parsing: policy.encoded) == policy)
    }

    @Test func aQuorumMayBeOneWitnessOrNone() throws {
        let one = try TrustPolicy(parsing: "witness A \(Self.vkey(1))\nwitness B \(Self.vkey(2))\nquorum B\n".utf8)
        #expect(one.evaluate(cosigners: try Self.names("B")).quorumIsMet)
        #expect(!one.evaluate(cosigners: try Self.names("A")).quorumIsMet)
        let none = try TrustPolicy(parsing: "quorum none\n".utf8)
        #expect(none.evaluate(cosigners: []).quorumIsMet)
        #expect(text(none.encoded) == "quorum none\n")
    }

    @Test func namesWhatIsWrongWithAPolicy() {
        let (a, b) = ("witness A \(Self.vkey(1))\n", "witness B \(Self.vkey(2))\n")
        func code(_ text: String) -> NoteError.Code? { noteCode { _ = try TrustPolicy(parsing: text.utf8) } }
        #expect(code(a + "quorum A\n") == nil)
        #expect(code(a + "quorum A") == .truncated)
        #expect(code(a) == .badQuorum)
        #expect(code(a + "quorum A\nquorum A\n") == .badQuorum)
        #expect(code(a + "quorum A A\n") == .malformedLine)
        #expect(code(a + "quorum B\n") == .undefinedName)
        #expect(code("quorum A\n" + a) == .undefinedName)
        #expect(code(a + "group g any B\n" + b + "quorum g\n") == .undefinedName)
        #expect(code(a + "group g any g\nquorum g\n") == .undefinedName)
        #expect(code(a + "group g any none\nquorum g\n") == .malformedLine)
        #expect(code("witness none \(Self.vkey(1))\nquorum none\n") == .malformedLine)
        #expect(code(a + "witness A \(Self.vkey(2))\nquorum A\n") == .repeatedName)
        #expect(code(a + "witness B \(Self.vkey(1))\nquorum A\n") == .repeatedKey)
        #expect(code("log \(Self.log)\nlog \(Self.log)\nquorum none\n") == .repeatedKey)
        #expect(code(a + b + "group g 1 A A\nquorum g\n") == .repeatedName)
        #expect(code(a + b + "group g 1 A B\ngroup h 1 A g\nquorum h\n") == .repeatedName)
        #expect(code(a + b + "group A 1 B\nquorum A\n") == .repeatedName)
        #expect(code(a + b + "group g 0 A B\nquorum g\n") == .badThreshold)
        #expect(code(a + b + "group g 3 A B\nquorum g\n") == .badThreshold)
        #expect(code(a + b + "group g 01 A B\nquorum g\n") == .malformedNumber)
        #expect(code(a + b + "group g most A B\nquorum g\n") == .malformedNumber)
        #expect(code(a + b + "group g 99999999999999999999 A B\nquorum g\n") == .numberTooLarge)
        #expect(code(a + "group g any\nquorum g\n") == .malformedLine)
        #expect(code(a + "Quorum A\n") == .malformedLine)
        #expect(code(a + "quorum A # all\n") == .malformedLine)
        #expect(code("witness A\nquorum none\n") == .malformedLine)
        #expect(code("witness A \(Self.log)\nquorum A\n") == .unsupportedSignatureType)
        #expect(code("log \(Self.vkey(1))\nquorum none\n") == .unsupportedSignatureType)
        #expect(code("witness A \(Self.vkey(1).replacing("w1+", with: "w2+"))\nquorum A\n") == .keyIDMismatch)
        #expect(code(a + "quorum A\r\n") == .invalidText)
        #expect(code(a + "quorum A\u{7F}\n") == .invalidText)
        #expect(code(String(repeating: "#\n", count: 600_000) + "quorum none\n") == .tooLarge)
        let members = String(repeating: " A", count: 1025)
        #expect(code(a + "group g any\(members)\nquorum g\n") == .tooLarge)
    }

    /// Names are bytes: a letter and its twin are two names.
    @Test func namesAreOpaque() throws {
        let text = "witness K \(Self.vkey(1))\nwitness \u{212A} \(Self.vkey(2))\ngroup g all K \u{212A}\nquorum g\n"
        let policy = try TrustPolicy(parsing: text.utf8)
        #expect(!policy.evaluate(cosigners: try Self.names("K")).quorumIsMet)
        #expect(policy.evaluate(cosigners: try Self.names("K", "\u{212A}")).quorumIsMet)
    }

    @Test func acceptsWhatTheSpecificationRecommends() throws {
        var lines = ""
        for number in 0..<32 {
            let key = NoteFixture.key("many\(number)", .cosignature, seed: 100 + UInt8(number)).verifierKey
            let log = NoteFixture.key("log\(number)", .ed25519, seed: 150 + UInt8(number)).verifierKey
            lines += "witness m\(number) \(text(key.text))\ngroup g\(number) 1 m\(number)\nlog \(text(log.text))\n"
        }
        let policy = try TrustPolicy(parsing: (lines + "quorum g31\n").utf8)
        #expect(policy.witnesses.count == 32 && policy.logs.count == 32 && policy.groups.count == 32)
    }

    @Test func aClusterAsksForReplicasAndWitnesses() throws {
        let policy = NoteFixture.policy()
        #expect(try TrustPolicy(parsing: policy.encoded) == policy)
        let (r1, r2, w1) = ("cluster-a/node-1", "cluster-a/node-2", "witness.example/w1")
        #expect(policy.evaluate(cosigners: try Self.names(r1, r2, w1)).quorumIsMet)
        #expect(!policy.evaluate(cosigners: try Self.names(r1, r2)).quorumIsMet)
        #expect(!policy.evaluate(cosigners: try Self.names(r1, w1)).quorumIsMet)
        let alone = NoteFixture.policy(witnessesNeeded: 0)
        #expect(alone.evaluate(cosigners: try Self.names(r1, r2)).quorumIsMet)
        #expect(noteCode { _ = try TrustPolicy.cluster(logs: [], replicas: [], replicasNeeded: 1) } == .badThreshold)
        #expect(
            noteCode {
                _ = try TrustPolicy.cluster(
                    logs: [],
                    replicas: NoteFixture.replicas.map(\.verifierKey),
                    replicasNeeded: 4
                )
            } == .badThreshold
        )
    }

    /// Two keys of one replica are one voice.
    @Test func aRotatedKeyCountsOnce() throws {
        let old = NoteFixture.replicas[0].verifierKey
        let new = NoteFixture.key("cluster-a/node-1", .cosignature, seed: 70).verifierKey
        let policy = try TrustPolicy.cluster(
            logs: [],
            replicas: [old, new, NoteFixture.replicas[1].verifierKey],
            replicasNeeded: 2
        )
        func isMet(_ keys: NoteVerifierKey...) -> Bool {
            let names = policy.witnesses.filter { keys.contains($0.key) }.map(\.name)
            return policy.evaluate(cosigners: Set(names)).quorumIsMet
        }
        #expect(!isMet(old, new))
        #expect(isMet(old, NoteFixture.replicas[1].verifierKey))
        #expect(isMet(new, NoteFixture.replicas[1].verifierKey))
        #expect(try TrustPolicy(parsing: policy.encoded) == policy)
    }

    @Test(arguments: UInt64(1)...10) func damageNeverTraps(seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        for _ in 0..<60 {
            let damaged = NoteFixture.damage(bytes(Self.example), &generator)
            guard let policy = try? TrustPolicy(parsing: damaged) else { continue }
            #expect((try? TrustPolicy(parsing: policy.encoded)) == policy, "seed \(seed)")
        }
    }
}
