internal import AuditLedger
internal import AuditPackage
internal import Foundation
internal import Laboratory
internal import NIOCore
internal import NIOFoundationCompat
internal import Primitives
internal import Shards
internal import SwiftProtobuf

/// What one node asks another to make a package of; canonical JSON in a bytes message.
struct PackageOrder {
    let message: Google_Protobuf_BytesValue

    /// Bytes of an order: most are ranges.
    private static let bytesMax = 16 << 20

    /// - Throws: ``Problem`` `.resultTooLarge`.
    init(_ request: PackageRequest, of entry: OrganizationEntry) throws(Problem) {
        func text(_ bytes: [UInt8]) -> JSONValue { .string(bytes) }
        var members = [
            JSONMember("checkpoint", text(request.checkpoint.encoded)),
            JSONMember("cluster", .text(request.cluster)),
            JSONMember("exported_at", .text(request.exportedAt.description)),
            JSONMember("filters", .object(request.filters)),
            JSONMember("id", Self.number(UInt64(entry.id.rawValue))),
            JSONMember("keys", text(PackageKey.encode(request.keys))),
            JSONMember("organization", .text(request.organization.rawValue)),
            JSONMember("policy", text(request.policy.encoded)),
        ]
        let by = request.exportedBy
        members.append(
            JSONMember(
                "by",
                .array([by.kind.rawValue, by.id, by.name ?? "", by.role ?? ""].map { .text($0) })
            )
        )
        if let earlier = request.earlier { members.append(JSONMember("earlier", text(earlier.encoded))) }
        if let range = request.range {
            members.append(JSONMember("range", Self.pair(range.lowerBound, range.upperBound)))
        }
        if let record = request.record {
            let pair = JSONValue.array([Self.number(record.sequence.rawValue), .text(record.checksum.hex)])
            members.append(JSONMember("record", pair))
        }
        let supplement = request.supplement
        if !supplement.isEmpty {
            members.append(
                JSONMember("openings", .array(supplement.openings.compactMap(\.line).map { .string($0) }))
            )
            members.append(JSONMember("erasures", .array(supplement.erasures.map { Self.number($0) })))
            members.append(JSONMember("scrubs", .array(supplement.scrubs.map { .string($0) })))
            members.append(JSONMember("forks", .array(supplement.forks.map { .string($0) })))
        }
        if case .ranges(let ranges) = request.selection {
            members.append(JSONMember("ranges", .array(ranges.map { Self.pair($0.lowerBound, $0.upperBound) })))
        }
        let bytes = CanonicalJSON.encode(.object(members))
        guard bytes.count < Self.bytesMax else {
            throw Problem(.resultTooLarge, "the filters find too many separate stretches of records for another node")
        }
        self.message = Google_Protobuf_BytesValue.with { $0.value = Data(bytes) }
    }

    private static func number(_ value: UInt64) -> JSONValue {
        JSONNumber(Int64(clamping: value)).map { .number($0) } ?? .null
    }

    private static func pair(_ first: UInt64, _ last: UInt64) -> JSONValue {
        .array([self.number(first), self.number(last)])
    }

    /// Reads an order, and finds the organization here.
    static func read(
        _ body: ByteBuffer,
        directory: ShardDirectory
    ) throws -> (PackageRequest, OrganizationEntry) {
        let bytes = try Google_Protobuf_BytesValue(serializedBytes: Data(buffer: body)).value
        let limits = JSONLimits(bytesMax: Self.bytesMax, valuesMax: ExportService.rangesMax * 3 + 1000)
        let order = JSONPlace(try JSONParser.parse(Array(bytes), limits: limits))
        let malformed = Problem(.invalidField, "the order is malformed")
        let by = try order.array("by").map { try $0.string() }
        guard let entry = OrganizationKey(try order.string("organization")).flatMap({ directory.organization($0) }),
            Int64(entry.id.rawValue) == (try order.integer("id")), by.count == 4, let kind = ActorKind(rawValue: by[0]),
            let time = Timestamp(try order.string("exported_at"))
        else { throw malformed }
        var request = PackageRequest(
            cluster: try order.string("cluster"),
            organization: entry.key,
            checkpoint: try SignedCheckpoint(parsing: try order.string("checkpoint").utf8),
            policy: try TrustPolicy(parsing: try order.string("policy").utf8),
            keys: try PackageKey.parse(Array(try order.string("keys").utf8)),
            exportedBy: Actor(
                kind: kind,
                id: by[1],
                name: by[2].isEmpty ? nil : by[2],
                role: by[3].isEmpty ? nil : by[3]
            ),
            exportedAt: time,
            node: ""
        )
        request.filters = try order.required("filters").object()
        request.earlier = try order.optional("earlier").map { try SignedCheckpoint(parsing: try $0.string().utf8) }
        request.range = try order.optional("range").map { try self.range($0) }
        if let record = try order.optional("record")?.array() {
            guard record.count == 2, let checksum = Digest(hex: try record[1].string()) else { throw malformed }
            request.record = PackageManifest.ExportRecord(
                sequence: SequenceNumber(UInt64(clamping: try record[0].integer())),
                checksum: checksum
            )
        }
        request.supplement = try self.supplement(order)
        if let ranges = try order.optional("ranges") {
            request.selection = .ranges(try ranges.array().map { try self.range($0) })
        }
        return (request, entry)
    }

    /// What stands beside the records; a node of an earlier release sends none.
    private static func supplement(_ order: JSONPlace) throws -> PackageSupplement {
        func texts(_ name: String) throws -> [[UInt8]] {
            try order.optional(name)?.array().map { Array(try $0.string().utf8) } ?? []
        }
        var supplement = PackageSupplement()
        supplement.openings = try texts("openings").map { line in
            guard let opening = PackageSupplement.Opening(line) else {
                throw Problem(.invalidField, "the order is malformed")
            }
            return opening
        }
        supplement.erasures = try order.optional("erasures")?.array().map { UInt64(clamping: try $0.integer()) } ?? []
        supplement.scrubs = try texts("scrubs")
        supplement.forks = try texts("forks")
        return supplement
    }

    private static func range(_ place: JSONPlace) throws -> ClosedRange<UInt64> {
        let ends = try place.array().map { UInt64(clamping: try $0.integer()) }
        guard ends.count == 2, ends[0] <= ends[1] else {
            throw Problem(.invalidField, "the order is malformed")
        }
        return ends[0]...ends[1]
    }
}
