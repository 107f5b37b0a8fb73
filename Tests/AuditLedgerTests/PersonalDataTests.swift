import AuditLedger
import Primitives
import Storage
import Testing

@Suite struct PersonalDataTests {
    private let seed = [UInt8](repeating: 7, count: 32)

    private func context(seed: [UInt8]?, format: RecordFormat = .second) -> EventContext {
        EventContext(
            organization: LedgerFixture.key,
            request: RequestInfo(id: "r-1"),
            defaultActor: Actor(id: "jane"),
            format: format,
            saltSeed: seed
        )
    }

    private func parse(
        _ members: String,
        seed: [UInt8]?
    ) throws -> (record: LedgerRecord, values: [PersonalValue]) {
        let event = #"{"action":"update","entity_type":"sample","entity_id":"S-1",\#(members)}"#
        let (draft, values) = try EventDraft.parseSealing(Array(event.utf8), defaults: self.context(seed: seed))
        var batch = WriteBatch()
        var appender = LedgerAppender(head: LedgerHead(empty: LedgerFixture.organization))
        _ = appender.append(draft, stampedAt: Timestamp(microseconds: 5), into: &batch)
        appender.finish(into: &batch)
        let store = InMemoryStore()
        try store.write(batch)
        let bytes = try LedgerReader(store: store, organization: LedgerFixture.organization)
            .record(at: SequenceNumber(1))
        return (try LedgerRecord(try #require(bytes)), values)
    }

    private static let donor = #"""
        "before":{"donor":{"name":"Ann Lee","age":41}},"after":{"donor":{"name":"Ann Lee","age":42}},
        "personal":[{"path":"/before/donor/name","subject":"d-1"},{"path":"/after/donor/name","subject":"d-1"},
                    {"path":"/after/donor/age","subject":"d-1"}]
        """#

    @Test func aRecordHoldsCommitmentsAndNeverTheValue() throws {
        let (record, values) = try self.parse(Self.donor, seed: self.seed)
        let text = String(decoding: record.bytes, as: UTF8.self)
        #expect(!text.contains("Ann"))
        #expect(!text.contains(":42"))
        #expect(text.contains("\"age\":41"))
        #expect(CanonicalJSON.isCanonical(record.bytes))
        #expect(values.map(\.field.path) == ["/before/donor/name", "/after/donor/name", "/after/donor/age"])
        for value in values {
            #expect(
                PersonalCommitment.commit(LedgerFixture.key, salt: value.salt, value: value.value) == value.commitment
            )
        }
        #expect(record.after["donor"]?["name"].flatMap(PersonalCommitment.read) == values[1].commitment)
    }

    @Test func equalValuesOfOneEventDoNotLookChanged() throws {
        let (record, values) = try self.parse(Self.donor, seed: self.seed)
        #expect(values[0].commitment == values[1].commitment)
        #expect(record.changed == ["/donor/age/$commitment"] || record.changed == ["/donor/age"])
    }

    @Test func anotherSeedGivesOtherCommitments() throws {
        let one = try self.parse(Self.donor, seed: self.seed)
        let two = try self.parse(Self.donor, seed: [UInt8](repeating: 8, count: 32))
        #expect(Set(one.values.map(\.commitment)).isDisjoint(with: two.values.map(\.commitment)))
    }

    @Test func aSealedValueOpensWithItsKeyOnly() throws {
        let values = try self.parse(Self.donor, seed: self.seed).values
        let key = try SubjectKey([UInt8](repeating: 1, count: 32))
        let other = try SubjectKey([UInt8](repeating: 2, count: 32))
        for value in values {
            let sealed = key.seal(value)
            let opened = try key.open(sealed, commitment: value.commitment, organization: LedgerFixture.key)
            #expect(opened.value == value.value)
            #expect(opened.salt == value.salt)
            #expect(throws: SubjectKey.Failure(code: .notAuthentic)) {
                try other.open(sealed, commitment: value.commitment, organization: LedgerFixture.key)
            }
            #expect(throws: SubjectKey.Failure(code: .notAuthentic)) {
                try key.open(
                    sealed,
                    commitment: values[2].commitment == value.commitment ? values[0].commitment : values[2].commitment,
                    organization: LedgerFixture.key
                )
            }
            #expect(throws: SubjectKey.Failure(code: .otherCommitment)) {
                try key.open(sealed, commitment: value.commitment, organization: OrganizationKey("lab-b")!)
            }
            for place in sealed.indices {
                var bad = sealed
                bad[place] ^= 1
                #expect(throws: SubjectKey.Failure(code: .notAuthentic)) {
                    try key.open(bad, commitment: value.commitment, organization: LedgerFixture.key)
                }
            }
        }
        #expect(key.fingerprint != other.fingerprint)
        #expect(throws: SubjectKey.Failure(code: .malformedKey)) { try SubjectKey([1]) }
    }

    @Test(arguments: [
        #""after":{"a":1},"personal":[]"#,
        #""after":{"a":1},"personal":{}"#,
        #""after":{"a":1},"personal":["/after/a"]"#,
        #""after":{"a":1},"personal":[{"path":"/after/b","subject":"d"}]"#,
        #""after":{"a":1},"personal":[{"path":"/after","subject":"d"}]"#,
        #""after":{"a":1},"personal":[{"path":"/reason","subject":"d"}]"#,
        #""after":{"a":1},"personal":[{"path":"after/a","subject":"d"}]"#,
        #""after":{"a":1},"personal":[{"path":"/after/a","subject":""}]"#,
        #""after":{"a":1},"personal":[{"path":"/after/a","subject":"d","more":1}]"#,
        #""after":{"a":1},"personal":[{"path":"/after/a","subject":"d"},{"path":"/after/a","subject":"e"}]"#,
        #""after":{"a":{"b":1}},"personal":[{"path":"/after/a/b","subject":"d"},{"path":"/after/a","subject":"d"}]"#,
    ])
    func refusesWhatDoesNotNameAPersonalMember(_ members: String) {
        #expect(throws: EventError.self) { try self.parse(members, seed: self.seed) }
    }

    @Test func refusesPersonalMembersWhereNothingCanBeSealed() {
        #expect(throws: EventError.self) { try self.parse(Self.donor, seed: nil) }
    }

    @Test func aClientCannotPassAnOwnCommitmentOffAsAPersonalValue() {
        let own = #""after":{"a":{"$commitment":"\#(String(repeating: "0", count: 64))"}},"#
        #expect(throws: EventError.self) {
            try self.parse(own + #""personal":[{"path":"/after/a","subject":"d"}]"#, seed: self.seed)
        }
    }
}
