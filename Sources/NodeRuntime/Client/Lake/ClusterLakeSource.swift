internal import Columnar
internal import Crypto
internal import Foundation
internal import HTTPTypes
internal import NIOCore
package import Primitives

/// The records of a cluster, as its API gives them to an auditor or operator.
///
/// Every file is held against what the ledger says of it (the record `export_completed`), and read again: it must hold
/// the columns and the sequences that were asked for, all of one month. ``close()`` ends its threads.
package final class ClusterLakeSource: LakeSource {
    private let client: ClusterClient
    private let threads = ColumnarThreads()

    /// For the whole of one file.
    private static let timeout = Duration.seconds(3600)
    /// Exports that may complete after one of ours until it is looked up.
    private static let completionsMax = 200

    package init(client: ClusterClient) { self.client = client }

    /// Waits until the threads have ended.
    package func close() async { await self.threads.shutdown() }

    package func extent(of organization: OrganizationKey) async throws -> LakeExtent {
        let note = try await self.client.organizationResource(
            organization.rawValue,
            path: ["checkpoint"],
            parameters: [("fresh", "true")]
        )
        // C2SP tlog-checkpoint: origin, size and root, a line each.
        let lines = String(decoding: note, as: UTF8.self).split(separator: "\n", omittingEmptySubsequences: false)
        let origin = lines[0].split(separator: "/", omittingEmptySubsequences: false)
        guard lines.count > 3, origin.count >= 2, origin.last == organization.rawValue[...],
            let size = UInt64(lines[1])
        else { throw ClientError(.unexpectedAnswer, "the checkpoint of \(organization) is malformed") }
        return LakeExtent(cluster: origin.dropLast().joined(separator: "/"), size: size)
    }

    package func pieces(of organization: OrganizationKey, _ range: ClosedRange<UInt64>) async throws -> [LakePiece] {
        struct Answer: Decodable { var rows: [Row] }
        struct Row: Decodable {
            var month: String
            var first: UInt64
            var last: UInt64
            var count: UInt64

            init(from decoder: any Decoder) throws {
                var values = try decoder.unkeyedContainer()
                self.month = try values.decode(String.self)
                self.first = try values.decode(UInt64.self)
                self.last = try values.decode(UInt64.self)
                self.count = try values.decode(UInt64.self)
            }
        }
        let call = QueryCall(
            sql: "SELECT strftime(recorded_at, '%Y-%m') AS month, min(sequence), max(sequence), count(*) "
                + "FROM audit_log WHERE sequence BETWEEN \(range.lowerBound) AND \(range.upperBound) "
                + "GROUP BY 1 ORDER BY 2",
            organizations: [organization.rawValue],
            consistency: "linearizable",
            format: "json"
        )
        var bytes: [UInt8] = []
        try await self.client.query(call) { chunk in
            bytes += chunk.readableBytesView
            guard bytes.count <= ClusterClient.answerBytesMax else {
                throw ClientError(.unexpectedAnswer, "the answer about months is too long")
            }
        }
        let rows = try ClusterClient.decode(Answer.self, from: bytes).rows
        return try rows.map { row in
            guard row.first <= row.last, row.last - row.first + 1 == row.count else {
                throw ClientError(
                    .unexpectedAnswer,
                    "the token does not see every record of \(organization): a lake needs an auditor's or operator's"
                )
            }
            return LakePiece(organization: organization, month: row.month, range: row.first...row.last)
        }
    }

    package func fetch(_ piece: LakePiece, into file: LakeStagedFile) async throws -> LakePlan.File {
        var order = ExportOrder(
            organization: piece.organization.rawValue,
            parameters: [
                ("format", "parquet"), ("profile", "lake"),
                ("columns", LakeColumns.files.map(\.name).joined(separator: ",")),
                ("first", String(piece.range.lowerBound)), ("last", String(piece.range.upperBound)),
            ]
        )
        order.timeout = Self.timeout
        var hash = SHA256()
        var size = 0
        let manifest = try await self.client.export(order) { chunk in
            try chunk.withUnsafeReadableBytes { bytes in
                hash.update(bufferPointer: bytes)
                size += bytes.count
                try file.write(bytes)
            }
        }
        let digest = Hex.encode(Array(hash.finalize()))
        let record = try Self.exportRecord(manifest, of: piece)
        let completion = try await self.completion(of: record, piece.organization)
        guard completion.sha256 == digest, completion.size == size else {
            throw ClientError(
                .unexpectedAnswer,
                "the file of \(piece.organization)'s records \(piece.range.lowerBound) to \(piece.range.upperBound) is "
                    + "not the one that record \(completion.sequence) names: SHA-256 \(digest) against "
                    + completion.sha256
            )
        }
        try await self.inspect(file.path, of: piece)
        return LakePlan.File(
            piece: piece,
            sha256: digest,
            sizeBytes: Int64(size),
            exportRecord: record,
            completionRecord: completion.sequence
        )
    }

    // MARK: What the ledger says

    /// The sequence of the record `export` out of the answer's header.
    private static func exportRecord(_ manifest: String, of piece: LakePiece) throws -> UInt64 {
        struct Manifest: Decodable {
            var exported: Exported
            var first: UInt64
            var last: UInt64
        }
        struct Exported: Decodable { var record: Place? }
        struct Place: Decodable { var sequence: UInt64 }
        let manifest = try ClusterClient.decode(Manifest.self, from: manifest.utf8)
        guard manifest.first...max(manifest.first, manifest.last) == piece.range else {
            throw ClientError(.unexpectedAnswer, "the export is of other records than were asked for")
        }
        guard let record = manifest.exported.record else {
            throw ClientError(
                .unexpectedAnswer,
                "the export of \(piece.organization) is not on record: its ledger takes none at this feature level"
            )
        }
        return record.sequence
    }

    private struct Completion {
        var sequence: UInt64
        var sha256: String
        var size: Int
    }

    private func completion(of export: UInt64, _ organization: OrganizationKey) async throws -> Completion {
        struct Page: Decodable { var records: [Entry] }
        struct Entry: Decodable { var record: Record }
        struct Record: Decodable {
            var sequence: UInt64
            var after: After
        }
        struct After: Decodable {
            var export: UInt64?
            var sha256: String
            var size: Int
        }
        let bytes = try await self.client.organizationResource(
            organization.rawValue,
            path: ["records"],
            parameters: [("action", "export_completed"), ("order", "desc"), ("limit", String(Self.completionsMax))]
        )
        let records = try ClusterClient.decode(Page.self, from: bytes).records.map(\.record)
        guard let record = records.first(where: { $0.after.export == export }) else {
            throw ClientError(.unexpectedAnswer, "the ledger has no record of the end of export \(export)")
        }
        return Completion(sequence: record.sequence, sha256: record.after.sha256, size: record.after.size)
    }

    // MARK: What the file says

    private func inspect(_ path: String, of piece: LakePiece) async throws {
        let table = "read_parquet(\(quoteLiteral(path)))"
        let store = try await ColumnarStore.open(
            .memory,
            configuration: ColumnarConfiguration(access: .trusted, timeLimit: Self.timeout),
            threads: self.threads
        )
        let columns: [LakeColumns.Column]
        let facts: [ArrowValue]
        do {
            columns = try await store.describe("SELECT * FROM \(table)", origin: .router).schema.fields.map(Self.column)
            let batches = try await store.query(
                "SELECT count(*), count(DISTINCT sequence), min(sequence), max(sequence), "
                    + "min(strftime(recorded_at, '%Y-%m')), max(strftime(recorded_at, '%Y-%m')) FROM \(table)",
                origin: .router
            ).batches
            var rows: [[ArrowValue]] = []
            for try await batch in batches { rows.append((0..<6).map { batch.value(row: 0, column: $0) }) }
            facts = rows.first ?? []
        } catch {
            await store.close()
            throw ClientError(.unexpectedAnswer, "the Parquet file that came cannot be read", cause: error)
        }
        await store.close()
        let (first, last) = (Int64(clamping: piece.range.lowerBound), Int64(clamping: piece.range.upperBound))
        let wanted: [ArrowValue] = [
            .int(Int64(piece.range.count)), .int(Int64(piece.range.count)), .int(first), .int(last),
            .string(piece.month), .string(piece.month),
        ]
        guard facts == wanted, columns == LakeColumns.files.map({ LakeColumns.Column($0.name, $0.type) }) else {
            throw ClientError(
                .unexpectedAnswer,
                "the Parquet file that came does not hold \(piece.organization)'s records \(first) to \(last) of "
                    + "\(piece.month) in the columns that were asked for"
            )
        }
    }

    private static func column(_ field: ArrowField) -> LakeColumns.Column {
        let type =
            switch field.type {
            case .int64: "long"
            case .timestamp(.microsecond, .some): "timestamp"
            case .utf8: "string"
            case .bool: "boolean"
            case .float64: "double"
            default: field.type.sqlName
            }
        return LakeColumns.Column(field.name, type)
    }
}
