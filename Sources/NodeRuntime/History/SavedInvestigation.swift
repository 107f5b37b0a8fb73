internal import AuditLedger
internal import Laboratory
internal import Primitives
internal import Shards

/// A set of filters that somebody keeps under a name for everybody in the organization.
///
/// It lives in the organization's ledger as the entity `investigation/NAME`, whose state folding gives: who made, changed
/// and deleted it is on record, and it is as durable and as old as any other record.
struct SavedInvestigation: Sendable, Hashable {
    static let entityType = "investigation"
    static let nameBytesMax = 64
    static let titleBytesMax = 200
    /// Those that one organization keeps.
    static let countMax = 200
    static let valueBytesMax = 1024

    let name: String
    let title: String
    /// Parameters of a listing of records, by name.
    let filters: [(name: String, value: String)]

    static func == (left: Self, right: Self) -> Bool {
        left.name == right.name && left.title == right.title
            && left.filters.elementsEqual(right.filters) { $0 == $1 }
    }

    func hash(into hasher: inout Hasher) { hasher.combine(self.name) }

    /// Whether it can be kept under this name: 1–64 of a-z, 0-9 and `-`, and none that the product has.
    static func isFree(_ name: String) -> Bool {
        (1...self.nameBytesMax).contains(name.utf8.count)
            && name.utf8.allSatisfy { (0x61...0x7A).contains($0) || (0x30...0x39).contains($0) || $0 == 0x2D }
            && !Investigation.all.contains { $0.name == name }
    }

    /// Reads what a client sends.
    /// - Throws: ``Problem`` or ``JSONError`` that names the member.
    init(_ object: JSONPlace) throws {
        let name = try object.string("name")
        guard Self.isFree(name) else {
            throw Problem(
                .invalidField,
                "a name has 1 to \(Self.nameBytesMax) of a-z, 0-9 and -, and is none of the built-in ones",
                members: [.text("pointer", "/name")]
            )
        }
        let title = try object.optionalString("title") ?? ""
        guard title.utf8.count <= Self.titleBytesMax else {
            throw Problem(
                .invalidField,
                "a title has at most \(Self.titleBytesMax) bytes",
                members: [.text("pointer", "/title")]
            )
        }
        try self.init(name: name, title: title, filters: try object.required("filters"))
    }

    /// Reads what a ledger's records say of it; nil when that is no set of filters.
    init?(_ state: EntityState) {
        guard state.status == .present, state.name.type.elementsEqual(Self.entityType.utf8) else { return nil }
        let place = JSONPlace(state.value)
        let name = String(decoding: state.name.id, as: UTF8.self)
        guard Self.isFree(name), let filters = try? place.required("filters"),
            let title = try? place.optionalString("title") ?? "",
            let made = try? Self(name: name, title: title, filters: filters)
        else { return nil }
        self = made
    }

    private init(name: String, title: String, filters: JSONPlace) throws {
        self.name = name
        self.title = title
        var read: [(name: String, value: String)] = []
        for member in try filters.object() {
            let key = String(decoding: member.key, as: UTF8.self)
            let value = try filters.string(key)
            guard RecordSearch.filterParameters.contains(key), value.utf8.count <= Self.valueBytesMax else {
                throw Problem(
                    .invalidField,
                    "filters are \(RecordSearch.filterParameters.joined(separator: ", ")), "
                        + "each with at most \(Self.valueBytesMax) bytes",
                    members: [.text("pointer", "/filters/\(key)")]
                )
            }
            read.append((key, value))
        }
        guard !read.isEmpty else {
            throw Problem(.invalidField, "at least one filter is needed", members: [.text("pointer", "/filters")])
        }
        self.filters = read.sorted { $0.name < $1.name }
    }

    /// The request as if it had these filters too.
    /// - Throws: ``Problem`` when it names one of them itself.
    func applied(to request: APICall) throws(Problem) -> APICall {
        if let filter = self.filters.first(where: { request.parameter($0.name) != nil }) {
            throw Problem(.invalidParameter, "\(filter.name) is fixed by the investigation \"\(self.name)\"")
        }
        return APICall(
            id: request.id,
            head: request.head,
            token: request.token,
            connection: request.connection,
            parameters: request.parameters + self.filters
        )
    }

    /// What the record says in `after`.
    var value: JSONValue {
        .object([
            JSONMember("filters", .object(self.filters.map { JSONMember($0.name, .text($0.value)) })),
            JSONMember("title", .text(self.title)),
        ])
    }
}
