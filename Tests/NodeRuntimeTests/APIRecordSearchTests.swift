internal import AuditLedger
internal import Primitives
internal import Testing

@testable internal import NodeRuntime

@Suite("Searches of records")
struct APIRecordSearchTests {
    private func search(_ parameters: [(name: String, value: String)]) throws -> RecordSearch {
        try RecordSearch(Fixture.call(parameters))
    }

    @Test func nothingAskedIsTheFirstPageOfAll() throws {
        let search = try self.search([])
        #expect(!search.hasFilter)
        #expect(search.limit == 100)
        #expect(!search.isDescending)
        #expect(search.isLatest)
        #expect(search.cursor == nil)
    }

    @Test func everyFilterBecomesACondition() throws {
        let search = try self.search([
            ("entity_type", "sample"), ("entity_id", "s-1"), ("actor", "ann"), ("action", "weigh"),
            ("severity", "warning"), ("reason", "spill"), ("from", "1970-01-01T00:00:01Z"),
            ("to", "1970-01-01T00:00:02Z"), ("cursor", "18446744073709551615"), ("limit", "7"), ("order", "desc"),
            ("consistency", "eventual"),
        ])
        #expect(!search.isLatest)
        #expect(
            RecordFilter.statement(search) == """
                SELECT CAST(sequence AS BIGINT) FROM audit_log
                WHERE entity_type = 'sample' AND entity_id = 's-1' AND actor_id = 'ann' AND action = 'weigh' \
                AND severity = 'warning' AND contains(lower(reason), lower('spill')) \
                AND recorded_at >= make_timestamp(1000000) AND recorded_at < make_timestamp(2000000) \
                AND sequence <= 18446744073709551615
                ORDER BY sequence DESC LIMIT 7
                """
        )
    }

    @Test func quotesInValuesStayInTheirLiterals() throws {
        let search = try self.search([
            ("actor", "o'brien' OR '1'='1"), ("reason", "''; DROP TABLE x --"), ("cursor", "5"),
        ])
        #expect(
            RecordFilter.statement(search) == """
                SELECT CAST(sequence AS BIGINT) FROM audit_log
                WHERE actor_id = 'o''brien'' OR ''1''=''1' \
                AND contains(lower(reason), lower('''''; DROP TABLE x --')) AND sequence >= 5
                ORDER BY sequence ASC LIMIT 100
                """
        )
    }

    @Test(arguments: [
        ("limit", "0"), ("limit", "1001"), ("limit", "-1"), ("limit", "ten"), ("cursor", "0"),
        ("cursor", "18446744073709551616"), ("order", "up"), ("consistency", "strong"), ("severity", "loud"),
        ("from", "yesterday"), ("to", "2026-13-01T00:00:00Z"), ("colour", "red"),
    ])
    func badParametersAreRefused(name: String, value: String) {
        let problem = #expect(throws: Problem.self) { try self.search([(name, value)]) }
        #expect(problem?.code == .invalidParameter)
        #expect(problem?.detail.contains(name) == true)
    }

    @Test func aRangeThatEndsBeforeItBeginsIsRefused() {
        #expect(throws: Problem.self) {
            try self.search([("from", "2026-01-02T00:00:00Z"), ("to", "2026-01-01T00:00:00Z")])
        }
    }

    private func page(_ sequences: [UInt64], of size: UInt64) -> RecordReader.Page {
        RecordReader.Page(
            records: sequences.map { StoredRecord(sequence: SequenceNumber($0), bytes: []) },
            size: size
        )
    }

    /// Pages are bounded by bytes too: the client of a short one must be told that there is more.
    @Test func aPageThatIsShortOfItsLimitHasACursorWhileThereIsMore() throws {
        let search = try self.search([("limit", "10")])
        #expect(search.cursor(after: self.page([1, 2, 3], of: 20)) == "4")
        #expect(search.cursor(after: self.page([19, 20], of: 20)) == nil)
        #expect(search.cursor(after: self.page([], of: 0)) == nil)
    }

    @Test func aDescendingPageEndsAtTheFirstRecord() throws {
        let search = try self.search([("limit", "3"), ("order", "desc")])
        #expect(search.cursor(after: self.page([9, 8, 7], of: 20)) == "6")
        #expect(search.cursor(after: self.page([3, 2, 1], of: 20)) == nil)
    }

    @Test func aFilteredPageThatIsShortOfItsLimitIsTheLast() throws {
        let search = try self.search([("limit", "3"), ("actor", "ann")])
        #expect(search.cursor(after: self.page([4, 9], of: 20)) == nil)
        #expect(search.cursor(after: self.page([4, 9, 12], of: 20)) == "13")
    }
}
