internal import AuditLedger
package import Consensus
package import Primitives
internal import Storage

/// Where in a snapshot the next chunk begins.
package struct SnapshotCursor: Sendable {
    enum Phase: Sendable {
        case begin
        case organizations(Int)
        case state(Int)
        case records(Int, SequenceNumber)
        /// The organization's place and the key of `idempotency` to go on from.
        case idempotency(Int, [UInt8])
        /// The organization's place and the key of `sealed_values` to go on from.
        case sealed(Int, [UInt8])
        case end
    }

    var number: UInt32 = 0
    var phase = Phase.begin
    /// What was sent so far, for the end.
    var recordCount: UInt64 = 0
    var answerCount: UInt64 = 0
    var sealedCount: UInt64 = 0

    /// The beginning of every snapshot.
    package static let start = SnapshotCursor()
}

/// A group's state at one applied index, as chunks for a replica that has a part of it.
///
/// Made on the group's lane in one short turn; read on any thread that may block, as long as it takes: records, tree
/// nodes and answers are only ever added, so what the index had is found although the group goes on. Sealed values of a data
/// subject that is erased meanwhile are gone, and the replica deletes them too when it applies that erasure. Nothing is
/// held back on the disk.
package final class GroupSnapshotSource: Sendable {
    package let group: GroupID
    package let mark: SnapshotMark
    /// Records that the replica lacks.
    package let recordCount: UInt64

    private let manifest: SnapshotManifest
    private let organizations: [SnapshotManifest.Organization]
    private let rows: [(key: [UInt8], value: [UInt8])]
    private let store: any KeyValueReader
    private let faults: ApplierFaults

    /// Records of one chunk.
    private static let chunkRecordsMax = 16_384
    /// Bytes of the records of one chunk; one more record may follow.
    private static let chunkRecordBytes = SnapshotChunk.bodyBytesMax - (128 << 10)
    /// Bytes of the sealed values of one chunk; one more, of any length, may follow.
    private static let chunkSealedBytes = SnapshotChunk.bodyBytesMax - (64 << 10)
    /// Rows that are looked at for one chunk.
    private static let scannedRowsMax = 65_536

    init(
        group: GroupID,
        mark: SnapshotMark,
        featureLevel: FeatureLevel,
        organizations: [SnapshotManifest.Organization],
        rows: [(key: [UInt8], value: [UInt8])],
        store: any KeyValueReader,
        faults: ApplierFaults
    ) {
        self.group = group
        self.mark = mark
        self.manifest = SnapshotManifest(
            mark: mark,
            featureLevel: featureLevel,
            organizationCount: organizations.count,
            rowCount: rows.count
        )
        self.recordCount = organizations.reduce(0) { $0 + ($1.head.size - $1.from) }
        self.organizations = organizations
        self.rows = rows
        self.store = store
        self.faults = faults
    }

    /// The chunk at `cursor` and where the next one begins; nil after the last.
    ///
    /// Blocks for reads. The same cursor gives the same bytes again.
    /// - Throws: ``SnapshotError`` `.storage` or `.damaged`.
    package func chunk(at cursor: SnapshotCursor) throws(SnapshotError) -> (bytes: [UInt8], next: SnapshotCursor?) {
        var next = cursor
        next.number += 1
        let kind: SnapshotChunk.Kind
        let body: [UInt8]
        do {
            switch cursor.phase {
            case .begin:
                kind = .begin
                body = self.manifest.encodedBegin()
                next.phase = self.organizations.isEmpty ? self.afterOrganizations : .organizations(0)
            case .organizations(let place):
                kind = .organizations
                (body, next.phase) = self.organizations(from: place)
            case .state(let place):
                kind = .state
                (body, next.phase) = self.state(from: place)
            case .records(let place, let sequence):
                kind = .records
                body = try self.records(place, from: sequence, &next)
            case .idempotency(let place, let key):
                kind = .idempotency
                body = try self.answers(place, from: key, &next)
            case .sealed(let place, let key):
                kind = .sealed
                body = try self.sealed(place, from: key, &next)
            case .end:
                var writer = ByteWriter(capacity: 16)
                writer.write(cursor.recordCount)
                writer.write(cursor.answerCount)
                // As a program that knows no sealed values wrote it, while there are none.
                if cursor.sealedCount > 0 { writer.write(cursor.sealedCount) }
                return (self.encode(.end, cursor, writer.bytes), nil)
            }
        } catch let error as LedgerError where error.code == .damaged {
            throw SnapshotError(
                code: .damaged,
                message: "reading the snapshot of group \(self.group)",
                organization: self.organization(at: cursor.phase),
                cause: error
            )
        } catch {
            let wrapped = SnapshotError.wrapping(error, "reading the snapshot of group \(self.group)")
            throw SnapshotError(
                code: wrapped.code,
                message: wrapped.message,
                organization: self.organization(at: cursor.phase),
                cause: wrapped.cause
            )
        }
        return (self.encode(kind, cursor, body), next)
    }

    /// Whose rows a phase reads; nil when it reads none.
    private func organization(at phase: SnapshotCursor.Phase) -> OrganizationID? {
        switch phase {
        case .records(let place, _), .idempotency(let place, _), .sealed(let place, _):
            self.organizations[place].head.organization
        case .begin, .organizations, .state, .end: nil
        }
    }

    private func encode(_ kind: SnapshotChunk.Kind, _ cursor: SnapshotCursor, _ body: [UInt8]) -> [UInt8] {
        SnapshotChunk.encode(
            kind: kind,
            group: self.group,
            number: cursor.number,
            index: self.mark.index,
            body: body
        )
    }

    private var afterOrganizations: SnapshotCursor.Phase { self.rows.isEmpty ? self.contents(after: -1) : .state(0) }

    /// The contents of the next organization that has new records: answers first, so that whoever has staged a record
    /// has its answers, and asks for what comes after both when it goes on.
    private func contents(after place: Int) -> SnapshotCursor.Phase {
        for next in (place + 1)..<max(self.organizations.count, place + 1) {
            let organization = self.organizations[next]
            guard organization.from < organization.head.size else { continue }
            let id = organization.head.organization
            if self.faults.contains(.idempotencyNotReplicated) { return .sealed(next, SealedRow.prefix(id)) }
            return .idempotency(next, LedgerKeys.head(id))
        }
        return .end
    }

    private func organizations(from place: Int) -> ([UInt8], SnapshotCursor.Phase) {
        var writer = ByteWriter(capacity: 64 << 10)
        var end = place
        while end < self.organizations.count, writer.count < SnapshotChunk.bodyBytesMax - (4 << 10) {
            self.organizations[end].encode(into: &writer)
            end += 1
        }
        return (writer.bytes, end < self.organizations.count ? .organizations(end) : self.afterOrganizations)
    }

    private func state(from place: Int) -> ([UInt8], SnapshotCursor.Phase) {
        var writer = ByteWriter(capacity: 64 << 10)
        var end = place
        while end < self.rows.count, end == place || writer.count < SnapshotChunk.bodyBytesMax - (128 << 10) {
            writer.write(prefixed: self.rows[end].key)
            writer.write(prefixed: self.rows[end].value)
            end += 1
        }
        return (writer.bytes, end < self.rows.count ? .state(end) : self.contents(after: -1))
    }

    private func records(
        _ place: Int,
        from sequence: SequenceNumber,
        _ next: inout SnapshotCursor
    ) throws -> [UInt8] {
        let head = self.organizations[place].head
        let left = head.size - sequence.rawValue + 1
        let records = try LedgerReader(store: self.store, organization: head.organization).records(
            from: sequence,
            limit: Int(min(left, UInt64(Self.chunkRecordsMax))),
            bytesMax: Self.chunkRecordBytes
        )
        guard let last = records.last else {
            throw LedgerError(code: .damaged, message: "record \(sequence) of \(head.organization) is missing")
        }
        var writer = ByteWriter(capacity: 16 + records.reduce(0) { $0 + $1.bytes.count + 4 })
        writer.write(head.organization.rawValue)
        writer.write(sequence.rawValue)
        writer.write(UInt32(records.count))
        for record in records { writer.write(prefixed: record.bytes) }
        next.recordCount += UInt64(records.count)
        next.phase =
            last.sequence.rawValue < head.size ? .records(place, last.sequence.next) : self.contents(after: place)
        return writer.bytes
    }

    /// The answers that stand for records after those that the replica has, and not after the snapshot.
    private func answers(_ place: Int, from key: [UInt8], _ next: inout SnapshotCursor) throws -> [UInt8] {
        let organization = self.organizations[place]
        let prefix = LedgerKeys.head(organization.head.organization)
        var rows = ByteWriter(capacity: 64 << 10)
        var count: UInt32 = 0
        var scanned = 0
        var goOn: [UInt8]?
        try self.store.scan(.idempotency, from: key, to: keyAfter(prefix: prefix)) { key, value in
            if scanned == Self.scannedRowsMax || rows.count > SnapshotChunk.bodyBytesMax - (4 << 10) {
                goOn = key
                return false
            }
            scanned += 1
            let row = try IdempotencyRow(value)
            guard row.firstSequence.rawValue > organization.from, row.lastSequence.rawValue <= organization.head.size
            else { return true }
            rows.write(prefixed: key[prefix.count...])
            rows.write(prefixed: value)
            count += 1
            return true
        }
        next.answerCount += UInt64(count)
        next.phase = try goOn.map { .idempotency(place, $0) } ?? self.afterAnswers(place)
        var writer = ByteWriter(capacity: 8 + rows.count)
        writer.write(organization.head.organization.rawValue)
        writer.write(count)
        writer.write(raw: rows.bytes)
        return writer.bytes
    }

    /// What comes after the answers of an organization: its sealed values, if it has any.
    private func afterAnswers(_ place: Int) throws -> SnapshotCursor.Phase {
        let organization = self.organizations[place]
        let prefix = SealedRow.prefix(organization.head.organization)
        var hasSealed = false
        try self.store.scan(.sealedValues, prefix: prefix) { _, _ in
            hasSealed = true
            return false
        }
        return hasSealed ? .sealed(place, prefix) : .records(place, SequenceNumber(organization.from + 1))
    }

    /// The sealed values of records after those that the replica has, and not after the snapshot.
    private func sealed(_ place: Int, from key: [UInt8], _ next: inout SnapshotCursor) throws -> [UInt8] {
        let organization = self.organizations[place]
        let prefix = SealedRow.prefix(organization.head.organization)
        var rows = ByteWriter(capacity: 64 << 10)
        var count: UInt32 = 0
        var scanned = 0
        var goOn: [UInt8]?
        try self.store.scan(.sealedValues, from: key, to: keyAfter(prefix: prefix)) { key, value in
            if scanned == Self.scannedRowsMax || rows.count > Self.chunkSealedBytes {
                goOn = key
                return false
            }
            scanned += 1
            let sequence = try SealedRow.sequence(ofRest: key[prefix.count...]).rawValue
            guard sequence > organization.from, sequence <= organization.head.size else { return true }
            rows.write(prefixed: key[prefix.count...])
            rows.write(prefixed: value)
            count += 1
            return true
        }
        next.sealedCount += UInt64(count)
        next.phase = goOn.map { .sealed(place, $0) } ?? .records(place, SequenceNumber(organization.from + 1))
        var writer = ByteWriter(capacity: 8 + rows.count)
        writer.write(organization.head.organization.rawValue)
        writer.write(count)
        writer.write(raw: rows.bytes)
        return writer.bytes
    }
}

