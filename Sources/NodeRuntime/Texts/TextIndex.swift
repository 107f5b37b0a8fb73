internal import Columnar
internal import Primitives
internal import QueryRouter

/// The index of texts as an organization's store has it: two tables that no user sees, made when the first block is complete.
///
/// It says of each gram in which granules of `audit_log` it stands, so that a search for a text reads those alone. Only
/// complete blocks are in it; rows that come after them are read. A block is written once, in one transaction with its
/// number.
struct TextIndex: Sendable, Hashable {
    /// The number of the tables' form and of the rules that fill them; an index of another one is made anew.
    static let layout: UInt64 = 1

    static let progressTable = "_text_blocks"
    static let pages = TableSchema(
        name: "_texts",
        columns: [
            ColumnDefinition("block", .uint64, nullable: false), ColumnDefinition("page", .uint64, nullable: false),
            ColumnDefinition("granules", .utf8, nullable: false),
        ]
    )

    let geometry: TextGeometry

    /// What the store says of itself: also that granules have another length.
    var storedLayout: UInt64 { Self.layout << 8 | self.geometry.granuleShift }

    // MARK: Filling

    /// Makes the tables that a store lacks which is long enough to have them, and empties those of another layout.
    /// - Returns: The number of blocks that are indexed, from the first on.
    func prepare(_ transaction: StoreTransaction) throws -> UInt64 {
        guard SequenceNumber(try transaction.position()) >= self.geometry.last(ofBlock: 0) else { return 0 }
        return try self.makeTables(transaction)
    }

    private func makeTables(_ transaction: StoreTransaction) throws -> UInt64 {
        try transaction.execute(Self.pages.createStatement)
        try transaction.execute(
            "CREATE TABLE IF NOT EXISTS \(Self.progressTable) (layout UBIGINT NOT NULL, blocks UBIGINT NOT NULL)"
        )
        let found = try transaction.number("SELECT layout FROM \(Self.progressTable)")
        if found == self.storedLayout {
            return try transaction.number(Self.blocksStatement) ?? 0
        }
        try transaction.execute("DELETE FROM \(Self.pages.name)")
        try transaction.execute("DELETE FROM \(Self.progressTable)")
        try transaction.execute("INSERT INTO \(Self.progressTable) VALUES (\(self.storedLayout), 0)")
        return 0
    }

    /// The number of blocks.
    static let blocksStatement = "SELECT blocks FROM \(progressTable)"

    /// Reads a slice of `audit_log`.
    /// - Throws: ``ColumnarError`` `.damaged` when a record does not stand there once.
    func slice(_ slice: UInt64, _ snapshot: StoreSnapshot) throws -> TextSlice {
        let columns = TextField.sources.map(\.column).joined(separator: ", ")
        let first = slice << self.geometry.sliceShift
        var builder = TextSliceBuilder(self.geometry, slice: slice)
        try snapshot.rows(
            """
            SELECT sequence, \(columns) FROM audit_log \
            WHERE sequence BETWEEN \(first) AND \(first + self.geometry.recordsOfSlice - 1)
            """
        ) { batch in
            for row in 0..<batch.rowCount {
                guard let sequence = batch.int64(row: row, column: 0) else {
                    throw ColumnarError(.damaged, "a row of audit_log has no sequence")
                }
                try builder.add(UInt64(bitPattern: sequence)) { batch.utf8(row: row, column: $0 + 1) }
            }
            return true
        }
        return try builder.finish()
    }

    /// Stores a block, unless it is there.
    /// - Returns: The number of blocks after it.
    func write(_ pages: [TextPage], of block: UInt64, _ transaction: StoreTransaction) throws -> UInt64 {
        let blocks = try self.makeTables(transaction)
        guard blocks == block else { return blocks }
        var columns = Self.pages.columns.map { ColumnBuilder($0.type, capacity: pages.count) }
        for page in pages {
            columns[0].append(block)
            columns[1].append(page.number)
            try columns[2].append(utf8: page.text)
        }
        try transaction.append(try ColumnBatch(columns: columns), to: Self.pages.name)
        try transaction.execute("UPDATE \(Self.progressTable) SET blocks = \(block + 1)")
        return block + 1
    }

    /// The pages of a block, for ``page(_:_:)``.
    static func pagesStatement(_ block: UInt64) -> String {
        "SELECT page, granules FROM \(self.pages.name) WHERE block = \(block) ORDER BY page, granules"
    }

    static func page(_ batch: ArrowRecordBatch, _ row: Int) -> TextPage {
        TextPage(
            number: UInt64(clamping: batch.int64(row: row, column: 0) ?? 0),
            text: batch.utf8(row: row, column: 1) ?? []
        )
    }

    // MARK: Searching

    /// Which rows a search need read; nil when all may as well be read.
    /// - Parameter blocks: How many are indexed, at least.
    func candidates(_ search: TextSearch, blocks: UInt64, _ snapshot: StoreSnapshot) throws -> TextCandidates? {
        let need = TextNeed(search.condition)
        let keys = need.allKeys
        guard blocks > 0, !keys.isEmpty else { return nil }
        let count = Int(blocks) * GranuleSet.wordCount
        var found: [TextKey: [UInt64]] = [:]
        for key in keys { found[key] = [UInt64](repeating: 0, count: count) }
        let pages = Dictionary(grouping: keys, by: TextPage.number)
        try snapshot.rows(
            """
            SELECT block, page, granules FROM \(Self.pages.name) \
            WHERE page IN (\(pages.keys.sorted().map(String.init).joined(separator: ", "))) AND block < \(blocks)
            """
        ) { batch in
            for row in 0..<batch.rowCount {
                guard let block = batch.int64(row: row, column: 0), let page = batch.int64(row: row, column: 1),
                    let text = batch.utf8(row: row, column: 2)
                else { throw ColumnarError(.damaged, "a row of the index of texts lacks a value") }
                for key in pages[UInt64(page)] ?? [] {
                    guard let set = try TextPage.granules(of: UInt8(truncatingIfNeeded: key), in: text) else {
                        continue
                    }
                    let first = Int(block) * GranuleSet.wordCount
                    for (index, word) in set.words.enumerated() { found[key]?[first + index] = word }
                }
            }
            return true
        }
        guard let granules = need.granules(found, count: count) else { return nil }
        return TextCandidates(
            granules: granules,
            search,
            self.geometry,
            position: SequenceNumber(snapshot.position)
        )
    }
}
