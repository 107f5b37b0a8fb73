internal import AuditLedger
internal import Primitives
internal import Storage

/// What a node remembers of re-reading one organization: how far it is, when it was through, and what it found.
///
/// Family `scrub_state`: organization u32 → version u8 · begun i64 · through i64 · recorded size u64 · bytes u64 · head (prefixed) ·
/// finding (prefixed, empty for none).
struct ScrubRow: Sendable, Equatable {
    /// The head of the records that were found good so far; nil before the first part.
    var head: LedgerHead?
    /// When the re-reading that is going on, or was the last one, began.
    var begunAt: Timestamp?
    /// When it was through without a finding; nil while it is not.
    var throughAt: Timestamp?
    /// The size that the cluster's ledger was last told to be sound.
    var recordedSize = UInt64(0)
    /// Bytes of records that it has read.
    var bytesRead = UInt64(0)
    /// Why the node does not serve the organization.
    var finding: LedgerFinding?

    private static let version = UInt8(1)

    static func key(_ organization: OrganizationID) -> [UInt8] { LedgerKeys.head(organization) }

    static func read(_ organization: OrganizationID, from store: any KeyValueReader) throws(StorageError) -> ScrubRow {
        // A row that cannot be read is forgotten: everything is read again from the beginning.
        do throws(StorageError) {
            guard let value = try store.get(Self.key(organization), in: .scrubState) else { return ScrubRow() }
            return (try? ScrubRow(value, of: organization)) ?? ScrubRow()
        } catch  where error.code == .corruption {
            return ScrubRow()
        }
    }

    init() {}

    init(_ value: [UInt8], of organization: OrganizationID) throws(MalformedBytes) {
        var reader = ByteReader(value)
        guard try reader.read(UInt8.self) == Self.version else {
            throw MalformedBytes(what: "version of a scrub's state", offset: 0)
        }
        self.begunAt = Self.time(try reader.read(Int64.self))
        self.throughAt = Self.time(try reader.read(Int64.self))
        self.recordedSize = try reader.read()
        self.bytesRead = try reader.read()
        let head = Array(try reader.readPrefixed())
        if !head.isEmpty {
            let decoded = try LedgerHead.decode(head)
            guard decoded.organization == organization else {
                throw MalformedBytes(what: "organization of a scrub's state", offset: reader.offset)
            }
            self.head = decoded
        }
        let finding = Array(try reader.readPrefixed())
        if !finding.isEmpty { self.finding = try LedgerFinding(encoded: finding) }
        try reader.finish("scrub's state")
    }

    func encoded() -> [UInt8] {
        var writer = ByteWriter(capacity: 256)
        writer.write(Self.version)
        writer.write(self.begunAt?.rawValue ?? .min)
        writer.write(self.throughAt?.rawValue ?? .min)
        writer.write(self.recordedSize)
        writer.write(self.bytesRead)
        writer.write(prefixed: self.head?.encode() ?? [])
        writer.write(prefixed: self.finding?.encoded() ?? [])
        return writer.bytes
    }

    private static func time(_ value: Int64) -> Timestamp? { value == .min ? nil : Timestamp(microseconds: value) }
}

extension LedgerFinding {
    fileprivate init(encoded bytes: [UInt8]) throws(MalformedBytes) {
        var reader = ByteReader(bytes)
        let sequence = SequenceNumber(try reader.read())
        guard let kind = Kind(rawValue: try reader.readPrefixedText()) else {
            throw MalformedBytes(what: "kind of a finding", offset: reader.offset)
        }
        let detail = try reader.readPrefixedText()
        let place = try reader.readPrefixedText()
        try reader.finish("finding")
        self.init(sequence: sequence, kind: kind, detail: detail, place: place)
    }

    fileprivate func encoded() -> [UInt8] {
        var writer = ByteWriter(capacity: 128)
        writer.write(self.sequence.rawValue)
        writer.write(prefixed: self.kind.rawValue)
        writer.write(prefixed: self.detail)
        writer.write(prefixed: self.place)
        return writer.bytes
    }

    /// Whether a replica with this finding can no longer vouch for what it holds; what is derived can be made again.
    var isOfHistory: Bool {
        switch self.kind {
        case .staleProjection, .wrongSignature: false
        default: true
        }
    }
}
