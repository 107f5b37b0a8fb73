import AuditLedger
import Primitives
import Testing

import struct Crypto.SHA256

/// What a policy says of checkpoints and receipts.
struct CheckpointVerifierTests {
    static func verifier(
        _ policy: TrustPolicy = NoteFixture.policy(),
        validity: [KeyValidity] = []
    ) throws
        -> CheckpointVerifier
    {
        try CheckpointVerifier(origin: NoteFixture.origin, policy: policy, validity: validity)
    }

    static func kinds(_ verdict: CheckpointVerdict) -> [CheckpointFinding.Kind] { verdict.findings.map(\.kind) }

    @Test func trustsLogQuorumAndWitness() throws {
        let signed = try NoteFixture.signed(size: 777)
        let verdict = try Self.verifier().verify(signed.encoded, nowSeconds: NoteFixture.time)
        #expect(verdict.isTrusted)
        #expect(verdict.findings.isEmpty)
        #expect(verdict.checkpoint == signed)
        #expect(verdict.logKeys == [NoteFixture.log.verifierKey])
        #expect(verdict.cosigners.map(\.timeSeconds) == Array(repeating: NoteFixture.time, count: 3))
        #expect(verdict.groups.map(\.isMet) == [true, true, true])
    }

    @Test func namesWhatIsMissing() throws {
        let verifier = try Self.verifier()
        let oneReplica = verifier.verify(try NoteFixture.signed(size: 777, replicas: 1))
        #expect(Self.kinds(oneReplica) == [.quorumNotMet])
        #expect(oneReplica.findings[0].detail.contains("replicas 1 of 2"))
        #expect(!oneReplica.isTrusted)
        #expect(Self.kinds(verifier.verify(try NoteFixture.signed(size: 777, witnesses: 0))) == [.quorumNotMet])
        var unsigned = try SignedCheckpoint(try NoteFixture.checkpoint(size: 777))
        for key in NoteFixture.replicas + NoteFixture.witnesses { try unsigned.cosign(key, timeSeconds: 1) }
        #expect(Self.kinds(verifier.verify(unsigned)) == [.noLogSignature])
        #expect(!verifier.verify(unsigned).isTrusted)
        let garbage = verifier.verify(bytes("no note\n"))
        #expect(Self.kinds(garbage) == [.malformed])
        #expect(!garbage.isTrusted && garbage.checkpoint == nil)
    }

    /// Without a policy's quorum, a checkpoint without signatures is not trusted either.
    @Test func strippedSignaturesAreNotTrusted() throws {
        let verifier = try Self.verifier(TrustPolicy(logs: [], witnesses: [], groups: [], quorum: nil))
        let verdict = verifier.verify(try NoteFixture.signed(size: 777))
        #expect(Self.kinds(verdict) == [.noLogSignature])
        #expect(!verdict.isTrusted)
    }

    @Test func strangersAreIgnored() throws {
        var signed = try NoteFixture.signed(size: 777)
        try signed.cosign(NoteFixture.stranger, timeSeconds: 1)
        let verdict = try Self.verifier().verify(signed)
        #expect(verdict.isTrusted && verdict.unknownSignatureCount == 1)
        // Any number of strangers makes no quorum.
        var lonely = try SignedCheckpoint(try NoteFixture.checkpoint(size: 777))
        try lonely.sign(NoteFixture.log)
        for seed in UInt8(100)..<130 {
            try lonely.cosign(NoteFixture.key("cluster-a/node-1", .cosignature, seed: seed), timeSeconds: 1)
        }
        #expect(Self.kinds(try Self.verifier().verify(lonely)) == [.quorumNotMet])
    }

