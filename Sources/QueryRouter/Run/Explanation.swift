internal import Columnar
internal import Primitives
internal import Synchronization

/// `EXPLAIN` and `EXPLAIN ANALYZE` before a statement; the parser has no tree for them.
struct ExplainPrefix: Sendable, Equatable {
    let isAnalyzed: Bool
    /// UTF-8 offset of the statement that is explained.
    let offset: Int

    /// Reads the words before a statement; nil when it is not explained.
    /// - Throws: ``QueryError`` `.notAllowed` for options.
    static func read(_ sql: String) throws -> ExplainPrefix? {
        var scanner = Scanner(bytes: Array(sql.utf8))
        guard scanner.word() == "explain" else { return nil }
        let offset = scanner.next
        if scanner.isAtParenthesis {
            throw QueryError(.notAllowed, "EXPLAIN takes no options but ANALYZE", position: scanner.next)
        }
        if scanner.word() == "analyze" { return ExplainPrefix(isAnalyzed: true, offset: scanner.next) }
        return ExplainPrefix(isAnalyzed: false, offset: offset)
    }

    private struct Scanner {
        let bytes: [UInt8]
        var next = 0

        private mutating func skipSpace() {
            while self.next < self.bytes.count {
                if [0x20, 0x09, 0x0A, 0x0D].contains(self.bytes[self.next]) {
                    self.next += 1
                } else if self.bytes[self.next...].starts(with: Array("--".utf8)) {
                    while self.next < self.bytes.count, self.bytes[self.next] != 0x0A { self.next += 1 }
                } else if self.bytes[self.next...].starts(with: Array("/*".utf8)) {
                    self.next += 2
                    while self.next < self.bytes.count, !self.bytes[self.next...].starts(with: Array("*/".utf8)) {
                        self.next += 1
                    }
                    self.next = min(self.bytes.count, self.next + 2)
                } else {
                    return
                }
            }
        }

        mutating func word() -> String {
            self.skipSpace()
            let start = self.next
            while self.next < self.bytes.count, (0x41...0x5A).contains(self.bytes[self.next] & 0xDF) { self.next += 1 }
            return String(decoding: self.bytes[start..<self.next], as: UTF8.self).lowercased()
        }

        var isAtParenthesis: Bool {
            mutating get {
                self.skipSpace()
                return self.next < self.bytes.count && self.bytes[self.next] == UInt8(ascii: "(")
            }
        }
    }
}

/// What every shard was asked and gave, for EXPLAIN ANALYZE.
final class ShardLog: Sendable {
    struct Entry: Sendable {
        let organization: OrganizationKey
        let sql: String
        var node: NodeID?
        var rows = 0
        var bytes = 0
        var duration = Duration.zero
    }

    private let entries = Mutex<[Entry]>([])

    /// - Returns: The number by which the entry is known.
    func add(_ organization: OrganizationKey, _ sql: String) -> Int {
        self.entries.withLock { entries in
            entries.append(Entry(organization: organization, sql: sql))
            return entries.count - 1
        }
    }

    func update(_ number: Int, _ change: (inout Entry) -> Void) { self.entries.withLock { change(&$0[number]) } }

    /// In the order of organizations.
    var all: [Entry] { self.entries.withLock { $0.sorted { $0.organization < $1.organization } } }
}

/// The rows of an explanation.
struct Explanation {
    static let schema = ArrowSchema(fields: [
        ArrowField("item", .utf8, nullable: false), ArrowField("organization", .utf8), ArrowField("detail", .utf8),
        ArrowField("rows", .int64), ArrowField("bytes", .int64), ArrowField("milliseconds", .float64),
    ])

    private var rows: [[ArrowValue]] = []

    mutating func add(
        _ item: String,
        _ detail: String,
        organization: OrganizationKey? = nil,
        rows: Int? = nil,
        bytes: Int? = nil,
        duration: Duration? = nil
    ) {
        let milliseconds = duration.map { duration in
            Double(duration.components.seconds) * 1_000 + Double(duration.components.attoseconds) / 1e15
        }
        self.rows.append([
            .string(item), organization.map { .string($0.rawValue) } ?? .null, .string(detail),
            rows.map { .int(Int64($0)) } ?? .null, bytes.map { .int(Int64($0)) } ?? .null,
            milliseconds.map { .double($0) } ?? .null,
        ])
    }

    func batch() throws -> ArrowRecordBatch {
        let columns = Self.schema.fields.indices.map { index in self.rows.map { $0[index] } }
        return try ArrowRecordBatch.make(schema: Self.schema, columns: columns)
    }
}
