import Columnar
import Foundation
import Primitives
import Testing

@testable import QueryRouter

/// Random statements over random data: every plan that admits a statement answers like one DuckDB over the union.
@Suite(.serialized, .timeLimit(.minutes(10)))
struct RandomDifferentialTests {
    /// Statements in all; `FLASKTRACK_QUERY_STATEMENTS` asks for more.
    static let statements =
        ProcessInfo.processInfo.environment["FLASKTRACK_QUERY_STATEMENTS"].flatMap { Int($0) } ?? 720
    private static let seed =
        ProcessInfo.processInfo.environment["FLASKTRACK_QUERY_SEED"].flatMap { UInt64($0) } ?? 20_260_501

    struct Tally: Sendable {
        var plans: [QueryPlanKind: Int] = [:]
        var wrong: [String] = []
        var refused: [String: Int] = [:]
    }

    /// Runs statements over one set of shards.
    static func run(
        shards count: Int,
        statements: Int,
        seed: UInt64,
        options: QueryPlanner.Options = .init()
    ) async throws -> Tally {
        var tally = Tally()
        try await RandomShards.generated(count, seed: seed) { shards in
            try await shards.withRouter(options: options) { router in
                var writer = RandomStatement(random: SeededGenerator(seed: seed &+ 1))
                for number in 0..<statements {
                    let (sql, isOrdered) = writer.next()
                    // What one DuckDB refuses is refused by every plan.
                    let expected = try? await shards.expected(sql, sorted: !isOrdered)
                    var choices: [QueryRequest.PlanChoice] = [.automatic]
                    if number % 4 == 0 { choices.append(.gather) }
                    // Once more by the plan that was kept.
                    if number % 3 == 0 { choices.append(.automatic) }
                    for choice in choices {
                        let request = QueryRequest(sql: sql, organizations: shards.keys, planChoice: choice)
                        let context = "seed \(seed), \(count) shards, \(choice): \(sql)"
                        do {
                            let (rows, outcome) = try await router.rows(request, sorted: !isOrdered)
                            tally.plans[outcome.plan, default: 0] += 1
                            if let expected, rows == expected { continue }
                            let difference = expected.map { rows.difference(from: $0) } ?? "an error was expected"
                            tally.wrong.append("\(context) [\(outcome.plan.rawValue)] \(difference)")
                        } catch {
                            if expected == nil {
                                tally.refused["\(sql)", default: 0] += 1
                                continue
                            }
                            tally.wrong.append("\(context): \(error)")
                        }
                    }
                }
            }
        }
        return tally
    }

    @Test("equal answers from every plan", arguments: [1, 3, 8, 16], [0, 1, 2])
    func equalsTheUnion(shards: Int, part: Int) async throws {
        let seed = Self.seed &+ UInt64(shards * 100 + part)
        let tally = try await Self.run(shards: shards, statements: Self.statements / 12, seed: seed)
        for wrong in tally.wrong { Issue.record("\(wrong)") }
        #expect(tally.refused.count < Self.statements / 12 / 5, "the statements are mostly statements")
        if ProcessInfo.processInfo.environment["FLASKTRACK_QUERY_VERBOSE"] != nil {
            print("shards \(shards):", tally.plans, "refused", tally.refused.keys.prefix(8))
        }
        // Enough statements to meet every plan.
        if shards > 1, Self.statements >= 600 {
            #expect((tally.plans[.partial] ?? 0) > 3)
            #expect((tally.plans[.concat] ?? 0) > 0)
            #expect((tally.plans[.gather] ?? 0) > 0)
        }
    }

    @Test("equal answers where queries of WITH and FROM are answered first", arguments: [3, 8])
    func equalsTheUnionPulling(shards: Int) async throws {
        var options = QueryPlanner.Options()
        options.pullsTablesFirst = true
        let seed = Self.seed &+ UInt64(shards)
        let tally = try await Self.run(shards: shards, statements: 150, seed: seed, options: options)
        for wrong in tally.wrong { Issue.record("\(wrong)") }
    }

    @Test(
        "a wrong rule is noticed",
        arguments: [
            StatementSplitter.Rules.averagesOfAverages, .everyListIsOwn, .cutsByAnyOrder,
        ]
    )
    func noticesAWrongRule(rules: StatementSplitter.Rules) async throws {
        var options = QueryPlanner.Options()
        options.rules = rules
        let tally = try await Self.run(shards: 3, statements: 300, seed: Self.seed, options: options)
        #expect(!tally.wrong.isEmpty)
    }
}
