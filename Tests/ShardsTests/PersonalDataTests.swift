internal import AuditLedger
internal import Consensus
internal import Primitives
internal import Storage
internal import Synchronization
internal import Testing

@testable internal import Shards

@Suite("Personal data outside the ledger")
struct PersonalDataTests {
    private let lab = OrganizationID(1)
    private let other = OrganizationID(2)
    private let group = GroupID(1)
    private let origin = CommandOrigin(actor: "officer", kind: .apiKey, requestID: "r-9")

    private func key(_ byte: UInt8) throws -> SubjectKey { try SubjectKey(Array(repeating: byte, count: 32)) }

    private func name(_ key: SubjectKey) throws -> SubjectKeyName { try #require(SubjectKeyName(hex: key.fingerprint)) }

    /// An append of one record with a personal value of each of `subjects`.
    private func append(
        _ subjects: [String],
        to organization: OrganizationID? = nil,
        under key: SubjectKey,
        idempotency: String? = nil,
        value: String = "Ada Lovelace"
    ) throws -> Command {
        let organization = organization ?? self.lab
        let names = subjects.indices.map { #""n\#($0)":"\#(value)""# }.joined(separator: ",")
        let personal = subjects.enumerated().map { #"{"path":"/after/n\#($0)","subject":"\#($1)"}"# }
        let event =
            #"{"action":"create","entity_type":"person","entity_id":"p","after":{\#(names)},"#
            + #""personal":[\#(personal.joined(separator: ","))]}"#
        let context = EventContext(
            organization: try Fixture.key(organization),
            request: RequestInfo(id: "r-1"),
            defaultActor: Actor(kind: .apiKey, id: "t-1"),
            format: .second,
            saltSeed: Array(repeating: 7, count: 32)
        )
        let (draft, values) = try EventDraft.parseSealing(Array(event.utf8), defaults: context)
        let sealed = try values.map {
            SealedValue(
                draft: 0,
                path: $0.field.path,
                subject: $0.field.subject,
                key: try self.name(key),
                bytes: key.seal($0)
            )
        }
        return .append(
            AppendCommand(
                organization: organization,
                idempotency: idempotency.map { Idempotency(key: $0, request: Array(event.utf8)) },
                drafts: [draft],
                sealed: sealed
            )
        )
    }

    private func erase(_ subject: String, of organization: OrganizationID? = nil) throws -> Command {
        let organization = organization ?? self.lab
        return .eraseSubject(
            EraseSubjectCommand(
                organization: organization,
                organizationKey: try Fixture.key(organization),
                subject: subject,
                basis: "GDPR Art. 17",
                reason: "asked by letter"
            )
        )
    }

    private func hold(_ subject: String, _ isOn: Bool) throws -> Command {
        .holdSubject(
            HoldSubjectCommand(
                organization: self.lab,
                organizationKey: try Fixture.key(self.lab),
                subject: subject,
                isOn: isOn,
                reason: "case 12"
            )
        )
    }

    private func complete(_ subject: String) throws -> Command {
        .completeErasure(
            CompleteErasureCommand(
                organization: self.lab,
                organizationKey: try Fixture.key(self.lab),
                subject: SubjectEntry.digest(of: subject),
                nodes: [NodeID(1), NodeID(2)]
            )
        )
    }

    private func machine(faults: ApplierFaults = []) throws -> Machine {
        var machine = try Machine(faults: faults)
        try machine.join([1, 2, 3])
        #expect(try machine.apply([.setFeatureLevel(.three)]) == [.done])
        return machine
    }

    private func entry(_ subject: String, _ machine: Machine) throws -> SubjectEntry? {
        try machine.applier.subject(SubjectEntry.digest(of: subject), of: self.lab, in: self.group)
    }

    private func sealedCount(_ machine: Machine) throws -> Int {
        try contents(of: machine.store).count { $0.family == .sealedValues }
    }

    private func record(_ machine: Machine, _ sequence: UInt64) throws -> LedgerRecord {
        let bytes = try LedgerReader(store: machine.store, organization: self.lab).record(at: SequenceNumber(sequence))
        return try LedgerRecord(try #require(bytes))
    }

    @Test func commandsComeBackAsTheyWent() throws {
        let key = try self.key(1)
        for command in [
            try self.append(["a", "b"], under: key), try self.erase("a"), try self.hold("a", true),
            try self.complete("a"),
        ] {
            let bytes = command.encoded(origin: self.origin)
            #expect(Command.level(of: bytes[...]) == .three)
            let decoded = try Command.decode(bytes[...])
            #expect(decoded.command.encoded(origin: self.origin) == bytes)
            #expect(decoded.origin == self.origin)
            for count in stride(from: 0, to: bytes.count, by: 3) {
                #expect(throws: MalformedBytes.self) { try Command.decode(bytes[..<count]) }
            }
        }
    }

    @Test func anAppendWithoutPersonalValuesKeepsItsForm() throws {
        #expect(Command.level(of: try Fixture.append(1...1, to: self.lab).encoded()[...]) == .one)
    }

    @Test func aGroupBelowLevelThreeIsNeverOffered() throws {
        var machine = try Machine()
        try machine.join([1])
        let bytes = try self.append(["a"], under: try self.key(1)).encoded()
        #expect(!machine.applier.admits(bytes, to: self.group))
        #expect(throws: ShardError.self) { try machine.apply([try self.append(["a"], under: try self.key(1))]) }
    }

    @Test func sealedValuesOpenUntilTheirSubjectIsErased() throws {
        var machine = try self.machine()
        let key = try self.key(1)
        let results = try machine.apply([try self.append(["ada", "bob", "ada"], under: key)])
        #expect(results.first?.receipt?.firstSequence == SequenceNumber(1))
        let ada = SubjectEntry.digest(of: "ada")
        let rows = try machine.applier.sealedValues(of: ada, in: self.lab, at: SequenceNumber(1))
        #expect(rows.map(\.path) == ["/after/n0", "/after/n2"])
        let first = try PersonalCommitment.all(in: try self.record(machine, 1).bytes)
        #expect(first.map(\.field.path) == ["/after/n0", "/after/n1", "/after/n2"])
        let commitment = first[0].commitment
        let opened = try key.open(rows[0].bytes, commitment: commitment, organization: try Fixture.key(self.lab))
        #expect(opened.value == Array(#""Ada Lovelace""#.utf8))
        // The value stands nowhere else.
        let plain = Array("Lovelace".utf8)
        #expect(!(try contents(of: machine.store)).contains { $0.value.firstRange(of: plain) != nil })
        #expect(try self.entry("ada", machine)?.values == 2)
        #expect(try self.entry("ada", machine)?.keys == [try self.name(key)])

        let erased = try machine.apply([try self.erase("ada")], origin: self.origin)
        #expect(erased.first?.receipt?.firstSequence == SequenceNumber(2))
        #expect(try machine.applier.sealedValues(of: ada, in: self.lab, at: SequenceNumber(1)).isEmpty)
        #expect(try self.sealedCount(machine) == 1)
        let entry = try #require(try self.entry("ada", machine))
        #expect(entry.erasedAt == SequenceNumber(2) && entry.completedAt == nil)
        let request = try self.record(machine, 2)
        #expect(
            request.action == "erase_requested" && request.entityType == "data_subject" && request.entityID == "ada"
        )
        #expect(request.reason == "asked by letter" && request.actor.id == "officer")
        #expect(request.after["basis"] == .text("GDPR Art. 17"))
        #expect(request.after["keys"] == .array([.text(key.fingerprint)]))
        #expect(try machine.applier.pendingErasures(of: self.group, limit: 9).map(\.subject) == [ada])

        #expect(try machine.apply([try self.complete("ada")]).first?.receipt?.firstSequence == SequenceNumber(3))
        #expect(try self.record(machine, 3).action == "erase_completed")
        #expect(try machine.applier.pendingErasures(of: self.group, limit: 9).isEmpty)
        #expect(try machine.apply([try self.complete("ada")]) == [.done])
        #expect(try machine.verify(self.lab).isSound)
    }

    @Test func refusalsChangeNothing() throws {
        var machine = try self.machine()
        let key = try self.key(1)
        #expect(try machine.apply([try self.erase("ada")]) == [.refused(.subjectUnknown)])
        try machine.apply([try self.append(["ada"], under: key), try self.append(["bob"], under: key)])
        try machine.apply([try self.hold("ada", true), try self.erase("bob")])
        let before = try machine.shared()
        let refused: [(Command, Refusal)] = [
            (try self.erase("eve"), .subjectUnknown), (try self.erase("ada"), .legalHold),
            (try self.erase("bob"), .alreadyErased), (try self.hold("bob", true), .alreadyErased),
            (try self.hold("eve", true), .subjectUnknown),
            (try self.append(["ada", "bob"], under: key), .subjectErased),
            (try self.complete("ada"), .subjectUnknown), (try self.erase("ada", of: self.other), .subjectUnknown),
        ]
        for (command, refusal) in refused { #expect(try machine.apply([command]) == [.refused(refusal)]) }
        #expect(try machine.shared() == before)
        #expect(try machine.apply([try self.hold("ada", true)]) == [.done])
        #expect(try machine.shared() == before)
        #expect(try machine.apply([try self.hold("ada", false)]).first?.receipt != nil)
        #expect(try machine.apply([try self.erase("ada")]).first?.receipt != nil)
        #expect(try machine.verify(self.lab).isSound)
    }

    @Test func subjectsOfTwoOrganizationsAreTwo() throws {
        var machine = try self.machine()
        let key = try self.key(1)
        try machine.apply([try self.append(["ada"], under: key), try self.append(["ada"], to: self.other, under: key)])
        try machine.apply([try self.erase("ada")])
        let ada = SubjectEntry.digest(of: "ada")
        #expect(try machine.applier.sealedValues(of: ada, in: self.other, at: SequenceNumber(1)).count == 1)
        #expect(try machine.applier.subject(ada, of: self.other, in: self.group)?.erasedAt == nil)
    }

    @Test func aRepeatedKeyGetsItsReceiptAlsoAfterTheErasure() throws {
        var machine = try self.machine()
        let command = try self.append(["ada"], under: try self.key(1), idempotency: "k")
        let first = try #require(try machine.apply([command]).first?.receipt)
        let again = try #require(try machine.apply([command]).first?.receipt)
        #expect(again.isReplay && again.checksums == first.checksums)
        #expect(try self.entry("ada", machine)?.values == 1)
        try machine.apply([try self.erase("ada")])
        #expect(try machine.apply([command]).first?.receipt?.isReplay == true)
        #expect(try self.sealedCount(machine) == 0)
    }

    /// One batch for all, a batch for each, and one that is applied again after a restart give the same bytes.
    @Test func howEntriesAreCutChangesNothing() throws {
        let (one, two) = (try self.key(1), try self.key(2))
        let commands = [
            .setFeatureLevel(.three), try self.append(["ada", "bob"], under: one), try self.append(["ada"], under: two),
            try self.hold("bob", true), try self.erase("ada"), try self.append(["ada"], under: one),
            try self.erase("bob"), try self.append(["bob", "cleo"], under: two), try self.complete("ada"),
        ]
        func entries(_ range: Range<Int>) throws -> [CommittedEntry] {
            try range.map { place in
                var bytes = commands[place].encoded(origin: self.origin)
                try Command.stamp(&bytes, at: Timestamp(microseconds: Int64(place) * 10))
                return Fixture.entry(UInt64(place + 1), [bytes[...]])
            }
        }
        var expected: (rows: [Row], results: [[UInt8]])?
        for cut in 0...commands.count {
            let store = InMemoryStore()
            var machine = try Machine(store)
            var results: [[UInt8]] = []
            for part in [0..<cut, cut..<commands.count] where !part.isEmpty {
                machine = try Machine(store)
                let work = [GroupEntries(group: self.group, entries: try entries(part))]
                results += try machine.applier.apply(work).flatMap { $0 }
            }
            let rows = try machine.shared()
            if let expected {
                #expect(rows == expected.rows, "cut at \(cut)")
                #expect(results == expected.results, "cut at \(cut)")
            } else {
                expected = (rows, results)
            }
        }
        #expect(expected?.results.count == commands.count)
    }

    @Test func aNodeHearsOfNewKeysAndErasures() throws {
        let heard = Mutex<[(OrganizationID, Digest?)]>([])
        let store = InMemoryStore()
        let applier = try ShardApplier(
            store: store,
            lanes: [InlineLane()],
            events: ShardEvents(onSubject: { organization, subject in
                heard.withLock { $0.append((organization, subject)) }
            })
        )
        let key = try self.key(1)
        let commands: [Command] = [
            .setFeatureLevel(.three), try self.append(["ada"], under: key), try self.append(["ada"], under: key),
            try self.append(["ada"], under: try self.key(2)), try self.hold("ada", true), try self.hold("ada", false),
            try self.erase("ada"),
        ]
        for (place, command) in commands.enumerated() {
            let entry = Fixture.entry(UInt64(place + 1), [try Fixture.bytes(command, at: 1)])
            _ = try applier.apply([GroupEntries(group: self.group, entries: [entry])])
        }
        let ada = SubjectEntry.digest(of: "ada")
        #expect(heard.withLock { $0.map(\.1) } == [ada, ada, ada])
    }

    // MARK: Snapshots

    @Test func aSnapshotBringsSubjectsAndSealedValues() throws {
        var leader = try self.machine()
        let key = try self.key(1)
        for number in 0..<20 { try leader.apply([try self.append(["s\(number)", "common"], under: key)]) }
        try leader.apply([try self.hold("s1", true), try self.erase("s2")])
        var follower = try Machine()
        try follower.install(from: leader)
        #expect(try follower.shared() == (try leader.shared()))
        #expect(try self.sealedCount(follower) == 39)
        // Both go on alike.
        let rest = [
            try self.erase("s1"), try self.hold("s1", false), try self.erase("common"), try self.complete("s2"),
        ]
        #expect(try leader.apply(rest) == (try follower.apply(rest)))
        #expect(try follower.shared() == (try leader.shared()))
    }

    @Test func aSnapshotTakesAwayWhatWasErasedMeanwhile() throws {
        var leader = try self.machine()
        let key = try self.key(1)
        try leader.apply([try self.append(["ada"], under: key), try self.append(["bob"], under: key)])
        var follower = try Machine()
        try follower.install(from: leader)
        try leader.apply([try self.erase("ada"), try self.append(["cleo"], under: key)])
        try follower.install(from: leader)
        #expect(try follower.shared() == (try leader.shared()))
        #expect(try self.sealedCount(follower) == 2)
    }

    @Test func whatAnInterruptedSnapshotStagedIsErasedToo() throws {
        var leader = try self.machine()
        let key = try self.key(1)
        for number in 0..<5 { try leader.apply([try self.append(["s\(number)"], under: key)]) }
        var follower = try Machine()
        let first = try follower.applier.snapshotInstaller(of: self.group)
        // Everything but the end: all is staged, nothing is switched.
        for chunk in try leader.chunks(for: first.request).dropLast() { try first.accept(chunk) }
        #expect(try self.sealedCount(follower) == 5)
        try leader.apply([try self.erase("s3")])
        try follower.install(from: leader)
        #expect(try follower.shared() == (try leader.shared()))
        #expect(try self.sealedCount(follower) == 4)
    }

    @Test func anErasureWhileASnapshotIsReadIsNoLoss() throws {
        var leader = try self.machine()
        let key = try self.key(1)
        for number in 0..<5 { try leader.apply([try self.append(["s\(number)"], under: key)]) }
        var follower = try Machine()
        let installer = try follower.applier.snapshotInstaller(of: self.group)
        let source = try leader.applier.snapshotSource(of: self.group, for: installer.request)
        try leader.apply([try self.erase("s3")])
        var cursor: SnapshotCursor? = .start
        while let at = cursor {
            let (bytes, next) = try source.chunk(at: at)
            try installer.accept(bytes)
            cursor = next
        }
        let mark = try installer.seal()
        try installer.switchState()
        follower.next = mark.index.next
        #expect(try self.sealedCount(follower) == 4)
        try follower.apply([try self.erase("s3")])
        #expect(try follower.shared() == (try leader.shared()))
    }

    @Test func aReplicaThatLeavesKeepsNothing() throws {
        var machine = try self.machine()
        try machine.apply([try self.append(["ada"], under: try self.key(1))])
        try machine.applier.discard(self.group)
        #expect(try self.sealedCount(machine) == 0)
        #expect(try contents(of: machine.store).isEmpty)
    }
}
