internal import AuditLedger
internal import AuditPackage
internal import Crypto
internal import HTTPTypes
internal import Laboratory
internal import NIOCore
internal import Primitives
internal import Shards
internal import Synchronization
internal import Transport

/// What an export leaves in the ledger: a record before its first byte, and one before its last.
extension ExportService {
    /// Data subjects that a record names one by one.
    static let subjectsNamedMax = 200

    /// The record of the export, before anything leaves; opened personal values get one of their own.
    /// - Returns: Nil while the cluster's ledger takes no such record (below feature level 4).
    func putOnRecord(_ prepared: Prepared, _ request: APICall) async throws -> PackageManifest.ExportRecord? {
        let tree = prepared.checkpoint.checkpoint
        var after: [JSONMember] = []
        if let columns = prepared.call.columns {
            after.append(JSONMember("columns", .array(columns.map { .text($0) })))
        }
        after += [
            JSONMember("filters", .object(prepared.call.filters)),
            JSONMember("first", Self.number(prepared.range.lowerBound)),
            JSONMember("format", .text(prepared.call.format.rawValue)),
            JSONMember("last", Self.number(prepared.range.upperBound)),
            JSONMember("records", Self.number(prepared.count)),
            JSONMember("root", .text(tree.root.hex)),
            JSONMember("size", Self.number(tree.size)),
        ]
        if prepared.call.opensPersonal {
            after.append(JSONMember("personal_values", Self.number(UInt64(prepared.supplement.openings.count))))
        }
        var events = [self.event("export", prepared, after, severity: .notice)]
        if prepared.call.opensPersonal {
            let subjects = Set(prepared.supplement.openings.map(\.field.subject)).sorted()
            let named = subjects.prefix(Self.subjectsNamedMax).map { JSONValue.text($0) }
            events.append(
                self.event(
                    "read_sensitive",
                    prepared,
                    [
                        JSONMember("subjects", .array(named)),
                        JSONMember("subjects_total", Self.number(UInt64(subjects.count))),
                    ],
                    severity: .notice
                )
            )
        }
        return try await self.append(events, prepared, request, mayRepeat: false)
    }

    /// The body, and before its end a record of its SHA-256 and size: without that record it does not end well.
    func accounted(_ response: ServerResponse, _ prepared: Prepared, _ request: APICall) -> ServerResponse {
        var response = response
        let body = response.body
        response.body = .stream { writer in
            let account = ExportAccount()
            let observed = writer.observed(by: account.add)
            var trailers: HTTPFields?
            switch body {
            case .empty: break
            case .bytes(let bytes): try await observed.write(bytes)
            case .stream(let write): trailers = try await write(observed)
            }
            let (digest, size) = account.total
            var after = [
                JSONMember("format", .text(prepared.call.format.rawValue)),
                JSONMember("sha256", .text(digest)),
                JSONMember("size", Self.number(size)),
            ]
            if let record = prepared.record {
                after.append(JSONMember("export", Self.number(record.sequence.rawValue)))
            }
            // Recorded twice does less harm than not at all.
            let event = self.event("export_completed", prepared, after, severity: .info)
            _ = try await self.append([event], prepared, request, mayRepeat: true)
            return trailers
        }
        return response
    }

    private func event(
        _ action: String,
        _ prepared: Prepared,
        _ after: [JSONMember],
        severity: Severity
    ) -> [UInt8] {
        CanonicalJSON.encode(
            .object([
                JSONMember("action", .text(action)),
                JSONMember("after", .object(after)),
                JSONMember("entity_id", .text(prepared.entry.key.rawValue)),
                JSONMember("entity_type", .text("organization")),
                JSONMember("severity", .text(severity.rawValue)),
            ])
        )
    }

    /// - Returns: Where the first record stands.
    private func append(
        _ events: [[UInt8]],
        _ prepared: Prepared,
        _ request: APICall,
        mayRepeat: Bool
    ) async throws -> PackageManifest.ExportRecord? {
        let level = self.directory.featureLevel
        let isSystem = prepared.entry.key == SystemState.ledgerKey
        guard !isSystem || level >= .four else { return nil }
        let context = EventContext(
            organization: prepared.entry.key,
            request: request.recordInfo,
            defaultActor: prepared.by,
            format: level >= .three ? .second : .first
        )
        let drafts = try events.map { try EventDraft.parse($0, defaults: context) }
        let command: Command =
            isSystem
            ? .appendToSystem(drafts[0])
            : .append(AppendCommand(organization: prepared.entry.id, idempotency: nil, drafts: drafts))
        switch try await self.gateway.submit(command, to: prepared.entry.group, mayRepeat: mayRepeat) {
        case .appended(let receipt):
            return PackageManifest.ExportRecord(sequence: receipt.firstSequence, checksum: receipt.checksums[0])
        case .refused(let refusal): throw Problem(refusal: refusal)
        default: throw Problem(refusal: .malformed)
        }
    }
}

/// Counts and hashes what leaves.
private final class ExportAccount: Sendable {
    private let state = Mutex((hash: SHA256(), size: UInt64(0)))

    func add(_ bytes: ByteBuffer) {
        self.state.withLock { state in
            bytes.withUnsafeReadableBytes { state.hash.update(bufferPointer: $0) }
            state.size += UInt64(bytes.readableBytes)
        }
    }

    var total: (digest: String, size: UInt64) {
        self.state.withLock { (Hex.encode(Array($0.hash.finalize())), $0.size) }
    }
}
