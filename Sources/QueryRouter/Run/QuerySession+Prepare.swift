internal import Columnar

/// What a statement gives and wants before there are values.
///
/// Some clients take a statement without columns for one that writes, so there is always an answer: parameters whose
/// type nothing tells are of the first of ``PreparedQuery/openTypes`` with which the statement can be bound.
extension QuerySession {
    /// Most bindings that are tried for one statement.
    private static let attemptsMax = 64
    /// Most parameters that are left open again one by one.
    private static let reopenedMax = 32

    func prepare() async throws -> PreparedQuery {
        let statement = try await self.check()
        var types: [ArrowType]?
        var refusal: (any Error)?
        do {
            let described = try await self.describe(statement)
            types = described.parameterTypes
            guard described.parameterTypes.contains(.null) else {
                return PreparedQuery(schema: described.schema, parameterTypes: described.parameterTypes)
            }
        } catch  where Self.isUnfit(error) {
            // What fits may depend on types that only values would tell.
            refusal = error
        }
        let places = types.map { types in types.indices.filter { types[$0] == .null } }
        for candidate in Self.candidates(places ?? Parameters.places(in: statement.tree)) {
            do {
                let bound = try await self.describe(statement, candidate)
                return places == nil
                    ? try await self.reopened(statement, candidate, bound) : Self.prepared(bound, candidate)
            } catch  where Self.isUnfit(error) {
                refusal = refusal ?? error
            }
        }
        throw refusal ?? QueryError(.invalid, "no types of the parameters are known to fit")
    }

    /// The types to try: the same for all, then every mixture while there are few.
    private static func candidates(_ places: [Int]) -> [[Int: ArrowType]] {
        guard !places.isEmpty else { return [] }
        let types = PreparedQuery.openTypes
        var candidates = types.map { type in Dictionary(uniqueKeysWithValues: places.map { ($0, type) }) }
        var mixtures: [[Int: ArrowType]] = [[:]]
        for place in places {
            guard mixtures.count * types.count <= Self.attemptsMax else { return candidates }
            mixtures = mixtures.flatMap { mixture in types.map { mixture.merging([place: $0]) { $1 } } }
        }
        candidates += mixtures.filter { Set($0.values.map(String.init(describing:))).count > 1 }
        return candidates
    }

    /// Gives up every type that the statement itself tells once the others are known.
    private func reopened(
        _ statement: CheckedStatement,
        _ types: [Int: ArrowType],
        _ bound: StatementDescription
    ) async throws -> PreparedQuery {
        var (types, bound) = (types, bound)
        for place in types.keys.sorted().prefix(Self.reopenedMax) {
            var fewer = types
            fewer[place] = nil
            do {
                let described = try await self.describe(statement, fewer)
                guard described.parameterTypes.indices.contains(place), described.parameterTypes[place] != .null else {
                    continue
                }
                (types, bound) = (fewer, described)
            } catch  where Self.isUnfit(error) {
                continue
            }
        }
        return Self.prepared(bound, types)
    }

    private static func prepared(_ bound: StatementDescription, _ types: [Int: ArrowType]) -> PreparedQuery {
        let all = bound.parameterTypes.enumerated().map { types[$0.offset] ?? $0.element }
        return PreparedQuery(schema: bound.schema, parameterTypes: all)
    }

    private static func isUnfit(_ error: any Error) -> Bool {
        QueryError.wrapping(error, doing: "preparing the query").code == .invalid
    }

    private func describe(
        _ statement: CheckedStatement,
        _ types: [Int: ArrowType] = [:]
    ) async throws -> StatementDescription {
        let schema = self.catalog.engineSchema
        guard !types.isEmpty else { return try await self.engine.describe(statement.sql, over: schema, origin: .user) }
        let tree = Parameters.casting(statement.tree, to: types.mapValues(Self.name))
        let sql = try await self.engine.sql(of: tree.json)
        return try await self.engine.describe(sql, over: schema, origin: .user)
    }

    private static func name(_ type: ArrowType) -> String {
        switch type {
        case .float64: "DOUBLE"
        case .int64: "BIGINT"
        case .timestamp: "TIMESTAMP"
        default: "VARCHAR"
        }
    }
}