    @Test func refusesAnotherLogsCheckpoint() throws {
        let other = try LogOrigin("cluster-a/lab-b")
        var signed = try SignedCheckpoint(try NoteFixture.checkpoint(size: 777, origin: other))
        try signed.sign(NoteFixture.log)
        for key in NoteFixture.replicas + NoteFixture.witnesses { try signed.cosign(key, timeSeconds: 1) }
        let verdict = try Self.verifier().verify(signed)
        #expect(Self.kinds(verdict) == [.wrongOrigin])
        #expect(!verdict.isTrusted)
        // A log of the policy, but not the one that is expected.
        let otherLog = NoteFixture.key("cluster-a/lab-b", .ed25519, seed: 2)
        let policy = try TrustPolicy.cluster(
            logs: [NoteFixture.log.verifierKey, otherLog.verifierKey],
            replicas: NoteFixture.replicas.map(\.verifierKey),
            replicasNeeded: 2
        )
        var signedByOther = try SignedCheckpoint(try NoteFixture.checkpoint(size: 777))
        try signedByOther.sign(otherLog)
        for key in NoteFixture.replicas { try signedByOther.cosign(key, timeSeconds: 1) }
        #expect(Self.kinds(try Self.verifier(policy).verify(signedByOther)) == [.noLogSignature])
    }

    @Test func oneForgedSignatureSpoilsTheNote() throws {
        let signed = try NoteFixture.signed(size: 777, replicas: 3)
        for place in signed.note.signatures.indices {
            var lines = signed.note.signatures
            var forged = lines[place].signature
            forged[20] ^= 1
            lines[place] = NoteSignature(name: lines[place].name, id: lines[place].id, signature: forged)
            let note = try SignedNote(text: signed.note.text, signatures: lines)
            let verdict = try Self.verifier().verify(note.encoded)
            #expect(Self.kinds(verdict).contains(.badSignature))
            #expect(!verdict.isTrusted, "signature \(place)")
        }
        let twice = try SignedNote(
            text: signed.note.text,
            signatures: signed.note.signatures + [signed.note.signatures[1]]
        )
        let verdict = try Self.verifier().verify(twice.encoded)
        #expect(Self.kinds(verdict) == [.repeatedSigner])
        #expect(!verdict.isTrusted)
    }

    @Test func noChangedByteIsTrusted() throws {
        let good = try NoteFixture.signed(size: 777).encoded
        let verifier = try Self.verifier()
        #expect(verifier.verify(good).isTrusted)
        for place in good.indices {
            var forged = good
            forged[place] ^= 1 << (place % 7)
            #expect(!verifier.verify(forged).isTrusted, "byte \(place)")
        }
    }

