import AuditLedger
import Primitives
import Storage
import Testing

@Suite struct RecordFormatTests {
    private func context(_ format: RecordFormat) -> EventContext {
        EventContext(
            organization: LedgerFixture.context.organization,
            request: RequestInfo(id: "r-1"),
            defaultActor: Actor(id: "jane"),
            format: format
        )
    }

    private func record(_ event: String, format: RecordFormat = .second) throws -> LedgerRecord {
        let draft = try EventDraft.parse(Array(event.utf8), defaults: self.context(format))
        var batch = WriteBatch()
        var appender = LedgerAppender(head: LedgerHead(empty: OrganizationID(7)))
        _ = appender.append(draft, stampedAt: Timestamp(microseconds: 5), into: &batch)
        appender.finish(into: &batch)
        let store = InMemoryStore()
        try store.write(batch)
        let reader = LedgerReader(store: store, organization: OrganizationID(7))
        return try LedgerRecord(try #require(try reader.record(at: SequenceNumber(1))))
    }

    private static let base = #""action":"update","entity_type":"sample","entity_id":"S-1""#

    @Test func keepsWhatConnectsRecords() throws {
        let record = try self.record(
            "{\(Self.base),\"causation\":\"c-1\",\"correlation\":\"run \\u00e9\",\"session\":\"s-1\"}"
        )
        #expect(record.causation == "c-1")
        #expect(record.correlation == "run é")
        #expect(record.session == "s-1")
        #expect(record.changed == nil)
        #expect(CanonicalJSON.isCanonical(record.bytes))
    }

    @Test func namesEveryPlaceThatChanged() throws {
        let record = try self.record(
            """
            {\(Self.base),"before":{"a":1,"b":{"c":1,"d":2},"gone":0,"x/y":[1]},
             "after":{"a":1,"b":{"c":9,"d":2,"e":3},"new":1,"x/y":[2]}}
            """
        )
        #expect(record.changed == ["/b/c", "/b/e", "/gone", "/new", "/x~1y"])
    }

    @Test func saysNothingOfChangesWhenOneSideIsNoObjectOrNothingDiffers() throws {
        for sides in [
            #""before":null,"after":{"a":1}"#, #""before":{"a":1},"after":[1]"#, #""before":{"a":1},"after":{"a":1}"#,
        ] {
            #expect(try self.record("{\(Self.base),\(sides)}").changed == nil, "\(sides)")
        }
    }

    @Test func namesTheFirstLevelWhenTooMuchDiffersAndNothingWhenEvenThatIsTooMuch() throws {
        let many = (0...EventLimits.changedMax).map { "\"k\($0)\":\($0)" }.joined(separator: ",")
        let nested = try self.record("{\(Self.base),\"before\":{\"a\":{}},\"after\":{\"a\":{\(many)}}}")
        #expect(nested.changed == ["/a"])
        let flat = try self.record("{\(Self.base),\"before\":{},\"after\":{\(many)}}")
        #expect(flat.changed == nil)
    }

    @Test func aClusterThatIsNotUpgradedRefusesTheNewMembers() {
        for member in ["causation", "correlation", "session"] {
            #expect(throws: EventError.self, "\(member)") {
                try self.record("{\(Self.base),\"\(member)\":\"x\"}", format: .first)
            }
        }
        #expect(throws: Never.self) {
            let record = try self.record("{\(Self.base),\"before\":{\"a\":1},\"after\":{\"a\":2}}", format: .first)
            #expect(record.changed == nil)
        }
    }

    @Test func clientsCannotSayWhatChanged() {
        #expect(throws: EventError.self) { try self.record("{\(Self.base),\"changed\":[\"/a\"]}") }
    }

    @Test(arguments: [#""correlation":"""#, #""correlation":7"#, #""session":{}"#])
    func refusesAnEmptyOrWrongLink(_ member: String) {
        #expect(throws: EventError.self) { try self.record("{\(Self.base),\(member)}") }
    }

    @Test func refusesALinkThatIsTooLong() {
        let text = String(repeating: "x", count: EventLimits.linkBytesMax + 1)
        #expect(throws: EventError.self) { try self.record("{\(Self.base),\"session\":\"\(text)\"}") }
    }

    @Test func theVocabularyHasEachWordOnceAndTheSixteenOfTheProduct() {
        let names = ActionVocabulary.all.map(\.name)
        #expect(Set(names).count == names.count)
        let product = [
            "create", "update", "delete", "archive", "restore", "approve", "reject", "finalize", "execute", "complete",
            "upload", "attach", "detach", "login", "logout", "escalate",
        ]
        #expect(product.allSatisfy { ActionVocabulary.term($0) != nil })
        #expect(ActionVocabulary.term("acme:calibrate") == nil)
    }
}
