internal import AuditLedger
internal import AuditPackage
internal import Columnar
internal import Consensus
internal import Foundation
internal import HTTPTypes
internal import Laboratory
internal import NIOCore
internal import Primitives
internal import QueryRouter
internal import Shards
internal import Storage
internal import Synchronization
internal import Transport

/// Exports records of an organization: chooses a checkpoint and the records, puts the export itself on record, and
/// streams what was asked for.
///
/// Any node can be asked. A package is made where a replica is; see ``PackageMaker``.
struct ExportService: Sendable {
    /// What is known before the first byte is sent.
    struct Prepared: Sendable {
        let call: ExportCall
        let entry: OrganizationEntry
        let checkpoint: SignedCheckpoint
        let range: ClosedRange<UInt64>
        /// Nil for every record up to the checkpoint.
        let ranges: [ClosedRange<UInt64>]?
        let by: Actor
        let requestID: String
        let at: Timestamp
        let record: PackageManifest.ExportRecord?
        let supplement: PackageSupplement

        /// The number of records.
        var count: UInt64 {
            self.ranges?.reduce(0) { $0 + UInt64($1.count) } ?? self.checkpoint.checkpoint.size
        }
    }

    /// Most separate stretches of records in one export.
    static let rangesMax = 1_000_000
    /// Records that are read and sent at once in the forms that are no package.
    static let pageRecords = 500
    /// Bytes that are sent at once.
    static let chunkBytes = 1 << 20

    let configuration: NodeConfiguration
    let directory: ShardDirectory
    let filter: RecordFilter
    let records: RecordReader
    let checkpoints: CheckpointReader
    let queries: QueryService
    let audit: NodeAudit
    let gateway: CommandGateway
    let maker: PackageMaker
    let supplements: SupplementReader

    /// - Throws: ``Problem`` and what reading and proposing throw.
    func answer(_ call: ExportCall, _ entry: OrganizationEntry, _ request: APICall) async throws -> ServerResponse {
        let slot = try self.maker.slots.take()
        let prepared = try await self.prepare(call, entry, request)
        var response = self.accounted(try await self.respond(prepared, slot), prepared, request)
        response.head.headerFields[.contentDisposition] = "attachment; filename=\"\(Self.fileName(prepared))\""
        response.head.headerFields[.exportManifest] = String(decoding: self.summary(prepared), as: UTF8.self)
        return response
    }

    private static func fileName(_ prepared: Prepared) -> String {
        let end = prepared.call.format == .package ? "zip" : prepared.call.format.rawValue
        return "audit-\(prepared.entry.key)-\(prepared.range.lowerBound)-\(prepared.range.upperBound).\(end)"
    }

    // MARK: Before the first byte

    private func prepare(
        _ call: ExportCall,
        _ entry: OrganizationEntry,
        _ request: APICall
    ) async throws -> Prepared {
        let signed = try await self.checkpoint(call.size, entry)
        let size = signed.checkpoint.size
        guard size > 0 else { throw Problem(.recordNotFound, "organization \(entry.key) has no records") }
        if let since = call.since, since > size {
            throw Problem(.invalidParameter, "since is larger than the checkpoint of \(size) records")
        }
        let range = try call.range(size: size)
        let ranges = try await self.ranges(call, entry, range)
        let by = Actor(
            kind: .apiKey,
            id: request.token.id,
            name: request.token.name.isEmpty ? nil : request.token.name,
            role: request.token.grant.role.rawValue
        )
        var supplement = PackageSupplement()
        if call.format == .package {
            supplement = try await self.supplements.supplement(
                of: entry,
                ranges: ranges ?? [range],
                size: size,
                opensPersonal: call.opensPersonal
            )
        }
        var prepared = Prepared(
            call: call,
            entry: entry,
            checkpoint: signed,
            range: range,
            ranges: ranges,
            by: by,
            requestID: request.id,
            at: SystemTime.now(),
            record: nil,
            supplement: supplement
        )
        prepared = prepared.recorded(as: try await self.putOnRecord(prepared, request))
        return prepared
    }

    private func checkpoint(_ size: UInt64?, _ entry: OrganizationEntry) async throws -> SignedCheckpoint {
        let note: [UInt8]
        if let size {
            note = try await self.checkpoints.answer(.checkpoint(size: size), about: entry).body
        } else {
            note = try await self.checkpoints.fresh(entry).note
        }
        do {
            return try SignedCheckpoint(parsing: note)
        } catch {
            throw Problem(.shardUnavailable, "the stored checkpoint cannot be read", cause: error)
        }
    }

