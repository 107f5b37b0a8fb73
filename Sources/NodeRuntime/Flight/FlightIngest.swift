internal import AuditLedger
internal import Columnar
internal import Primitives
internal import Transport

/// Turns rows into events, as `POST /v1/organizations/KEY/records` takes them: a column is a member of that name.
///
/// `actor_kind`, `actor_id`, `actor_name`, `actor_role` and `actor_on_behalf_of` together are `actor`; text in `before`,
/// `after`, `personal` and `compliance` is JSON; null means that the member is absent.
struct FlightIngest: Sendable {
    private struct Source: Sendable {
        let column: Int
        /// The member's name as JSON, with the colon.
        let name: [UInt8]
        let isJSON: Bool
    }

    private let members: [Source]
    private let actor: [Source]
    /// The column `organization`, or what stands in for it.
    private let organizationColumn: Int?
    private let organization: String?

    static let table = "audit_log"
    private static let texts: Set<String> = [
        "action", "actor", "causation", "correlation", "entity_id", "entity_type", "occurred_at", "outcome", "reason",
        "session", "severity",
    ]
    private static let documents: Set<String> = ["after", "before", "compliance", "personal"]
    private static let actorParts: Set<String> = ["kind", "id", "name", "role", "on_behalf_of"]
    private static let actorPrefix = "actor_"

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
        var members: [Source] = []
        var actor: [Source] = []
        var organizationColumn: Int?
        var seen: Set<String> = []
        for (index, field) in schema.fields.enumerated() {
            let name = field.name
            guard seen.insert(name).inserted else {
                throw GRPCStatus(.invalidArgument, "column \"\(name)\" is there twice")
            }
            if name == "organization" {
                organizationColumn = index
            } else if Self.texts.contains(name) || Self.documents.contains(name) {
                let isJSON = Self.documents.contains(name)
                guard !isJSON || field.type == .utf8 || field.type == .null else {
                    throw GRPCStatus(.invalidArgument, "column \"\(name)\" must hold JSON as text")
                }
                members.append(Source(column: index, name: Array("\"\(name)\":".utf8), isJSON: isJSON))
            } else if name.hasPrefix(Self.actorPrefix),
                Self.actorParts.contains(String(name.dropFirst(Self.actorPrefix.count)))
            {
                let part = name.dropFirst(Self.actorPrefix.count)
                actor.append(Source(column: index, name: Array("\"\(part)\":".utf8), isJSON: false))
            } else {
                throw GRPCStatus(
                    .invalidArgument,
                    "an event has no member \"\(name)\"; the server itself sets sequence, recorded_at, previous, "
                        + "checksum, changed and request_…"
                )
            }
        }
        guard actor.isEmpty || !seen.contains("actor") else {
            throw GRPCStatus(.invalidArgument, "either actor or actor_…, not both")
        }
        guard organizationColumn != nil || organization != nil else {
            throw GRPCStatus(
                .invalidArgument,
                "which organization? name it as catalog, as session option or in a column \"organization\""
            )
        }
        self.members = members
        self.actor = actor
        self.organizationColumn = organizationColumn
        self.organization = organization
    }

    /// One event a row, as JSON on one line.
    func lines(_ batch: ArrowRecordBatch) throws -> [[UInt8]] {
        try (0..<batch.rowCount).map { row in
            var line = Array("{\"organization\":".utf8)
            try self.appendOrganization(batch, row, to: &line)
            for source in self.members where !batch.isNull(row: row, column: source.column) {
                line.append(UInt8(ascii: ","))
                line.append(contentsOf: source.name)
                if source.isJSON, let text = batch.utf8(row: row, column: source.column) {
                    // Anything but one value would bring in members of its own.
                    guard (try? JSONParser.parse(text)) != nil else {
                        let name = batch.schema.fields[source.column].name
                        throw GRPCStatus(.invalidArgument, "row \(row + 1): \(name) is not JSON")
                    }
                }
                batch.columns[source.column].appendJSON(row, isJSON: source.isJSON, to: &line)
            }
            let actor = self.actor.filter { !batch.isNull(row: row, column: $0.column) }
            if !actor.isEmpty {
                line.append(contentsOf: ",\"actor\":".utf8)
                for (place, source) in actor.enumerated() {
                    line.append(place == 0 ? UInt8(ascii: "{") : UInt8(ascii: ","))
                    line.append(contentsOf: source.name)
                    batch.columns[source.column].appendJSON(row, isJSON: false, to: &line)
                }
                line.append(UInt8(ascii: "}"))
            }
            line.append(UInt8(ascii: "}"))
            return line
        }
    }

    private func appendOrganization(_ batch: ArrowRecordBatch, _ row: Int, to line: inout [UInt8]) throws {
        let named = self.organizationColumn.flatMap { batch.string(row: row, column: $0) } ?? self.organization
        guard let key = named.flatMap({ OrganizationKey($0) }) else {
            throw GRPCStatus(.invalidArgument, "a row names no organization, or one whose key is malformed")
        }
        // A key needs no escapes.
        line.append(contentsOf: "\"\(key.rawValue)\"".utf8)
    }
}
