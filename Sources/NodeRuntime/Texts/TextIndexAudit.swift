internal import AuditLedger
internal import Columnar
internal import Primitives

/// Compares the index of texts with the records of the ledger, all of which it is given in their order.
///
/// A gram that the index does not know of its granule would be a result that is silently missing, one that it should not
/// know only costs time: both are found, as are blocks and pages that are missing, doubled or too many. No index is right: it
/// is made when the store is quiet.
struct TextIndexAudit {
    private let index: TextIndex
    /// How many blocks the store had when the comparison began.
    private let blocks: UInt64
    /// Whether there are tables.
    private let exists: Bool
    private var builder: TextSliceBuilder
    private var slices: [TextSlice] = []
    private var block: UInt64 = 0
    /// Rows that were compared.
    private(set) var rows: UInt64 = 0

    /// - Parameters:
    ///   - last: The last record that will be given.
    ///   - rows: Runs a SELECT on the store as it is.
    /// - Throws: `EntityAudit.Difference`; what `rows` throws.
    init(_ index: TextIndex, to last: SequenceNumber, _ rows: EntityAudit.Rows) async throws {
        self.index = index
        self.builder = TextSliceBuilder(index.geometry, slice: 0)
        var found: [(layout: UInt64, blocks: UInt64)] = []
        do {
            for batch in try await rows("SELECT layout, blocks FROM \(TextIndex.progressTable)") {
                for row in 0..<batch.rowCount {
                    found.append(
                        (
                            UInt64(clamping: batch.int64(row: row, column: 0) ?? 0),
                            UInt64(clamping: batch.int64(row: row, column: 1) ?? 0)
                        )
                    )
                }
            }
        } catch let error as ColumnarError where error.code == .catalog {
            (self.exists, self.blocks) = (false, 0)
            return
        }
        guard found.count == 1, found[0].layout == index.storedLayout else {
            throw Self.difference(0, "the index of texts does not say once how far it goes")
        }
        self.exists = true
        self.blocks = min(found[0].blocks, (last.rawValue + 1) >> index.geometry.blockShift)
    }

    private static func difference(_ sequence: UInt64, _ detail: String) -> EntityAudit.Difference {
        EntityAudit.Difference(sequence: SequenceNumber(sequence), detail: detail)
    }

    /// Takes the next records, and compares the blocks that they complete.
    /// - Throws: `EntityAudit.Difference`; ``LedgerError`` for a damaged record; what `rows` throws.
    mutating func compare(_ records: [StoredRecord], _ rows: EntityAudit.Rows) async throws {
        for record in records where self.block < self.blocks {
            let fields = try RecordFields(scanning: record.bytes)
            let sequence = record.sequence.rawValue
            try self.builder.add(sequence) { Self.text($0, of: fields) }
            guard (sequence + 1) % self.index.geometry.recordsOfSlice == 0 else { continue }
            self.slices.append(try self.builder.finish())
            self.builder = TextSliceBuilder(
                self.index.geometry,
                slice: (sequence + 1) >> self.index.geometry.sliceShift
            )
            guard self.slices.count == TextGeometry.slicesOfBlock else { continue }
            try await self.compareBlock(rows)
            self.slices = []
            self.block += 1
        }
    }

    /// As the columns of `audit_log` have it.
    private static func text(_ column: Int, of fields: RecordFields) -> [UInt8]? {
        func json(_ field: RecordField) -> [UInt8]? {
            guard let json = fields.json(field), json.first != UInt8(ascii: "n") else { return nil }
            return Array(json)
        }
        return switch TextField.sources[column].column {
        case "reason": fields.textBytes(.reason)
        case "compliance": json(.compliance)
        case "before": json(.before)
        case "after": json(.after)
        case "entity_id": fields.textBytes(.entityID)
        case "entity_type": fields.textBytes(.entityType)
        default: fields.textBytes(.action)
        }
    }

    private mutating func compareBlock(_ rows: EntityAudit.Rows) async throws {
        let expected = TextPage.pages(of: self.slices)
        let first = self.block << self.index.geometry.blockShift
        var place = 0
        let batches: [ArrowRecordBatch]
        do {
            batches = try await rows(TextIndex.pagesStatement(self.block))
        } catch let error as ColumnarError where error.code == .catalog {
            throw Self.difference(first, "the pages of the index of texts are not there")
        }
        for batch in batches {
            for row in 0..<batch.rowCount {
                guard place < expected.count, TextIndex.page(batch, row) == expected[place] else {
                    throw Self.difference(first, "a page of the index of texts is not what the records give")
                }
                place += 1
            }
        }
        guard place == expected.count else {
            throw Self.difference(first, "a page of the index of texts that the records give is not there")
        }
        self.rows += UInt64(place)
    }

    /// Looks for pages of blocks that the store does not say it has, and for blocks that the records do not fill; after the
    /// last record.
    /// - Throws: `EntityAudit.Difference`; what `rows` throws.
    func finish(_ rows: EntityAudit.Rows) async throws {
        guard self.exists else { return }
        let blocks = "(SELECT max(blocks) FROM \(TextIndex.progressTable))"
        let statement = """
            SELECT CAST((SELECT count(*) FROM \(TextIndex.pages.name) WHERE block >= \(blocks)) AS BIGINT), \
            CAST(\(blocks) AS BIGINT), (SELECT CAST(coalesce(max(sequence), 0) AS BIGINT) FROM audit_log)
            """
        for batch in try await rows(statement) where batch.rowCount > 0 {
            let (surplus, stored) = (batch.int64(row: 0, column: 0) ?? 1, batch.int64(row: 0, column: 1) ?? .max)
            let last = UInt64(clamping: batch.int64(row: 0, column: 2) ?? 0)
            let size = self.index.geometry.recordsOfBlock
            guard surplus == 0, UInt64(clamping: stored) <= (last + 1) / size else {
                throw Self.difference(last, "the index of texts has pages of records that it cannot have")
            }
        }
    }
}
