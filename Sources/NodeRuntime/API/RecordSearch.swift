internal import AuditLedger
internal import Primitives

/// What a listing of records asks for.
struct RecordSearch: Sendable {
    static let limitDefault = 100
    static let limitMax = 1000

    /// Columns that must equal a text, by parameter.
    private static let equalColumns: [(parameter: String, column: String)] = [
        ("entity_type", "entity_type"), ("entity_id", "entity_id"), ("actor", "actor_id"), ("action", "action"),
        ("severity", "severity"), ("outcome", "outcome"), ("actor_kind", "actor_kind"), ("channel", "request_channel"),
        ("correlation", "correlation"), ("causation", "causation"), ("session", "session"),
    ]

    /// Parameters that choose records, as saved investigations may have them.
    static let filterParameters =
        equalColumns.map(\.parameter) + ["reason", "compliance", "from", "to"]

    let equal: [(column: String, value: String)]
    let reason: String?
    let compliance: ComplianceFilter?
    /// A further condition, of an investigation.
    let condition: RecordCondition?
    let from: Timestamp?
    let to: Timestamp?
    let cursor: SequenceNumber?
    let limit: Int
    let isDescending: Bool
    let isLatest: Bool
    /// Whether reserved records are left out.
    private(set) var hidesReserved = false

    /// The same without reserved records.
    var withoutReserved: RecordSearch {
        var search = self
        search.hidesReserved = true
        return search
    }

    /// - Parameters:
    ///   - condition: Holds beside what the request's parameters say.
    ///   - further: Parameters that the route has besides.
    init(
        _ request: APICall,
        condition: RecordCondition? = nil,
        further: [String] = []
    ) throws(Problem) {
        try request.requireOnly(
            parameters: Self.equalColumns.map(\.parameter) + further
                + ["reason", "compliance", "from", "to", "order", "limit", "cursor", "consistency"]
        )
        self.condition = condition
        self.equal = Self.equalColumns.filter { !further.contains($0.parameter) }.compactMap { column in
            request.parameter(column.parameter).map { (column.column, $0) }
        }
        try Self.requireKnown("severity", request, Severity.allCases)
        try Self.requireKnown("outcome", request, Outcome.allCases)
        try Self.requireKnown("actor_kind", request, ActorKind.allCases)
        try Self.requireKnown("channel", request, RequestChannel.allCases)
        self.reason = request.parameter("reason")
        self.compliance = try request.parameter("compliance").map { text throws(Problem) in try ComplianceFilter(text) }
        self.from = try Self.time("from", request)
        self.to = try Self.time("to", request)
        if let from = self.from, let to = self.to, from > to {
            throw Problem(.invalidParameter, "the time range is backwards: from is after to")
        }
        self.limit = try Self.number("limit", request, 1...UInt64(Self.limitMax)).map { Int($0) } ?? Self.limitDefault
        self.cursor = try Self.number("cursor", request, 1...UInt64.max).map { SequenceNumber($0) }
        self.isDescending = try Self.choice("order", request, ["asc", "desc"]) == "desc"
        self.isLatest = try Self.choice("consistency", request, ["linearizable", "eventual"]) == "linearizable"
    }

    /// Ascending, with filters that the node itself chose.
    init(equal: [(column: String, value: String)], before: Timestamp?, cursor: SequenceNumber?, isLatest: Bool) {
        self.equal = equal
        self.reason = nil
        self.compliance = nil
        self.condition = nil
        self.from = nil
        self.to = before
        self.cursor = cursor
        self.limit = Self.limitMax
        self.isDescending = false
        self.isLatest = isLatest
    }

    /// The same search from a sequence on, ascending, as many as a page may have.
    func page(from cursor: SequenceNumber, isLatest: Bool) -> RecordSearch {
        RecordSearch(self, cursor: cursor, isLatest: isLatest)
    }

    private init(_ search: RecordSearch, cursor: SequenceNumber, isLatest: Bool) {
        self.equal = search.equal
        self.reason = search.reason
        self.compliance = search.compliance
        self.condition = search.condition
        self.from = search.from
        self.to = search.to
        self.cursor = cursor
        self.limit = Self.limitMax
        self.isDescending = false
        self.isLatest = isLatest
        self.hidesReserved = search.hidesReserved
    }

    var hasFilter: Bool {
        !self.equal.isEmpty || self.reason != nil || self.compliance != nil || self.condition != nil
            || self.from != nil || self.to != nil
    }

    /// The cursor of the page after `page`, or nil when there can be none.
    ///
    /// A page without filters may be shorter than the limit, because its bytes are bounded too; one with filters is not.
    func cursor(after page: RecordReader.Page) -> String? {
        guard let last = page.records.last?.sequence.rawValue else { return nil }
        if self.hasFilter, page.records.count < self.limit { return nil }
        if self.isDescending { return last > 1 ? String(last - 1) : nil }
        return last < page.size ? String(last + 1) : nil
    }

    /// Refuses a word outside a closed set.
    private static func requireKnown<Word: RawRepresentable<String>>(
        _ name: String,
        _ request: APICall,
        _ words: [Word]
    ) throws(Problem) {
        guard let word = request.parameter(name), Word(rawValue: word) == nil else { return }
        throw Problem(.invalidParameter, "\(name) is one of \(words.map(\.rawValue).joined(separator: ", "))")
    }

    static func time(_ name: String, _ request: APICall) throws(Problem) -> Timestamp? {
        guard let text = request.parameter(name) else { return nil }
        guard let time = Timestamp(text) else {
            throw Problem(.invalidParameter, "\(name) is not a date and time of RFC 3339")
        }
        return time
    }

    static func number(
        _ name: String,
        _ request: APICall,
        _ range: ClosedRange<UInt64>
    ) throws(Problem) -> UInt64? {
        guard let text = request.parameter(name) else { return nil }
        guard let value = UInt64(text), range.contains(value) else {
            throw Problem(.invalidParameter, "\(name) is a number from \(range.lowerBound) to \(range.upperBound)")
        }
        return value
    }

    /// One of a few words; the first when the parameter is absent.
    static func choice(_ name: String, _ request: APICall, _ words: [String]) throws(Problem) -> String {
        guard let text = request.parameter(name) else { return words[0] }
        guard words.contains(text) else {
            throw Problem(.invalidParameter, "\(name) is one of \(words.joined(separator: ", "))")
        }
        return text
    }
}

/// What a record's compliance context must say.
struct ComplianceFilter: Sendable, Equatable {
    /// JSON Pointer to a member that must equal `text`; nil when the context must contain `text` anywhere.
    let pointer: String?
    let text: String

    /// Reads `/pointer=value`, or any other text to be contained.
    init(_ parameter: String) throws(Problem) {
        guard parameter.hasPrefix("/") else {
            guard !parameter.isEmpty else { throw Problem(.invalidParameter, "compliance is empty") }
            self.pointer = nil
            self.text = parameter
            return
        }
        let parts = parameter.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
        guard parts.count == 2 else {
            throw Problem(.invalidParameter, "compliance is /member=value, or a text that the context contains")
        }
        self.pointer = String(parts[0])
        self.text = String(parts[1])
    }
}
