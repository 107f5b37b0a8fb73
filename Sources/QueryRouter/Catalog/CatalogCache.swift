internal import Columnar
internal import Primitives
internal import Synchronization

/// Puts the catalogs of requests together, and keeps those that were asked for lately.
final class CatalogCache: Sendable {
    /// Catalogs that are kept.
    private static let catalogsMax = 32

    /// Equal keys mean equal catalogs.
    private struct Key: Hashable {
        var organizations: [OrganizationKey]
        var versions: [UInt64]
    }

    private struct State {
        var catalogs: [Key: (catalog: TableCatalog, use: Int)] = [:]
        var uses = 0
        /// The identity of the last catalog that was made.
        var made: UInt64 = 0
    }

    private let service: any ShardQueryService
    private let base: [TableSchema]
    private let fanOutMax: Int
    private let state = Mutex(State())

    init(service: any ShardQueryService, base: [TableSchema], fanOutMax: Int) {
        self.service = service
        self.base = base
        self.fanOutMax = fanOutMax
    }

    /// - Parameter organizations: In key order, each once.
    func catalog(of organizations: [OrganizationKey], isCurrent: Bool) async throws -> TableCatalog {
        let tables = try await self.tables(of: organizations, isCurrent: isCurrent)
        let key = Key(organizations: organizations, versions: organizations.map { tables[$0]?.version ?? 0 })
        let known = self.state.withLock { state -> TableCatalog? in
            state.uses += 1
            state.catalogs[key]?.use = state.uses
            return state.catalogs[key]?.catalog
        }
        if let known { return known }
        let identity = self.state.withLock { state in
            state.made += 1
            return state.made
        }
        let made = try TableCatalog(tables, base: self.base, identity: identity)
        self.state.withLock { state in
            state.catalogs[key] = (made, state.uses)
            guard state.catalogs.count > Self.catalogsMax,
                let oldest = state.catalogs.min(by: { $0.value.use < $1.value.use })
            else { return }
            state.catalogs[oldest.key] = nil
        }
        return made
    }

    private func tables(
        of organizations: [OrganizationKey],
        isCurrent: Bool
    ) async throws -> [OrganizationKey: ShardTables] {
        let service = self.service
        return try await withThrowingTaskGroup(of: (OrganizationKey, ShardTables).self) { group in
            var waiting = organizations[...]
            func start() {
                guard let key = waiting.popFirst() else { return }
                group.addTask {
                    do {
                        return (key, try await service.tables(of: key, isCurrent: isCurrent))
                    } catch {
                        throw QueryError.wrapping(error, doing: "asking for its tables").naming(key)
                    }
                }
            }
            for _ in 0..<self.fanOutMax { start() }
            var tables: [OrganizationKey: ShardTables] = [:]
            while let (key, found) = try await group.next() {
                tables[key] = found
                start()
            }
            return tables
        }
    }
}