extension ShardApplier {
    /// What a replica that asks with `request` lacks of a group, as of now.
    ///
    /// To be called on the group's lane, between two turns; takes a few reads for each organization.
    /// - Parameter membership: The group's as of what is applied here, from the host (`appliedMark`); needed while no
    ///   entry and no snapshot has brought one, so that the state does not hold it.
    /// - Throws: ``SnapshotError`` `.behind` when the replica has more than this node has applied, or the membership is
    ///   not known; `.storage`, `.damaged`.
    package func snapshotSource(
        of group: GroupID,
        for request: SnapshotRequest,
        membership: Membership? = nil
    ) throws(SnapshotError) -> GroupSnapshotSource {
        guard request.group == group else {
            throw SnapshotError(code: .outOfOrder, message: "asked for group \(request.group), not for \(group)")
        }
        do {
            let state = try self.appliedState(of: group)
            guard let membership = state.membership ?? membership else {
                throw SnapshotError(code: .behind, message: "the membership of group \(group) is not known here yet")
            }
            var organizations: [SnapshotManifest.Organization] = []
            var holdings = request.holdings[...]
            for organization in try self.organizations(of: group) {
                let head = try self.head(of: organization)
                if head.size == 0 { continue }
                let holding = holdings.first.flatMap { $0.organization == organization ? $0 : nil }
                if holding != nil { holdings.removeFirst() }
                guard (holding?.size ?? 0) <= head.size else { throw Self.behind(organization) }
                let anchor = try holding.map { holding in
                    let leaf = TreePosition(level: 0, index: holding.size - 1)
                    return try LedgerReader(store: self.store, organization: organization).node(at: leaf)
                }
                organizations.append(.init(head: head, anchor: anchor, from: holding?.size ?? 0))
            }
            if let rest = holdings.first { throw Self.behind(rest.organization) }
            var rows: [(key: [UInt8], value: [UInt8])] = []
            try self.store.scan(.groupState, prefix: GroupStateKey.all(group)) { key, value in
                if GroupStateKey.isShared(key) { rows.append((key, value)) }
                return true
            }
            return GroupSnapshotSource(
                group: group,
                mark: SnapshotMark(index: state.index, term: state.term, membership: membership),
                featureLevel: self.featureLevel(of: group),
                organizations: organizations,
                rows: rows,
                store: self.store,
                faults: self.faults
            )
        } catch {
            throw SnapshotError.wrapping(error, "making a snapshot of group \(group)")
        }
    }

    private static func behind(_ organization: OrganizationID) -> SnapshotError {
        SnapshotError(
            code: .behind,
            message: "the replica has more records of organization \(organization) than the source",
            organization: organization
        )
    }
}
