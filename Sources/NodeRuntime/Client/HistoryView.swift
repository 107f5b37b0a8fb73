package import AuditLedger
internal import HTTPTypes
internal import NIOCore
internal import Transport

/// One line of the answer to `POST /v1/audit/rebuild`.
package struct RebuildView: Sendable, Decodable, Equatable {
    package struct Replica: Sendable, Decodable, Equatable {
        package var node: Int
        package var status: String
        package var size: Int?
        package var entities: Int?
        package var root: String?
        package var storedRoot: String?
        package var ledgerState: String?
        package var columnarState: String?
        package var entitiesState: String?
        package var ledgerHistory: String?
        package var columnarHistory: String?
        package var detail: String?

        /// What is wrong, in words; nil when nothing is.
        var fault: String? {
            if self.status == "ok" { return nil }
            if let detail = self.detail { return detail }
            if self.root != self.storedRoot { return "its records fold to another root than the stored one" }
            if self.ledgerState != self.columnarState {
                return "the columnar store's rows fold to another state than the ledger"
            }
            if self.ledgerState != self.entitiesState { return "the rows of entities are not what the ledger folds to" }
            if self.ledgerHistory != self.columnarHistory {
                return "the rows of entity_history are not the states that the ledger gives"
            }
            return "the answer says it failed"
        }
    }

    /// The last line: how many organizations there were.
    package struct Summary: Sendable, Decodable, Equatable {
        package var organizations: Int
    }

    package var organization: String?
    package var status: String?
    package var replicas: [Replica]?
    package var summary: Summary?

    package var isGood: Bool {
        self.status == "ok" && self.replicas?.isEmpty == false && (self.replicas ?? []).allSatisfy { $0.status == "ok" }
    }
}

/// What rebuilding came to, as text.
package struct RebuildSummary: Sendable {
    package private(set) var organizations: [RebuildView] = []

    package init() {}

    /// How many organizations the answer says it has; nil when it broke off.
    private var announced: Int?

    package mutating func add(_ view: RebuildView) {
        if let summary = view.summary { self.announced = summary.organizations }
        if view.organization != nil { self.organizations.append(view) }
    }

    /// True when the answer was complete and nothing is wrong.
    package var isGood: Bool {
        self.announced == self.organizations.count && self.organizations.allSatisfy(\.isGood)
    }

    /// One row an organization, then what is wrong, then one line that sums up.
    package var text: String {
        var table = TextTable(
            columns: ["organization", "records", "entities", "state", "replicas", "result"],
            right: [1, 2]
        )
        var faults: [String] = []
        for view in self.organizations.sorted(by: { ($0.organization ?? "") < ($1.organization ?? "") }) {
            let (name, replicas) = (view.organization ?? "", view.replicas ?? [])
            let first = replicas.first { $0.status == "ok" } ?? replicas.first
            table.append([
                name, Grouped.number(first?.size ?? 0), Grouped.number(first?.entities ?? 0),
                String((first?.ledgerState ?? "").prefix(16)),
                "\(replicas.count { $0.status == "ok" }) of \(replicas.count)",
                view.isGood ? "ok" : "FAILED",
            ])
            let found = replicas.compactMap { replica in
                replica.fault.map { "organization \(name), node \(replica.node): \($0)" }
            }
            faults +=
                found.isEmpty && !view.isGood
                ? ["organization \(name): the replicas fold to different states"] : found
        }
        var text = table.isEmpty ? "no organization to rebuild\n" : table.rendered()
        for fault in faults { text += "\(fault)\n" }
        let count = self.organizations.count
        let end = self.isGood ? "all replicas fold to what they store" : "NOT all replicas fold to what they store"
        return text + "\(count) organization\(count == 1 ? "" : "s"): \(end)\n"
    }
}

extension ClusterClient {
    /// Reads a resource of an organization, as JSON.
    /// - Parameter path: Parts after the organization's key, not yet encoded.
    package func organizationResource(
        _ organization: String,
        path: [String],
        parameters: [(String, String)]
    ) async throws -> [UInt8] {
        let parts = ["", "v1", "organizations", organization] + path
        let target = parts.map { APIRequest.encoded($0) }.joined(separator: "/")
        var request = APIRequest(.get, APIRequest.target(target, parameters))
        request.timeout = Self.verificationTimeout
        return try await self.send(request).bytes
    }

