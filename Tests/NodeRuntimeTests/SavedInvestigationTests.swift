internal import AuditLedger
internal import Primitives
internal import Testing

@testable internal import NodeRuntime

@Suite("Investigations that organizations keep")
struct SavedInvestigationTests {
    private func read(_ text: String) throws -> SavedInvestigation {
        try SavedInvestigation(JSONPlace(try JSONParser.parse(Array(text.utf8))))
    }

    private func state(_ events: [String]) throws -> EntityState? {
        var state: EntityState?
        for record in try Fixture.records(events, organization: OrganizationID(1)) {
            state = EntityFold.apply(try EntityChange(record.bytes), to: state)
        }
        return state
    }

    @Test func whatIsKeptIsReadBackFromTheLedger() throws {
        let made = try self.read(
            #"{"name":"deletions","title":"What went","filters":{"outcome":"success","action":"delete"}}"#
        )
        #expect(made.filters.map(\.name) == ["action", "outcome"])
        let after = String(decoding: CanonicalJSON.encode(made.value), as: UTF8.self)
        let event = #"{"action":"create","entity_type":"investigation","entity_id":"deletions","after":\#(after)}"#
        let state = try #require(try self.state([event]))
        #expect(SavedInvestigation(state) == made)
    }

    @Test func aChangeLeavesNoFilterOfTheOldOneBehind() throws {
        let old = #"{"filters":{"action":"delete","actor":"jane"},"title":""}"#
        let new = #"{"filters":{"action":"archive"},"title":"t"}"#
        let head = #""entity_type":"investigation","entity_id":"mine""#
        let state = try self.state([
            #"{"action":"create",\#(head),"after":\#(old)}"#,
            #"{"action":"update",\#(head),"before":\#(old),"after":\#(new)}"#,
        ])
        let saved = try #require(state.flatMap { SavedInvestigation($0) })
        #expect(saved.filters.map(\.name) == ["action"] && saved.filters[0].value == "archive")
        let gone = try self.state([
            #"{"action":"create",\#(head),"after":\#(old)}"#, #"{"action":"delete",\#(head),"before":\#(old)}"#,
        ])
        #expect(try #require(gone).status == .deleted && gone.flatMap { SavedInvestigation($0) } == nil)
    }

    @Test(arguments: [
        #"{"name":"user-actions","filters":{"action":"a"}}"#, #"{"name":"Big","filters":{"action":"a"}}"#,
        #"{"name":"","filters":{"action":"a"}}"#, #"{"name":"x","filters":{}}"#, #"{"name":"x"}"#,
        #"{"name":"x","filters":{"limit":"5"}}"#, #"{"name":"x","filters":{"action":5}}"#,
    ])
    func refusesWhatCouldNotBeKeptOrFound(text: String) {
        #expect(throws: (any Error).self) { try self.read(text) }
    }

    @Test func recordsThatAreNoFiltersAreNotShown() throws {
        for after in [#"{"filters":{"limit":"5"},"title":""}"#, #"{"title":""}"#, "7"] {
            let event = #"{"action":"create","entity_type":"investigation","entity_id":"x","after":\#(after)}"#
            #expect(try self.state([event]).flatMap { SavedInvestigation($0) } == nil)
        }
    }

    @Test func itsFiltersJoinThoseOfTheRequestAndCannotBeReplaced() throws {
        let saved = try self.read(#"{"name":"x","filters":{"action":"delete"}}"#)
        let search = try RecordSearch(try saved.applied(to: Fixture.call([("actor", "jane"), ("limit", "5")])))
        #expect(search.equal.map(\.column).sorted() == ["action", "actor_id"] && search.limit == 5)
        #expect(throws: Problem.self) { try saved.applied(to: Fixture.call([("action", "create")])) }
    }

    @Test func aFilterWithAWordThatIsNoneCannotBeRun() throws {
        let saved = try self.read(#"{"name":"x","filters":{"severity":"loud"}}"#)
        #expect(throws: Problem.self) { try RecordSearch(try saved.applied(to: Fixture.call())) }
    }
}
