internal import AuditLedger
internal import Columnar
internal import HTTPTypes
internal import Primitives

/// What a client asks of `POST /v1/organizations/KEY/export`.
struct ExportCall: Sendable {
    /// The form of the answer.
    enum Format: String, Sendable, CaseIterable {
        /// Records with everything that proves them.
        case package
        case json
        case ndjson
        case csv
        case parquet
    }

    /// The types of the columns of a Parquet file.
    enum Profile: String, Sendable, CaseIterable {
        /// Those of a query.
        case arrow
        /// Those that table formats have: signed numbers, times as instants, JSON as text.
        case lake
    }

    static let parameters = ["format", "first", "last", "size", "since", "personal", "columns", "profile"]
    /// Parameters of listings that mean nothing here.
    private static let listing = ["order", "limit", "cursor", "consistency"]

    let format: Format
    let search: RecordSearch
    /// The first and last sequence; nil for the ends of the ledger.
    let first: UInt64?
    let last: UInt64?
    /// The stored checkpoint to export; nil for a fresh one.
    let size: UInt64?
    /// An earlier stored checkpoint, which the package is shown to continue.
    let since: UInt64?
    /// Whether personal values that can still be opened shall be opened in the package.
    let opensPersonal: Bool
    /// Columns of the table, in order; nil for all.
    let columns: [String]?
    let profile: Profile
    /// The filters in the words of the request.
    let filters: [JSONMember]

    init(_ request: APICall) throws(Problem) {
        if let name = Self.listing.first(where: { request.parameter($0) != nil }) {
            throw Problem(.invalidParameter, "an export has no \(name): it is of everything that the filters find")
        }
        self.search = try RecordSearch(request, further: Self.parameters)
        let format = try RecordSearch.choice("format", request, Format.allCases.map(\.rawValue))
        self.format = Format(rawValue: format) ?? .package
        self.first = try RecordSearch.number("first", request, 1...MerkleTree.sizeMax)
        self.last = try RecordSearch.number("last", request, 1...MerkleTree.sizeMax)
        self.size = try RecordSearch.number("size", request, 1...MerkleTree.sizeMax)
        self.since = try RecordSearch.number("since", request, 1...MerkleTree.sizeMax)
        self.opensPersonal = try RecordSearch.choice("personal", request, ["sealed", "reveal"]) == "reveal"
        guard !self.opensPersonal || self.format == .package else {
            throw Problem(.invalidParameter, "personal values are opened in packages only")
        }
        let profile = try RecordSearch.choice("profile", request, Profile.allCases.map(\.rawValue))
        self.profile = Profile(rawValue: profile) ?? .arrow
        self.columns = try Self.columns(request)
        guard self.columns == nil || self.format == .csv || self.format == .parquet else {
            throw Problem(.invalidParameter, "columns are chosen for csv and parquet only")
        }
        guard self.profile == .arrow || self.format == .parquet else {
            throw Problem(.invalidParameter, "the profile \(profile) is for parquet only")
        }
        if let first = self.first, let last = self.last, first > last {
            throw Problem(.invalidParameter, "the range is backwards: first is after last")
        }
        self.filters = request.parameters.filter { !Self.parameters.contains($0.name) }
            .map { JSONMember($0.name, .text($0.value)) }
    }

    private static func columns(_ request: APICall) throws(Problem) -> [String]? {
        guard let text = request.parameter("columns") else { return nil }
        let names = text.split(separator: ",", omittingEmptySubsequences: false).map(String.init)
        let known = AuditLogDataset.table.columns.map(\.name)
        if let name = names.first(where: { !known.contains($0) }) {
            throw Problem(.invalidParameter, "audit_log has no column \"\(name)\"")
        }
        guard Set(names).count == names.count else {
            throw Problem(.invalidParameter, "columns names a column twice")
        }
        return names
    }

    /// What a statement selects to get the columns.
    var selection: String {
        guard self.columns != nil || self.profile != .arrow else { return "*" }
        let all = AuditLogDataset.table.columns
        let chosen = self.columns.map { names in names.compactMap { name in all.first { $0.name == name } } } ?? all
        let expressions = chosen.map { column in
            self.profile == .lake ? LakeColumns.expression(column) : quoteIdentifier(column.name)
        }
        return expressions.joined(separator: ", ")
    }

    /// Whether it is of all records up to the checkpoint.
    var isWhole: Bool { !self.search.hasFilter && self.first == nil && self.last == nil }

    /// The sequences that may be exported of a tree of `size` records.
    /// - Throws: ``Problem`` `.recordNotFound` when there are none.
    func range(size: UInt64) throws(Problem) -> ClosedRange<UInt64> {
        let (first, last) = (self.first ?? 1, min(self.last ?? size, size))
        guard first <= last else {
            throw Problem(
                .recordNotFound,
                "the checkpoint is of \(size) records: there is none from \(first) on",
                members: [.number("size", Int(clamping: size))]
            )
        }
        return first...last
    }
}