    /// Has every replica fold its ledger into an empty state; `onLine` gets each organization's answer as it comes.
    package func rebuild(
        organizations: [String],
        onLine: (_ json: [UInt8], _ view: RebuildView) throws -> Void
    ) async throws {
        let body =
            organizations.isEmpty
            ? "{}" : "{\"organizations\":[\(organizations.map(JSONText.quoted).joined(separator: ","))]}"
        try await self.readLines("/v1/audit/rebuild", body, brokenOff: "rebuilding broke off", onLine: onLine)
    }
}

/// Text for people of the answers about states and differences.
package enum HistoryText {
    /// One entity, its state as indented JSON.
    package static func entity(_ bytes: [UInt8]) throws(JSONError) -> String {
        let place = JSONPlace(try JSONParser.parse(bytes))
        var text = "\(try place.string("entity_type"))/\(try place.string("entity_id")): \(try place.string("status"))"
        text += ", version \(try place.integer("version")), records \(try place.integer("first_sequence"))"
        text += " to \(try place.integer("last_sequence"))\n"
        text += "last: \(try place.string("last_action")) by \(try place.string("last_actor"))"
        text += " at \(try place.string("last_recorded_at"))\n"
        return text + self.indented(try place.required("state").value, depth: 0) + "\n"
    }

    /// A page of an organization's entities.
    package static func entities(_ bytes: [UInt8]) throws(JSONError) -> String {
        let place = JSONPlace(try JSONParser.parse(bytes, limits: ClusterClient.historyLimits))
        var table = TextTable(
            columns: ["entity", "status", "version", "last", "action", "actor", "state"],
            right: [2, 3]
        )
        for entity in try place.array("entities") {
            table.append([
                "\(try entity.string("entity_type"))/\(try entity.string("entity_id"))", try entity.string("status"),
                String(try entity.integer("version")), String(try entity.integer("last_sequence")),
                try entity.string("last_action"), try entity.string("last_actor"),
                self.short(try entity.required("state").value),
            ])
        }
        let total = try place.integer("entities_total")
        let end = "\(total) entit\(total == 1 ? "y" : "ies") after record \(try place.integer("sequence"))"
        let more = try place.optionalString("next") == nil ? "" : "; more with --after (see --format json)"
        return table.rendered() + end + ", state \(try place.string("state_digest").prefix(16))\(more)\n"
    }

    /// Differences of one entity, or of all those of an organization.
    package static func differences(_ bytes: [UInt8]) throws(JSONError) -> String {
        let place = JSONPlace(try JSONParser.parse(bytes, limits: ClusterClient.historyLimits))
        let entities = try place.optional("entities")?.array() ?? [place]
        var table = TextTable(columns: ["entity", "place", "from", "to"])
        for entity in entities {
            let name = "\(try entity.string("entity_type"))/\(try entity.string("entity_id"))"
            let from = try entity.optionalString("from_status") ?? "-"
            let to = try entity.optionalString("to_status") ?? "-"
            if from != to { table.append([name, "(status)", from, to]) }
            for change in try entity.array("changes") {
                table.append([
                    name, try change.string("path"),
                    try change.optional("from").map { self.short($0.value) } ?? "-",
                    try change.optional("to").map { self.short($0.value) } ?? "-",
                ])
            }
        }
        return table.isEmpty ? "no difference\n" : table.rendered()
    }

    private static let shortBytesMax = 80

    private static func short(_ value: JSONValue) -> String {
        let text = CanonicalJSON.encode(value)
        guard text.count > self.shortBytesMax else { return String(decoding: text, as: UTF8.self) }
        return String(decoding: text, as: UTF8.self).prefix(self.shortBytesMax - 1) + "…"
    }

    private static func indented(_ value: JSONValue, depth: Int) -> String {
        guard case .object(let members) = value, !members.isEmpty else {
            return String(decoding: CanonicalJSON.encode(value), as: UTF8.self)
        }
        let space = String(repeating: "  ", count: depth + 1)
        let lines = members.map { member in
            let key = String(decoding: CanonicalJSON.encode(.string(member.key)), as: UTF8.self)
            return "\(space)\(key): \(self.indented(member.value, depth: depth + 1))"
        }
        return "{\n" + lines.joined(separator: ",\n") + "\n" + String(repeating: "  ", count: depth) + "}"
    }
}

extension ClusterClient {
    static var historyLimits: JSONLimits {
        JSONLimits(bytesMax: Self.answerBytesMax, depthMax: 80, valuesMax: 1 << 22)
    }
}