    /// The stretches of records that the filters find; nil for all.
    private func ranges(
        _ call: ExportCall,
        _ entry: OrganizationEntry,
        _ range: ClosedRange<UInt64>
    ) async throws -> [ClosedRange<UInt64>]? {
        if call.isWhole { return nil }
        guard call.search.hasFilter else { return [range] }
        var ranges: [ClosedRange<UInt64>] = []
        var cursor = SequenceNumber(range.lowerBound)
        var isFirst = true
        while cursor.rawValue <= range.upperBound {
            let search = call.search.page(from: cursor, isLatest: isFirst)
            isFirst = false
            let found = try await self.filter.sequences(matching: search, in: entry)
            for sequence in found where sequence.rawValue <= range.upperBound {
                if let last = ranges.last, last.upperBound + 1 == sequence.rawValue {
                    ranges[ranges.count - 1] = last.lowerBound...sequence.rawValue
                } else {
                    ranges.append(sequence.rawValue...sequence.rawValue)
                }
            }
            guard ranges.count <= Self.rangesMax else {
                throw Problem(
                    .resultTooLarge,
                    "the filters find more than \(Self.rangesMax) separate stretches of records"
                )
            }
            guard found.count == RecordSearch.limitMax, let last = found.last else { break }
            cursor = last.next
            try Task.checkCancellation()
        }
        return ranges
    }

    static func number(_ value: UInt64) -> JSONValue {
        JSONNumber(Int64(clamping: value)).map { .number($0) } ?? .null
    }

    /// What the header says of an export in any form.
    private func summary(_ prepared: Prepared) -> [UInt8] {
        let tree = prepared.checkpoint.checkpoint
        var exported = [
            JSONMember("at", .text(prepared.at.description)), JSONMember("by", .text(prepared.by.id)),
            JSONMember("node", .text("node-\(self.configuration.nodeID)")),
        ]
        if let record = prepared.record {
            exported.append(
                JSONMember(
                    "record",
                    .object([
                        JSONMember("checksum", .text(record.checksum.hex)),
                        JSONMember("sequence", Self.number(record.sequence.rawValue)),
                    ])
                )
            )
        }
        let text = CanonicalJSON.encode(
            .object([
                JSONMember("exported", .object(exported)),
                JSONMember("filters", .object(prepared.call.filters)),
                JSONMember("first", Self.number(prepared.range.lowerBound)),
                JSONMember("format", .text(prepared.call.format.rawValue)),
                JSONMember("last", Self.number(prepared.range.upperBound)),
                JSONMember("origin", .string(tree.origin.bytes)),
                JSONMember("records", Self.number(prepared.count)),
                JSONMember("root", .text(tree.root.hex)),
                JSONMember("size", Self.number(tree.size)),
            ])
        )
        // A header field is ASCII.
        return String(decoding: text, as: UTF8.self).utf16.flatMap { unit -> [UInt8] in
            guard unit >= 0x80 else { return [UInt8(unit)] }
            let digits = String(unit, radix: 16)
            return Array("\\u\(String(repeating: "0", count: 4 - digits.count))\(digits)".utf8)
        }
    }

    // MARK: Streaming

    private func respond(_ prepared: Prepared, _ slot: ExportSlots.Slot) async throws -> ServerResponse {
        switch prepared.call.format {
        case .package: return try await self.package(prepared, slot)
        case .ndjson: return self.lines(prepared, slot, isArray: false)
        case .json: return self.lines(prepared, slot, isArray: true)
        case .csv, .parquet: return try await self.table(prepared)
        }
    }

    private func package(_ prepared: Prepared, _ slot: ExportSlots.Slot) async throws -> ServerResponse {
        var request = PackageRequest(
            cluster: self.configuration.clusterID,
            organization: prepared.entry.key,
            checkpoint: prepared.checkpoint,
            policy: try self.policy(prepared),
            keys: try self.keys(),
            exportedBy: prepared.by,
            exportedAt: prepared.at,
            node: "node-\(self.configuration.nodeID)"
        )
        request.selection = prepared.ranges.map { .ranges($0) } ?? .all
        request.range = prepared.range
        request.filters = prepared.call.filters
        request.record = prepared.record
        request.supplement = prepared.supplement
        if let since = prepared.call.since {
            let note = try await self.checkpoints.answer(.checkpoint(size: since), about: prepared.entry).body
            request.earlier = try? SignedCheckpoint(parsing: note)
        }
        let body = try await self.maker.make(request, of: prepared.entry, slot)
        return ServerResponse(status: .ok, headerFields: [.contentType: "application/zip"], body: body)
    }

