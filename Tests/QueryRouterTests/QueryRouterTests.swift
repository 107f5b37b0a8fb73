import Columnar
import Foundation
import Primitives
import Testing

@testable import QueryRouter

@Suite(.serialized, .timeLimit(.minutes(10)))
struct QueryRouterTests {
    private static let seed: UInt64 = 7
    private static let counts =
        "select organization, count(*) n from audit_log group by organization order by organization"

    @Test("sends the statement unchanged to the one organization that it reads")
    func pushesDownToOne() async throws {
        try await TestShards.with(counts: [30, 20, 10], seed: Self.seed) { shards in
            try await shards.withRouter { router in
                let one = QueryRequest(sql: Self.counts, organizations: [shards.keys[1]])
                let (_, outcome) = try await router.rows(one, sorted: false)
                #expect(outcome.plan == .single)
                #expect(shards.recordedCalls.map(\.sql) == [Self.counts])
                #expect(outcome.provenance.map(\.sequence.rawValue) == [20])
                shards.forgetCalls()
                let sql = "select action, count(*) from audit_log where 'org-3' = organization group by 1"
                let (rows, pruned) = try await router.rows(
                    QueryRequest(sql: sql, organizations: shards.keys),
                    sorted: true
                )
                #expect(pruned.plan == .single)
                #expect(pruned.provenance.map(\.organization) == [shards.keys[2]])
                let expected = try await shards.expected(sql, sorted: true)
                #expect(rows == expected)
                #expect(shards.recordedCalls.map(\.sql) == [sql])
            }
        }
    }

    @Test("never reads an organization outside of the request")
    func staysInScope() async throws {
        try await TestShards.with(counts: [30, 20, 10], seed: Self.seed) { shards in
            try await shards.withRouter { router in
                let scope = Array(shards.keys.prefix(2))
                for sql in [
                    "select count(*) from audit_log where organization = 'org-3'", "select count(*) from audit_log",
                ] {
                    let (_, outcome) = try await router.rows(
                        QueryRequest(sql: sql, organizations: scope),
                        sorted: false
                    )
                    #expect(outcome.provenance.allSatisfy { scope.contains($0.organization) })
                }
                #expect(shards.recordedCalls.allSatisfy { scope.contains($0.organization) })
                #expect(!shards.recordedCalls.isEmpty)
            }
        }
    }

    @Test("gathers only the columns and rows that the statement needs, and says what it reflects")
    func gathersLittle() async throws {
        try await TestShards.with(counts: [30, 20], seed: Self.seed) { shards in
            try await shards.withRouter { router in
                let sql =
                    "select action, count(*) from audit_log a where a.severity = 'info' and random() >= 0 group by 1"
                let request = QueryRequest(
                    sql: sql,
                    organizations: shards.keys + shards.keys,
                    consistency: .atLeast([shards.keys[0]: SequenceNumber(30)])
                )
                let (_, outcome) = try await router.rows(request, sorted: false)
                #expect(outcome.plan == .gather)
                #expect(outcome.statistics.organizations == 2)
                #expect(outcome.statistics.shards == 2)
                #expect(outcome.statistics.gatheredRows < 50)
                #expect(outcome.provenance.map(\.organization) == shards.keys)
                #expect(outcome.provenance.map(\.sequence.rawValue) == [30, 20])
                let calls = shards.recordedCalls.sorted { $0.organization < $1.organization }
                #expect(calls.map(\.requirement) == [.atLeast(SequenceNumber(30)), .eventual])
                let asked = try #require(calls.first?.sql)
                #expect(asked.contains("severity") && asked.contains("'info'"))
                #expect(!asked.contains("after") && !asked.contains("random"))
            }
        }
    }

    @Test("binds parameters by position, on one shard and in the final step", arguments: [1, 2])
    func bindsParameters(organizations: Int) async throws {
        try await TestShards.with(counts: [30, 20], seed: Self.seed) { shards in
            try await shards.withRouter { router in
                let keys = Array(shards.keys.prefix(organizations))
                let sql = "select count(*), ? as text, $2::double as x from audit_log where sequence <= $3"
                let mixed = QueryRequest(sql: sql, parameters: [.string("a")], organizations: keys)
                #expect(await router.failure(mixed) != nil)
                let numbered = "select count(*), $1 as text, $2::double as x from audit_log where sequence <= $3"
                let values: [ArrowValue] = [.string("it's"), .double(2.5), .int(7)]
                let request = QueryRequest(sql: numbered, parameters: values, organizations: keys)
                let rows = try await router.rows(request, sorted: false).rows.rows
                #expect(rows == [[.int(Int64(7 * organizations)), .string("it's"), .double(2.5)]])
                let few = QueryRequest(sql: numbered, parameters: [.null], organizations: keys)
                #expect(await router.failure(few)?.code == .invalid)
                let prepared = try await router.prepare(sql: numbered, organizations: keys)
                #expect(prepared.schema.fields.map(\.name) == ["count_star()", "text", "x"])
                #expect(prepared.parameterTypes.count == 3)
                #expect(prepared.schema.fields.map(\.type) == [.int64, .utf8, .float64])
                #expect(prepared.parameterTypes[2] == .uint64)
            }
        }
    }

