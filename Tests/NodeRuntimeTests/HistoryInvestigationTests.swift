internal import Primitives
internal import Testing

@testable internal import NodeRuntime

@Suite("Investigations")
struct HistoryInvestigationTests {
    private func statement(_ name: String, _ parameters: [(name: String, value: String)]) throws -> String {
        let investigation = try #require(Investigation.all.first { $0.name == name })
        let call = Fixture.call(parameters)
        var values: [String: String] = [:]
        for parameter in investigation.parameters { values[parameter.name] = call.parameter(parameter.name) }
        let condition = try investigation.condition(values)
        let search = try RecordSearch(call, condition: condition, further: investigation.parameters.map(\.name))
        return RecordFilter.statement(search)
    }

    @Test func aSampleIsFoundByItsIdAndWhereOthersNameIt() throws {
        let statement = try self.statement("sample-history", [("entity_id", "S-1"), ("from", "1970-01-01T00:00:01Z")])
        #expect(statement.contains("entity_id = 'S-1' OR"))
        #expect(statement.contains("contains(lower(after), lower('\"S-1\"'))"))
        #expect(statement.contains("AND recorded_at >= make_timestamp(1000000)"))
    }

    @Test func quotesInAParameterStayInTheirLiteral() throws {
        let statement = try self.statement("user-actions", [("actor", "x' OR '1'='1")])
        #expect(statement.contains("WHERE actor_id = 'x'' OR ''1''=''1'"))
    }

    @Test(arguments: ["sample-history", "user-actions"])
    func aNeededParameterIsNamedWhenItIsAbsent(_ name: String) throws {
        #expect(throws: Problem.self) { try self.statement(name, []) }
    }

    @Test func anOptionalEntityNarrows() throws {
        let all = try self.statement("workflow-changes", [])
        let one = try self.statement("workflow-changes", [("entity_id", "W-1")])
        #expect(!all.contains("entity_id"))
        #expect(one.contains("AND entity_id = 'W-1'"))
    }

    @Test func refusesUnknownParameters() {
        #expect(throws: Problem.self) { try self.statement("protocol-approvals", [("colour", "red")]) }
    }

    @Test func complianceIsAMemberOrAText() throws {
        let member = try ComplianceFilter("/framework/name=ISO 17025")
        #expect(member.pointer == "/framework/name")
        #expect(member.text == "ISO 17025")
        #expect(try ComplianceFilter("iso").pointer == nil)
        for wrong in ["", "/framework"] { #expect(throws: Problem.self) { try ComplianceFilter(wrong) } }
    }
}
