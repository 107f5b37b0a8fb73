internal import AuditLedger
internal import HTTPTypes
internal import NIOCore

/// Which records `ftnode audit log` asks for.
package struct AuditLogQuery: Sendable {
    package var organization: String
    /// Filters of the API by name, in the order given.
    package var filters: [(String, String)]
    package var isDescending = false
    /// Most records in all; nil for every one.
    package var limit: Int?
    /// The investigation that chooses the records; nil for the filters alone.
    package var investigation: String?

    package init(organization: String, filters: [(String, String)]) {
        self.organization = organization
        self.filters = filters
    }
}

/// One record of the ledger as `ftnode audit log` shows it.
package struct AuditLogRow: Sendable, Equatable {
    /// Columns of the table and of CSV.
    package static let columns = [
        "sequence", "recorded_at", "actor", "action", "entity_type", "entity_id", "severity", "outcome", "reason",
        "before", "after", "checksum",
    ]
    /// The columns a terminal has room for.
    package static let tableColumns = [
        "sequence", "recorded_at", "actor", "action", "entity", "severity", "outcome", "reason",
    ]

    /// Texts by column; absent members are empty.
    package var values: [String: String]
    /// The answer's element, canonical JSON.
    package var json: [UInt8]

    /// The cells of ``tableColumns``.
    package var tableCells: [String] {
        Self.tableColumns.map { column in
            column == "entity"
                ? "\(self.values["entity_type"] ?? "")/\(self.values["entity_id"] ?? "")" : self.values[column] ?? ""
        }
    }

    /// The cells of ``columns``.
    package var csvCells: [String] { Self.columns.map { self.values[$0] ?? "" } }

    init(_ place: JSONPlace) throws(JSONError) {
        let record = try place.required("record")
        var values: [String: String] = ["checksum": try place.string("checksum")]
        for member in try record.object() {
            let key = String(decoding: member.key, as: UTF8.self)
            switch member.value {
            case .string(let bytes): values[key] = String(decoding: bytes, as: UTF8.self)
            case .null: continue
            default:
                let name = key == "actor" ? member.value["name"] ?? member.value["id"] : nil
                if case .string(let bytes) = name {
                    values[key] = String(decoding: bytes, as: UTF8.self)
                } else {
                    values[key] = String(decoding: CanonicalJSON.encode(member.value), as: UTF8.self)
                }
            }
        }
        self.values = values
        self.json = CanonicalJSON.encode(place.value)
    }
}

extension ClusterClient {
    /// Records of one page of the API.
    private static let pageRecordsMax = 1000

    /// Pages through the records that `query` asks for, in order.
    /// - Parameter body: Called with each page; holds back the next one until it returns.
    /// - Returns: How many records there were.
    package func auditLog(_ query: AuditLogQuery, _ body: ([AuditLogRow]) throws -> Void) async throws -> Int {
        var cursor: String?
        var count = 0
        repeat {
            let wanted = min(Self.pageRecordsMax, query.limit.map { $0 - count } ?? Self.pageRecordsMax)
            guard wanted > 0 else { break }
            var items = query.filters
            items.append(("order", query.isDescending ? "desc" : "asc"))
            items.append(("limit", String(wanted)))
            if let cursor { items.append(("cursor", cursor)) }
            let part = query.investigation.map { "investigations/\(APIRequest.encoded($0))" } ?? "records"
            let path = "/v1/organizations/\(APIRequest.encoded(query.organization))/\(part)"
            let bytes = try await self.send(APIRequest(.get, APIRequest.target(path, items))).bytes
            let page: (rows: [AuditLogRow], next: String?)
            do throws(JSONError) {
                let place = JSONPlace(try JSONParser.parse(bytes, limits: Self.pageLimits))
                page = (
                    try place.required("records").array().map { (element) throws(JSONError) in
                        try AuditLogRow(element)
                    },
                    try place.optionalString("next")
                )
            } catch {
                throw ClientError(.unexpectedAnswer, "the page of records cannot be read", cause: error)
            }
            try body(page.rows)
            count += page.rows.count
            cursor = page.next
        } while cursor != nil
        return count
    }

    private static var pageLimits: JSONLimits {
        JSONLimits(bytesMax: Self.answerBytesMax, depthMax: 80, valuesMax: 1 << 22)
    }
}