    private func policy(_ prepared: Prepared) throws -> TrustPolicy {
        let voters = self.directory.current.placement(of: prepared.entry.group)?.membership.voters ?? []
        do {
            return try self.audit.policy(of: prepared.checkpoint.checkpoint.origin, replicas: voters)
        } catch {
            throw Problem(.notSigning, "too few nodes have published a key for checkpoints", cause: error)
        }
    }

    private func keys() throws -> [PackageKey] {
        self.audit.book.all().sorted { $0.key < $1.key }.flatMap(\.value).map {
            PackageKey(key: $0.key, validFrom: $0.entry.validFrom, validTo: $0.entry.validTo)
        }
    }

    /// Records as they were hashed, a line each, or as an array beside what the header says.
    private func lines(_ prepared: Prepared, _ slot: ExportSlots.Slot, isArray: Bool) -> ServerResponse {
        let ranges = prepared.ranges ?? [prepared.range]
        let (records, entry, summary) = (self.records, prepared.entry, self.summary(prepared))
        return ServerResponse(
            status: .ok,
            headerFields: [.contentType: isArray ? "application/json" : "application/x-ndjson"],
            body: .stream { writer in
                defer { slot.giveBack() }
                var buffer = ByteBuffer()
                if isArray {
                    buffer.writeString("{\"manifest\":")
                    buffer.writeBytes(summary)
                    buffer.writeString(",\"records\":[")
                }
                var isFirst = true
                var pages = SequencePages(ranges: ranges)
                while let sequences = pages.next(count: Self.pageRecords) {
                    let page = try await records.read(.sequences(sequences), of: entry, isLatest: false)
                    guard page.records.count == sequences.count else {
                        throw Problem(.shardUnavailable, "this replica lacks records of the checkpoint")
                    }
                    for record in page.records {
                        if isArray, !isFirst { buffer.writeString(",\n") }
                        isFirst = false
                        buffer.writeBytes(record.bytes)
                        if !isArray { buffer.writeString("\n") }
                    }
                    try await writer.write(buffer)
                    buffer.clear()
                }
                if isArray { buffer.writeString("]}\n") }
                try await writer.write(buffer)
                return nil
            }
        )
    }

    /// The columns of `audit_log`, as a query gives them.
    private func table(_ prepared: Prepared) async throws -> ServerResponse {
        let range = prepared.range
        let conditions =
            ["sequence BETWEEN \(range.lowerBound) AND \(range.upperBound)"]
            + RecordFilter.conditions(prepared.call.search)
        return try await self.queries.run(
            sql: "SELECT \(prepared.call.selection) FROM audit_log WHERE "
                + "\(conditions.joined(separator: " AND ")) ORDER BY audit_log.sequence",
            organizations: [prepared.entry.key],
            consistency: .linearizable,
            format: prepared.call.format == .csv ? .csv : .parquet,
            by: QueryCaller(
                token: prepared.by.id,
                name: prepared.by.name ?? prepared.by.id,
                channel: .rest,
                requestID: prepared.requestID,
                seesReserved: true
            )
        )
    }
}

extension ExportService.Prepared {
    fileprivate func recorded(as record: PackageManifest.ExportRecord?) -> Self {
        Self(
            call: self.call,
            entry: self.entry,
            checkpoint: self.checkpoint,
            range: self.range,
            ranges: self.ranges,
            by: self.by,
            requestID: self.requestID,
            at: self.at,
            record: record,
            supplement: self.supplement
        )
    }
}

/// The sequences of some ranges, a few at a time.
struct SequencePages {
    private let ranges: [ClosedRange<UInt64>]
    private var place = 0
    private var next: UInt64

    init(ranges: [ClosedRange<UInt64>]) {
        self.ranges = ranges
        self.next = ranges.first?.lowerBound ?? 0
    }

    /// At most `count` further ones; nil at the end.
    mutating func next(count: Int) -> [SequenceNumber]? {
        var sequences: [SequenceNumber] = []
        while self.place < self.ranges.count, sequences.count < count {
            sequences.append(SequenceNumber(self.next))
            if self.next < self.ranges[self.place].upperBound {
                self.next += 1
            } else {
                self.place += 1
                if self.place < self.ranges.count { self.next = self.ranges[self.place].lowerBound }
            }
        }
        return sequences.isEmpty ? nil : sequences
    }
}
