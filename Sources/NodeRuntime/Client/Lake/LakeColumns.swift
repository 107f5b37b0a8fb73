internal import Columnar
internal import Foundation

/// The columns of a lake's table `audit_log`, and how its schema may change.
///
/// The types are those that Delta Lake has: whole numbers are signed, times are instants, JSON is text.
package enum LakeColumns {
    /// Columns that stand in the folders' names, in this order, and not in the files.
    package static let partition = ["organization", "month"]

    /// One column of the files.
    package struct Column: Sendable, Hashable {
        package let name: String
        /// `string`, `long` or `timestamp`.
        package let type: String
        package let comment: String

        package init(_ name: String, _ type: String, comment: String = "") {
            self.name = name
            self.type = type
            self.comment = comment
        }
    }

    /// What this program writes into the files, in order.
    package static let files: [Column] = AuditLogDataset.table.columns.filter { !partition.contains($0.name) }.map {
        Column($0.name, type(of: $0.type), comment: $0.comment)
    }

    private static func type(of type: ColumnType) -> String {
        switch type {
        case .bool: "boolean"
        case .int64, .uint64: "long"
        case .double: "double"
        case .timestampMicros: "timestamp"
        case .utf8, .json: "string"
        }
    }

    /// The expression of the query engine by which a column of `audit_log` becomes one of a lake.
    static func expression(_ column: ColumnDefinition) -> String {
        let name = quoteIdentifier(column.name)
        return switch column.type {
        case .uint64: "CAST(\(name) AS BIGINT) AS \(name)"
        case .timestampMicros: "CAST(\(name) AS TIMESTAMP WITH TIME ZONE) AS \(name)"
        case .json: "CAST(\(name) AS VARCHAR) AS \(name)"
        case .bool, .int64, .double, .utf8: name
        }
    }

    // MARK: The schema in the log

    private struct Field: Codable {
        var name: String
        var type: String
        var nullable: Bool
        var metadata: [String: String]
    }

    private struct Schema: Codable {
        var type: String
        var fields: [Field]
    }

    /// The schema of a table with these columns in its files.
    package static func schemaString(_ columns: [Column]) throws -> String {
        let partitions = [
            Column("organization", "string", comment: "key of the organization"),
            Column("month", "string", comment: "month of recorded_at in UTC, YYYY-MM"),
        ]
        let fields = (partitions + columns).map {
            Field(
                name: $0.name,
                type: $0.type,
                nullable: true,
                metadata: $0.comment.isEmpty ? [:] : ["comment": $0.comment]
            )
        }
        return String(decoding: try DeltaCommit.json(Schema(type: "struct", fields: fields)), as: UTF8.self)
    }

    /// The schema that the table needs so that files with `columns` can be added, or nil when it has it.
    ///
    /// Columns are only ever added, at the end, and may be null: older files lack them.
    /// - Throws: ``ClientError`` `.badInput` when the table has columns that these files lack, or of another type.
    package static func evolved(_ schemaString: String, for columns: [Column]) throws(ClientError) -> String? {
        let schema: Schema
        do {
            schema = try JSONDecoder().decode(Schema.self, from: Data(schemaString.utf8))
        } catch {
            throw ClientError(.badInput, "the lake's table has columns that this program cannot read", cause: error)
        }
        let had = schema.fields.filter { !self.partition.contains($0.name) }
        guard schema.fields.count == had.count + self.partition.count else {
            throw ClientError(.badInput, "the lake's table is not partitioned by organization and month")
        }
        for field in had {
            guard let column = columns.first(where: { $0.name == field.name }) else {
                throw ClientError(
                    .badInput,
                    "the lake's table has a column \(field.name) that this ftnode does not write: use the newer one"
                )
            }
            guard column.type == field.type else {
                throw ClientError(
                    .badInput,
                    "the lake's column \(field.name) is \(field.type), ftnode writes \(column.type): begin another lake"
                )
            }
        }
        let added = columns.filter { column in !had.contains { $0.name == column.name } }
        guard !added.isEmpty else { return nil }
        let kept = had.map { Column($0.name, $0.type, comment: $0.metadata["comment"] ?? "") }
        do { return try self.schemaString(kept + added) } catch {
            throw ClientError(.badInput, "the lake's columns cannot be written", cause: error)
        }
    }
}