    @Test("gives every statement columns before there are values")
    func preparesStatementsWhoseTypesAreOpen() async throws {
        let text = ArrowType.utf8
        let expected: [(String, parameters: [ArrowType], columns: [ArrowType])] = [
            ("select ? + 1 as n", [.float64], [.float64]), ("select ? as t", [text], [text]),
            ("select ? % 2 = 0 as even, upper(?) as t", [.float64, text], [.bool, text]),
            ("select ? << 2 as n", [.int64], [.int64]),
            ("select ?::int as n, ? || ? as t", [.int32, text, text], [.int32, text]),
            (
                "select ? + interval '1 day' as t", [.timestamp(.microsecond, timezone: nil)],
                [.timestamp(.microsecond, timezone: nil)]
            ),
            ("select count(*) as n from audit_log where sequence > ? and ? + 1 > 3", [.uint64, .float64], [.int64]),
        ]
        try await TestShards.with(counts: [3, 2], seed: Self.seed) { shards in
            try await shards.withRouter { router in
                for (sql, parameters, columns) in expected {
                    let prepared = try await router.prepare(sql: sql, organizations: shards.keys)
                    #expect(prepared.parameterTypes == parameters, "\(sql)")
                    #expect(prepared.schema.fields.map(\.type) == columns, "\(sql)")
                }
                for sql in ["select nope from audit_log where action = ?", "select no_such_function(?)"] {
                    let error = await #expect(throws: QueryError.self, "\(sql)") {
                        try await router.prepare(sql: sql, organizations: shards.keys)
                    }
                    #expect(error?.position == 7 || error?.code == .notAllowed, "\(String(describing: error))")
                }
            }
        }
    }

    @Test("runs over empty tables when there is no organization")
    func answersForNobody() async throws {
        try await TestShards.with(counts: [10], seed: Self.seed) { shards in
            try await shards.withRouter { router in
                let all = try await router.run(QueryRequest(sql: "select * from audit_log", organizations: []))
                #expect(all.schema.fields.map(\.name) == auditLog.columns.map(\.name))
                #expect(try await all.batches.collect().isEmpty)
                #expect(all.provenance.isEmpty)
                let count = QueryRequest(sql: "select count(*) from audit_log", organizations: [])
                #expect(try await router.rows(count, sorted: false).rows.rows == [[.int(0)]])
                #expect(shards.recordedCalls.isEmpty)
            }
        }
    }

    @Test("finds the user's errors before anything is gathered")
    func findsErrorsFirst() async throws {
        try await TestShards.with(counts: [10, 5], seed: Self.seed) { shards in
            try await shards.withRouter { router in
                let expected: [(String, QueryError.Code, Int?)] = [
                    ("select 1 +", .syntax, 9), ("select actoin from audit_log", .invalid, 7),
                    ("select count(*) from records", .unknownTable, 21), ("drop table audit_log", .notAllowed, nil),
                    ("select read_text('x')", .notAllowed, 7), ("select sum(action) from audit_log", .invalid, 7),
                    ("select action, count(*) from audit_log", .invalid, 7),
                ]
                for (sql, code, position) in expected {
                    for keys in [shards.keys, [shards.keys[0]]] {
                        let error = await router.failure(QueryRequest(sql: sql, organizations: keys))
                        #expect(error?.code == code, "\(sql): \(String(describing: error))")
                        if let position { #expect(error?.position == position, "\(sql)") }
                    }
                }
                // Only what one shard runs itself is bound there.
                #expect(shards.recordedCalls.allSatisfy { $0.organization == shards.keys[0] })
                #expect(shards.recordedCalls.count == expected.filter { $0.1 == .invalid }.count)
            }
        }
    }

    @Test("gives an error of the data as the user's, whatever the plan")
    func conversionErrorsAreTheUsers() async throws {
        try await TestShards.with(counts: [10, 5], seed: Self.seed) { shards in
            try await shards.withRouter { router in
                for keys in [shards.keys, [shards.keys[0]]] {
                    let request = QueryRequest(sql: "select action::int from audit_log", organizations: keys)
                    #expect(await router.failure(request)?.code == .invalid)
                }
            }
        }
    }

    @Test("a shard that fails fails the whole query", arguments: [false, true])
    func neverAnswersPartially(inTheMiddle: Bool) async throws {
        try await TestShards.with(counts: [2_000, 2_000, 2_000], seed: Self.seed) { shards in
            try await shards.withRouter { router in
                let request = QueryRequest(
                    sql: "select count(*) from audit_log where after is not null",
                    organizations: shards.keys
                )
                #expect(await router.failure(request) == nil)
                shards.set(
                    inTheMiddle ? .failsAfterFirstBatch : .failsAtOnce(TestFailure.brokenConnection),
                    for: shards.keys[1]
                )
                let error = await router.failure(request)
                #expect(error?.code == .unavailable)
                #expect(error?.isRetriable == true)
                #expect(error?.names.contains("org-2") == true)
                let one = QueryRequest(sql: "select * from audit_log", organizations: [shards.keys[1]])
                let alone = await router.failure(one)
                #expect(alone?.code == .unavailable)
                #expect(alone?.names == ["org-2"])
            }
        }
    }

    @Test("keeps the code of a shard's error, and its own defects apart from the user's mistakes")
    func mapsShardErrors() async throws {
        try await TestShards.with(counts: [10, 5], seed: Self.seed) { shards in
            try await shards.withRouter { router in
                let request = QueryRequest(sql: Self.counts, organizations: shards.keys)
                let expected: [(any Error & Sendable, QueryError.Code)] = [
                    (QueryError(.busy, "x"), .busy), (QueryError(.memoryLimit, "x"), .memoryLimit),
                    (QueryError(.timeLimit, "x"), .timeLimit), (QueryError(.syntax, "x"), .internal),
                    (QueryError(.unknownTable, "x"), .internal), (TestFailure.brokenConnection, .unavailable),
                ]
                for (error, code) in expected {
                    shards.set(.failsAtOnce(error), for: shards.keys[0])
                    #expect(await router.failure(request)?.code == code)
                }
                shards.set(.lies, for: shards.keys[0])
                #expect(await router.failure(request)?.code == .internal)
            }
        }
    }

    @Test("cancellation reaches every shard")
    func cancelsEveryShard() async throws {
        try await TestShards.with(counts: [1, 1, 1, 1, 1], seed: Self.seed) { shards in
            try await shards.withRouter { router in
                for key in shards.keys { shards.set(.hangs, for: key) }
                let request = QueryRequest(sql: Self.counts, organizations: shards.keys)
                await withTaskGroup(of: QueryError?.self) { group in
                    group.addTask { await router.failure(request) }
                    var started = 0
                    for await _ in shards.hangs {
                        started += 1
                        if started == shards.keys.count { break }
                    }
                    #expect(shards.cancelledOrganizations.isEmpty)
                    group.cancelAll()
                    for await error in group { #expect(error?.code == .cancelled) }
                }
                #expect(shards.cancelledOrganizations == Set(shards.keys))
            }
        }
    }

    @Test("one shard's failure stops the others")
    func stopsTheOthers() async throws {
        try await TestShards.with(counts: [1, 1, 1], seed: Self.seed) { shards in
            try await shards.withRouter { router in
                shards.set(.hangs, for: shards.keys[0])
                shards.set(.hangs, for: shards.keys[1])
                shards.set(.failsAtOnce(TestFailure.brokenConnection), for: shards.keys[2])
                let error = await router.failure(QueryRequest(sql: Self.counts, organizations: shards.keys))
                #expect(error?.code == .unavailable)
                #expect(error?.names == ["org-3"])
                #expect(shards.cancelledOrganizations.isSubset(of: Set(shards.keys.prefix(2))))
            }
        }
    }

    @Test("asks no more shards at once than it may")
    func boundsTheFanOut() async throws {
        try await TestShards.with(counts: [1, 1, 1, 1], seed: Self.seed) { shards in
            try await shards.withRouter(QueryRouterConfiguration(fanOutMax: 2)) { router in
                for key in shards.keys { shards.set(.hangs, for: key) }
                let request = QueryRequest(sql: Self.counts, organizations: shards.keys)
                await withTaskGroup(of: QueryError?.self) { group in
                    group.addTask { await router.failure(request) }
                    var started = 0
                    for await _ in shards.hangs {
                        started += 1
                        if started == 2 { break }
                    }
                    group.cancelAll()
                    for await error in group { #expect(error?.code == .cancelled) }
                }
                #expect(shards.recordedCalls.count == 2)
                for key in shards.keys { shards.set(nil, for: key) }
                let (rows, _) = try await router.rows(request, sorted: false)
                #expect(rows.rows.count == 4)
            }
        }
    }

    @Test("ends when its time has passed, and stops the shards", arguments: [1, 3])
    func endsInTime(organizations: Int) async throws {
        try await TestShards.with(counts: [1, 1, 1], seed: Self.seed) { shards in
            try await shards.withRouter(clock: StoppedClock(rings: true)) { router in
                for key in shards.keys { shards.set(.hangs, for: key) }
                let keys = Array(shards.keys.prefix(organizations))
                let error = await router.failure(QueryRequest(sql: Self.counts, organizations: keys))
                #expect(error?.code == .timeLimit)
            }
        }
    }

    @Test(
        "what is too much to gather is answered by pulling its queries of WITH and FROM first, where that lets it be split"
    )
    func pullsWhatIsTooMuch() async throws {
        try await TestShards.with(counts: [500, 500], seed: Self.seed) { shards in
            let sql = """
                with w as (select action, count(*) as c from audit_log group by action)
                select count(*) as n, sum(w.c) as total from audit_log a join w on w.action = a.action
                """
            let expected = try await shards.expected(sql, sorted: true)
            for (limit, plan) in [(10_000, QueryPlanKind.gather), (999, .partial)] {
                try await shards.withRouter(QueryRouterConfiguration(gatherRowsMax: limit)) { router in
                    let request = QueryRequest(sql: sql, organizations: shards.keys)
                    let (rows, outcome) = try await router.rows(request, sorted: true)
                    #expect(rows == expected && outcome.plan == plan, "\(limit): \(rows)")
                    var forced = request
                    forced.planChoice = .gather
                    #expect(await router.failure(forced)?.code == (plan == .gather ? nil : .tooLarge))
                }
            }
        }
    }

    @Test("refuses to gather or to return more than the limits")
    func boundsSizes() async throws {
        try await TestShards.with(counts: [500, 500], seed: Self.seed) { shards in
            let sql = "select * from audit_log"
            let whole = QueryRequest(sql: sql, organizations: shards.keys, planChoice: .gather)
            try await shards.withRouter(QueryRouterConfiguration(gatherBytesMax: 4_096)) { router in
                #expect(await router.failure(whole)?.code == .tooLarge)
            }
            try await shards.withRouter(QueryRouterConfiguration(gatherRowsMax: 999)) { router in
                #expect(await router.failure(whole)?.code == .tooLarge)
            }
            try await shards.withRouter(QueryRouterConfiguration(gatherRowsMax: 1_000, organizationsMax: 2)) { router in
                #expect(await router.failure(whole) == nil)
                for keys in [shards.keys, [shards.keys[0]]] {
                    let rows = QueryRequest(sql: sql, organizations: keys, resultRowsMax: 499)
                    #expect(await router.failure(rows)?.code == .tooLarge)
                    let bytes = QueryRequest(sql: sql, organizations: keys, resultBytesMax: 1_000)
                    #expect(await router.failure(bytes)?.code == .tooLarge)
                }
                let many = shards.keys + [OrganizationKey("third")!]
                #expect(await router.failure(QueryRequest(sql: sql, organizations: many))?.code == .tooLarge)
            }
        }
    }

    @Test("removes what it spilled to, also after an error")
    func leavesNoFiles() async throws {
        try await TestShards.with(counts: [50, 50], seed: Self.seed) { shards in
            let directory = shards.directory + "/spill"
            try await shards.withRouter(engine: .init(memoryLimitBytes: 32 << 20, temporaryDirectory: directory)) {
                router in
                let sorted = """
                    select count(*) from (select distinct md5(i::varchar) from range(500000) t(i))
                    """
                let rows = try await router.rows(QueryRequest(sql: sorted, organizations: shards.keys), sorted: false)
                #expect(rows.rows.rows == [[.int(500_000)]])
                #expect(Self.files(in: directory).isEmpty)
                let failing = QueryRequest(sql: "select action::int from audit_log", organizations: shards.keys)
                #expect(await router.failure(failing) != nil)
                #expect(Self.files(in: directory).isEmpty)
            }
            #expect(try FileManager.default.contentsOfDirectory(atPath: directory).isEmpty)
        }
    }

    private static func files(in directory: String) -> [String] {
        (FileManager.default.subpaths(atPath: directory) ?? []).filter { path in
            var isDirectory: ObjCBool = false
            return FileManager.default.fileExists(atPath: "\(directory)/\(path)", isDirectory: &isDirectory)
                && !isDirectory.boolValue && !path.hasSuffix("_owner")
        }
    }

    @Test("refuses a configuration or a catalog that cannot work")
    func validates() throws {
        #expect(throws: QueryError.self) { try QueryRouterConfiguration(fanOutMax: 0).validate() }
        try QueryRouterConfiguration().validate()
        #expect(throws: QueryError.self) { try TableCatalog([:], base: [auditLog, auditLog]) }
        #expect(throws: QueryError.self) {
            try TableCatalog([:], base: [TableSchema(name: "t", columns: [ColumnDefinition("sequence", .uint64)])])
        }
    }
}
