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
        /// Of the text and the values.
        let bytes: Int
    }

    /// What is kept of one statement.
    private struct Entry {
        let planned: QuerySession.Planned
        var split: Split?
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
        /// Of all texts and values; what hangs on them is some hundred times as much.
        var bytes = 0
        var uses: UInt64 = 0
    }

    /// Plans that are kept; the one that was not asked for longest goes first.
    static let plansMax = 256
    /// The longest statement whose plan is kept, with its values, in bytes.
    static let textBytesMax = 16 << 10
    /// Bytes of the texts and values of all plans that are kept.
    static let textBytesTotalMax = 256 << 10

    private let state = Mutex(State())

    /// The key of a request over a catalog; nil: its plan is not kept.
    static func key(_ request: QueryRequest, _ catalog: TableCatalog) -> Key? {
        var bytes = request.sql.utf8.count
        for value in request.parameters {
            guard let valueBytes = Self.bytes(of: value) else { return nil }
            bytes += valueBytes
        }
        guard catalog.identity > 0, bytes <= Self.textBytesMax else { return nil }
        return Key(
            sql: request.sql,
            parameters: request.parameters,
            catalog: catalog.identity,
            choice: request.planChoice,
            bytes: bytes
        )
    }

    /// What a value counts; nil for one whose equals may be other values, such as zero with another sign.
    private static func bytes(of value: ArrowValue) -> Int? {
        switch value {
        case .null, .bool, .int, .uint, .date, .timestamp: MemoryLayout<ArrowValue>.size
        case .double(let number): number == 0 ? nil : MemoryLayout<ArrowValue>.size
        case .string(let text): MemoryLayout<ArrowValue>.size + text.utf8.count
        default: nil
        }
    }

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
            if state.entries[key] == nil { state.bytes += key.bytes }
            state.entries[key] = Entry(planned: planned, split: nil, use: state.uses)
            while state.entries.count > Self.plansMax || state.bytes > Self.textBytesTotalMax {
                guard let oldest = state.entries.min(by: { $0.value.use < $1.value.use })?.key else { return }
                state.entries[oldest] = nil
                state.bytes -= oldest.bytes
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
