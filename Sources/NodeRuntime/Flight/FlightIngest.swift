internal import Columnar
internal import Primitives
internal import Transport

/// Rows that a client sends, as events: ``EventRows``, with JSON as text only and what is wrong as a status.
struct FlightIngest: Sendable {
    static let table = "audit_log"
    private let rows: EventRows

    /// Refuses what cannot be appended to.
    static func check(_ command: FlightSQLCommandStatementIngest) throws(GRPCStatus) {
        guard command.table.lowercased() == self.table,
            !command.hasSchema || command.schema.isEmpty || command.schema == FlightSession.schemaName,
            !command.temporary
        else { throw GRPCStatus(.invalidArgument, "rows can be added only to main.\(self.table)") }
        guard !command.hasTransactionID || command.transactionID.isEmpty else {
            throw GRPCStatus(.unimplemented, "there are no transactions")
        }
        switch command.tableDefinitionOptions.ifExists {
        case .unspecified, .append: break
        case .fail, .replace, .UNRECOGNIZED:
            throw GRPCStatus(.invalidArgument, "\(self.table) is there and is only appended to: use the mode append")
        }
    }

    /// - Parameter organization: For rows that do not name one.
    /// - Throws: ``GRPCStatus`` `.invalidArgument` for columns that no event has.
    init(_ schema: ArrowSchema, organization: String?) throws(GRPCStatus) {
        guard organization != nil || schema.fields.contains(where: { $0.name == "organization" }) else {
            throw GRPCStatus(
                .invalidArgument,
                "which organization? name it as catalog, as session option or in a column \"organization\""
            )
        }
        for field in schema.fields where EventRows.isDocument(field.name) {
            guard field.type == .utf8 || field.type == .null else {
                throw GRPCStatus(.invalidArgument, "column \"\(field.name)\" must hold JSON as text")
            }
        }
        let key = organization.flatMap { OrganizationKey($0) }
        guard organization == nil || key != nil else {
            throw GRPCStatus(.invalidArgument, "the key of the organization is malformed")
        }
        do {
            self.rows = try EventRows(schema, organization: key, requiresAll: false)
        } catch {
            throw GRPCStatus(.invalidArgument, error.message)
        }
    }

    /// One event a row, as JSON on one line.
    func lines(_ batch: ArrowRecordBatch) throws(GRPCStatus) -> [[UInt8]] {
        var lines: [[UInt8]] = []
        lines.reserveCapacity(batch.rowCount)
        do {
            for row in 0..<batch.rowCount { lines.append(try self.rows.line(batch, row, number: row + 1)) }
        } catch {
            throw GRPCStatus(.invalidArgument, error.message)
        }
        return lines
    }
}
