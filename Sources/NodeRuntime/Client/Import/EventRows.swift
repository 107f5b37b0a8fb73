internal import AuditLedger
package import Columnar
package import Primitives

/// Turns the rows of a table into events, as `POST /v1/organizations/KEY/records` takes them: a column is a member of
/// that name.
///
/// `actor_kind`, `actor_id`, `actor_name`, `actor_role` and `actor_on_behalf_of` together are `actor`. `before`, `after`,
/// `personal` and `compliance` hold JSON as text, or structures, lists and maps. Null: the member is absent.
package struct EventRows: Sendable {
    private enum Kind {
        case text
        /// JSON as text, or nested values.
        case document
    }

    private struct Source: Sendable {
        let column: Int
        let name: String
        /// The member's name as JSON, with the colon.
        let label: [UInt8]
        let kind: Kind
    }

    private let members: [Source]
    private let actor: [Source]
    private let organizationColumn: Int?
    private let organization: OrganizationKey?

    private static let texts: Set<String> = [
        "action", "causation", "correlation", "entity_id", "entity_type", "occurred_at", "outcome", "reason", "session",
        "severity",
    ]
    private static let documents: Set<String> = ["after", "before", "compliance", "personal"]
    private static let actorParts: Set<String> = ["kind", "id", "name", "role", "on_behalf_of"]
    private static let actorPrefix = "actor_"
    private static let needed = ["action", "entity_id", "entity_type"]

    /// Whether a column of this name holds JSON.
    static func isDocument(_ name: String) -> Bool { self.documents.contains(name) }

    /// - Parameters:
    ///   - organization: For rows that name none.
    ///   - requiresAll: Refuses a table without a column that each event needs; otherwise the server refuses its events.
    /// - Throws: ``ClientError`` `.badInput` for columns that no event has, and for a table without those that each needs.
    package init(
        _ schema: ArrowSchema,
        organization: OrganizationKey?,
        requiresAll: Bool = true
    ) throws(ClientError) {
        var members: [Source] = []
        var actor: [Source] = []
        var organizationColumn: Int?
        var seen: Set<String> = []
        for (index, field) in schema.fields.enumerated() {
            let name = field.name
            guard seen.insert(name).inserted else {
                throw ClientError(.badInput, "column \(name) is there twice")
            }
            if name == "organization" {
                organizationColumn = index
            } else if Self.texts.contains(name) {
                guard field.type.children.isEmpty else {
                    throw ClientError(.badInput, "column \(name) must hold plain values, not \(field.type.sqlName)")
                }
                members.append(Self.source(index, name, .text))
            } else if Self.documents.contains(name) || name == "actor" {
                // Who acts is written as an object, or as the id of a user alone.
                let isText = name == "actor" && field.type == .utf8 && !field.isJSON
                members.append(Self.source(index, name, isText ? .text : .document))
            } else if name.hasPrefix(Self.actorPrefix),
                Self.actorParts.contains(String(name.dropFirst(Self.actorPrefix.count)))
            {
                actor.append(Self.source(index, String(name.dropFirst(Self.actorPrefix.count)), .text))
            } else {
                throw ClientError(
                    .badInput,
                    "an event has no member \(name) (sequence, recorded_at, previous, checksum, changed and request_… are "
                        + "set by the cluster): leave the column out"
                )
            }
        }
        guard actor.isEmpty || !seen.contains("actor") else {
            throw ClientError(.badInput, "either a column actor or columns actor_…, not both")
        }
        if requiresAll, let missing = Self.needed.first(where: { !seen.contains($0) }) {
            throw ClientError(.badInput, "every event needs \(missing): there is no such column")
        }
        guard organizationColumn != nil || organization != nil else {
            throw ClientError(.badInput, "of which organization? give --org, or a column organization")
        }
        self.members = members
        self.actor = actor
        self.organizationColumn = organizationColumn
        self.organization = organization
    }

    private static func source(_ column: Int, _ name: String, _ kind: Kind) -> Source {
        Source(column: column, name: name, label: Array("\"\(name)\":".utf8), kind: kind)
    }

    /// The rows as lines of JSON, each ended by a line feed; the same rows give the same bytes.
    /// - Parameter firstRow: The number of the first row in the input, for messages.
    /// - Throws: ``ClientError`` `.badInput` with the row.
    package func lines(_ batch: ArrowRecordBatch, firstRow: Int) throws(ClientError) -> [UInt8] {
        var bytes: [UInt8] = []
        for row in 0..<batch.rowCount {
            try self.appendLine(batch, row, firstRow + row, to: &bytes)
            bytes.append(UInt8(ascii: "\n"))
        }
        return bytes
    }

    /// One row as JSON on one line, without a line feed.
    /// - Parameter number: The number of the row in the input, for messages.
    /// - Throws: ``ClientError`` `.badInput` with the row.
    func line(_ batch: ArrowRecordBatch, _ row: Int, number: Int) throws(ClientError) -> [UInt8] {
        var bytes: [UInt8] = []
        try self.appendLine(batch, row, number, to: &bytes)
        return bytes
    }

    private func appendLine(
        _ batch: ArrowRecordBatch,
        _ row: Int,
        _ number: Int,
        to bytes: inout [UInt8]
    ) throws(ClientError) {
        bytes += "{\"organization\":".utf8
        bytes += try self.organizationText(batch, row, number)
        for source in self.members where !batch.isNull(row: row, column: source.column) {
            bytes.append(UInt8(ascii: ","))
            bytes += source.label
            try self.append(source, batch, row, number, to: &bytes)
        }
        let actor = self.actor.filter { !batch.isNull(row: row, column: $0.column) }
        if !actor.isEmpty {
            bytes += ",\"actor\":".utf8
            for (place, source) in actor.enumerated() {
                bytes.append(place == 0 ? UInt8(ascii: "{") : UInt8(ascii: ","))
                bytes += source.label
                try self.append(source, batch, row, number, to: &bytes)
            }
            bytes.append(UInt8(ascii: "}"))
        }
        bytes.append(UInt8(ascii: "}"))
    }

    private func append(
        _ source: Source,
        _ batch: ArrowRecordBatch,
        _ row: Int,
        _ number: Int,
        to bytes: inout [UInt8]
    ) throws(ClientError) {
        let column = batch.columns[source.column]
        let isJSON = source.kind == .document && column.type == .utf8
        if isJSON, let text = batch.utf8(row: row, column: source.column) {
            // A text that is more than one value would bring members of its own.
            do { _ = try JSONParser.parse(text) } catch {
                throw ClientError(.badInput, "row \(number): \(source.name) is not JSON: \(error)")
            }
        }
        column.appendJSON(row, isJSON: isJSON, to: &bytes)
    }

    private func organizationText(
        _ batch: ArrowRecordBatch,
        _ row: Int,
        _ number: Int
    ) throws(ClientError) -> [UInt8] {
        guard let column = self.organizationColumn, !batch.isNull(row: row, column: column) else {
            guard let organization = self.organization else {
                throw ClientError(.badInput, "row \(number) names no organization")
            }
            // A key needs no escapes.
            return Array("\"\(organization)\"".utf8)
        }
        guard let key = batch.string(row: row, column: column).flatMap({ OrganizationKey($0) }) else {
            throw ClientError(.badInput, "row \(number): the key of the organization is malformed")
        }
        return Array("\"\(key)\"".utf8)
    }
}