    @Test func keysCountWithinTheirValidity() throws {
        let replica = NoteFixture.replicas[0].verifierKey
        let signed = try NoteFixture.signed(size: 777)
        func verdict(_ windows: KeyValidity...) throws -> CheckpointVerdict {
            try Self.verifier(validity: windows).verify(signed)
        }
        #expect(try verdict(KeyValidity(key: replica, sizes: 777...777)).isTrusted)
        #expect(try verdict(KeyValidity(key: replica, sizes: 0...776)).isTrusted == false)
        #expect(try Self.kinds(verdict(KeyValidity(key: replica, sizes: 778...900))) == [.keyNotValid, .quorumNotMet])
        let time = NoteFixture.time
        #expect(try verdict(KeyValidity(key: replica, timesSeconds: time...time)).isTrusted)
        #expect(try Self.kinds(verdict(KeyValidity(key: replica, timesSeconds: 0...(time - 1)))).first == .keyNotValid)
        #expect(try Self.kinds(verdict(KeyValidity(key: replica, timesSeconds: (time + 1)...(time + 2)))).count == 2)
        // Two windows: either will do.
        #expect(
            try verdict(KeyValidity(key: replica, sizes: 0...5), KeyValidity(key: replica, sizes: 700...800)).isTrusted
        )
        // A log key is bound by size only; its signature has no time.
        let log = NoteFixture.log.verifierKey
        #expect(try verdict(KeyValidity(key: log, timesSeconds: 0...1)).isTrusted)
        #expect(
            try Self.kinds(verdict(KeyValidity(key: log, sizes: 0...776))) == [.keyNotValid, .noLogSignature]
        )
        // A key that does not count spoils nothing when the others suffice.
        let many = try Self.verifier(validity: [KeyValidity(key: replica, sizes: 0...5)])
            .verify(try NoteFixture.signed(size: 777, replicas: 3))
        #expect(many.isTrusted && Self.kinds(many) == [.keyNotValid])
    }

    @Test func doesNotCountTheFuture() throws {
        let signed = try NoteFixture.signed(size: 777)
        let early = try Self.verifier().verify(signed, nowSeconds: NoteFixture.time - 1)
        #expect(Self.kinds(early) == [.fromTheFuture, .fromTheFuture, .fromTheFuture, .quorumNotMet])
        #expect(!early.isTrusted)
    }

    @Test func receiptsNeedBothHalves() throws {
        let inclusion = try InclusionProof.build(index: 700, size: 777, from: NoteFixture.nodes)
        let verifier = try Self.verifier()
        let good = try TransparencyProof(inclusion: inclusion, checkpoint: NoteFixture.signed(size: 777))
        #expect(verifier.verify(good, checksum: LargeTree.leaf(700)).isTrusted)
        let wrong = verifier.verify(good, checksum: LargeTree.leaf(701))
        #expect(wrong.inclusionError?.code == .rootMismatch && wrong.checkpoint.isTrusted && !wrong.isTrusted)
        // A sound path to a root that nobody signed.
        let unsigned = try TransparencyProof(
            inclusion: inclusion,
            checkpoint: NoteFixture.signed(size: 777, replicas: 0, witnesses: 0)
        )
        let verdict = verifier.verify(unsigned, checksum: LargeTree.leaf(700))
        #expect(verdict.inclusionError == nil && !verdict.isTrusted)
    }

    /// Two public keys that have one name and, by a search of 2^16 tries, one id: the SHA-256 of «pub N».
    static let twins = [44114, 84179].map { number in
        Array(SHA256.hash(data: bytes("pub \(number)")))
    }

    @Test func refusesAmbiguousKeys() throws {
        let name = try NoteKeyName("cluster-a/node-1")
        let twins = try Self.twins.map { try NoteVerifierKey(name: name, type: .cosignature, publicKey: $0) }
        #expect(twins[0].id == twins[1].id && twins[0] != twins[1])
        let witnesses = try zip(["A", "B"], twins).map {
            TrustPolicy.Witness(name: try PolicyName($0), key: $1)
        }
        let policy = try TrustPolicy(logs: [], witnesses: witnesses, groups: [], quorum: witnesses[0].name)
        #expect(noteCode { _ = try CheckpointVerifier(origin: NoteFixture.origin, policy: policy) } == .ambiguousKey)
        let note = try NoteFixture.signed(size: 5).note
        #expect(noteCode { _ = try note.verify(keys: twins) } == .ambiguousKey)
    }

    /// One key may sign as the log and as a replica: the types give it two ids.
    @Test func oneKeyMaySpeakInTwoRoles() throws {
        let seed = [UInt8](repeating: 3, count: 32)
        let name = try NoteFixture.origin.keyName
        let log = try NoteSignerKey(name: name, type: .ed25519, seed: seed)
        let replica = try NoteSignerKey(name: name, type: .cosignature, seed: seed)
        let policy = try TrustPolicy.cluster(
            logs: [log.verifierKey],
            replicas: [replica.verifierKey],
            replicasNeeded: 1
        )
        let verifier = try CheckpointVerifier(origin: NoteFixture.origin, policy: policy)
        var signed = try SignedCheckpoint(try NoteFixture.checkpoint(size: 777))
        try signed.sign(log)
        #expect(!verifier.verify(signed).isTrusted)
        try signed.cosign(replica, timeSeconds: 1)
        #expect(verifier.verify(signed).isTrusted)
    }
}
