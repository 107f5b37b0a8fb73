internal import Columnar
internal import Synchronization

/// What was found out about statements that were planned lately, so that one that comes again is only run.
///
/// A plan hangs on the text, the values of the parameters and the tables of the organizations, and on nothing else;
/// the key has all of them. Bounded in plans and in bytes of text; safe to call from any task.
final class PlanCache: Sendable {
    /// Equal keys mean equal plans.
    struct Key: Hashable, Sendable {
        let sql: String
        let parameters: [ArrowValue]
        /// ``TableCatalog/identity``: of one catalog of certain organizations.
        let catalog: UInt64
        let choice: QueryRequest.PlanChoice
    }

    /// What is kept of one statement.
    private struct Entry {
        let planned: QuerySession.Planned
        var split: Split?
        let bytes: Int
        var use: UInt64
    }

    /// How a split statement turned out.
    enum Split: Sendable {
        case bound(BoundParts)
        /// It cannot be split after all.
        case failed(Obstacle)
    }

    private struct State {
        var entries: [Key: Entry] = [:]
        /// Of all texts; what hangs on them is some hundred times as much.
        var bytes = 0
        var uses: UInt64 = 0
    }

    /// Plans that are kept; the one that was not asked for longest goes first.
    static let plansMax = 256
    /// The longest statement whose plan is kept, with its values, in bytes.
    static let textBytesMax = 16 << 10
    /// Bytes of the texts of all plans that are kept.
    static let textBytesTotalMax = 256 << 10

    private let state = Mutex(State())

    /// The key of a request over a catalog; nil: its plan is not kept.
    static func key(_ request: QueryRequest, _ catalog: TableCatalog) -> Key? {
        guard catalog.identity > 0, request.sql.utf8.count <= Self.textBytesMax,
            request.parameters.allSatisfy(Self.isPlain)
        else { return nil }
        return Key(
            sql: request.sql,
            parameters: request.parameters,
            catalog: catalog.identity,
            choice: request.planChoice
        )
    }

    /// Whether equal values are the same value, and a small one: zeros of both signs are equal.
    private static func isPlain(_ value: ArrowValue) -> Bool {
        switch value {
        case .null, .bool, .int, .uint, .date, .timestamp: true
        case .double(let number): number != 0
        case .string(let text): text.utf8.count <= Self.valueBytesMax
        default: false
        }
    }

    /// The longest text among the values of a statement whose plan is kept, in bytes.
    private static let valueBytesMax = 1 << 10

    func find(_ key: Key?) -> QuerySession.Planned? {
        guard let key else { return nil }
        return self.state.withLock { state in
            state.uses += 1
            state.entries[key]?.use = state.uses
            return state.entries[key]?.planned
        }
    }

    func split(_ key: Key?) -> Split? {
        guard let key else { return nil }
        return self.state.withLock { $0.entries[key]?.split }
    }

    func keep(_ planned: QuerySession.Planned, as key: Key?) {
        guard let key else { return }
        self.state.withLock { state in
            state.uses += 1
            state.bytes += key.sql.utf8.count - (state.entries[key]?.bytes ?? 0)
            state.entries[key] = Entry(planned: planned, split: nil, bytes: key.sql.utf8.count, use: state.uses)
            while state.entries.count > Self.plansMax || state.bytes > Self.textBytesTotalMax {
                guard let oldest = state.entries.min(by: { $0.value.use < $1.value.use })?.key else { return }
                state.bytes -= state.entries.removeValue(forKey: oldest)?.bytes ?? 0
            }
        }
    }

    func keep(_ split: Split, as key: Key?) {
        guard let key else { return }
        self.state.withLock { $0.entries[key]?.split = split }
    }

    /// The number of plans that are kept.
    var count: Int { self.state.withLock { $0.entries.count } }
}

/// A split statement as the engine writes it out; it was bound, and gives what the statement gives.
struct BoundParts: Sendable {
    /// The shards' statement over the tables of the catalog.
    let body: String
    /// The final step; nil: the answers are handed on as they come.
    let final: String?
}
