internal import AuditLedger
internal import Consensus
package import Primitives

/// What a replica asks of its leader: everything after what it has.
///
/// Form: version u8 = 1 · group u32 · count u32 · for each organization, ascending: id u32 · size u64 · last checksum.
package struct SnapshotRequest: Sendable, Equatable {
    /// The verified records that a replica has of one organization.
    package struct Holding: Sendable, Equatable {
        package let organization: OrganizationID
        package let size: UInt64
        /// The checksum of the last of them.
        package let lastChecksum: Digest

        package init(organization: OrganizationID, size: UInt64, lastChecksum: Digest) {
            self.organization = organization
            self.size = size
            self.lastChecksum = lastChecksum
        }
    }

    package let group: GroupID
    /// Ascending by organization; those without records are left out.
    package let holdings: [Holding]

    private static let version: UInt8 = 1

    package init(group: GroupID, holdings: [Holding]) {
        self.group = group
        self.holdings = holdings
    }

    package func encoded() -> [UInt8] {
        var writer = ByteWriter(capacity: 9 + self.holdings.count * 44)
        writer.write(Self.version)
        writer.write(self.group.rawValue)
        writer.write(UInt32(self.holdings.count))
        for holding in self.holdings {
            writer.write(holding.organization.rawValue)
            writer.write(holding.size)
            writer.write(holding.lastChecksum)
        }
        return writer.bytes
    }

    package init(bytes: [UInt8]) throws(MalformedBytes) {
        var reader = ByteReader(bytes)
        guard try reader.read(UInt8.self) == Self.version else {
            throw MalformedBytes(what: "version of a request for a snapshot", offset: 0)
        }
        self.group = GroupID(try reader.read())
        var holdings: [Holding] = []
        for _ in 0..<(try reader.readCount()) {
            let holding = Holding(
                organization: OrganizationID(try reader.read()),
                size: try reader.read(),
                lastChecksum: try reader.readDigest()
            )
            guard holding.size > 0, holdings.last.map({ $0.organization < holding.organization }) ?? true else {
                throw MalformedBytes(what: "request for a snapshot", offset: reader.offset)
            }
            holdings.append(holding)
        }
        try reader.finish("request for a snapshot")
        self.holdings = holdings
    }
}

/// A piece of a snapshot on its way.
///
/// Form: mark `FTSC` · version u8 = 1 · kind u8 · group u32 · number u32 · index u64 of the snapshot · length u32 ·
/// body · CRC-32C u32 of all before it. The numbers of a snapshot's chunks count from 0.
struct SnapshotChunk {
    enum Kind: UInt8 {
        /// The beginning: term, membership, counts.
        case begin = 1
        /// Organizations with their heads.
        case organizations = 2
        /// Rows of the group's own state.
        case state = 3
        /// Records of one organization, consecutive.
        case records = 4
        /// Rows of the family `idempotency` of one organization.
        case idempotency = 5
        /// The end.
        case end = 6
        /// Rows of the family `sealed_values` of one organization.
        case sealed = 7
    }

    /// Bytes of a body, as a rule: what does not fit begins the next chunk; one record alone may be longer.
    static let bodyBytesMax = 1 << 20
    /// The longest chunk that is taken.
    static let bytesMax = bodyBytesMax + (128 << 10)

    private static let mark: UInt32 = 0x4654_5343
    private static let version: UInt8 = 1
    private static let headerByteCount = 26
    private static let checkByteCount = 4

    let kind: Kind
    let group: GroupID
    let number: UInt32
    let index: LogIndex
    let body: ArraySlice<UInt8>

    static func encode(kind: Kind, group: GroupID, number: UInt32, index: LogIndex, body: [UInt8]) -> [UInt8] {
        var writer = ByteWriter(capacity: Self.headerByteCount + body.count + Self.checkByteCount)
        writer.write(Self.mark)
        writer.write(Self.version)
        writer.write(kind.rawValue)
        writer.write(group.rawValue)
        writer.write(number)
        writer.write(index.rawValue)
        writer.write(prefixed: body)
        var check = CRC32C()
        writer.bytes.withUnsafeBytes { check.update($0) }
        writer.write(check.value)
        return writer.bytes
    }

    /// - Throws: ``SnapshotError`` `.damagedChunk`.
    init(_ bytes: [UInt8]) throws(SnapshotError) {
        let damaged = SnapshotError(code: .damagedChunk, message: "a chunk of \(bytes.count) bytes is damaged")
        guard bytes.count <= Self.bytesMax, bytes.count >= Self.headerByteCount + Self.checkByteCount else {
            throw damaged
        }
        var check = CRC32C()
        bytes.withUnsafeBytes { check.update(UnsafeRawBufferPointer(rebasing: $0.dropLast(Self.checkByteCount))) }
        var reader = ByteReader(bytes)
        do throws(MalformedBytes) {
            guard try reader.read(UInt32.self) == Self.mark, try reader.read(UInt8.self) == Self.version,
                let kind = Kind(rawValue: try reader.read(UInt8.self))
            else { throw MalformedBytes(what: "chunk", offset: 0) }
            self.kind = kind
            self.group = GroupID(try reader.read())
            self.number = try reader.read()
            self.index = LogIndex(try reader.read())
            self.body = try reader.readPrefixed()
            guard try reader.read(UInt32.self) == check.value else { throw MalformedBytes(what: "check", offset: 0) }
            try reader.finish("chunk")
        } catch {
            throw damaged
        }
    }
}

/// What a snapshot promises before its contents come.
struct SnapshotManifest: Sendable {
    /// An organization of the group.
    struct Organization: Sendable {
        let head: LedgerHead
        /// The source's checksum at the size that the replica has; nil when the replica has nothing.
        let anchor: Digest?
        /// The size that the replica has.
        let from: UInt64
    }

    let mark: SnapshotMark
    let featureLevel: FeatureLevel
    let organizationCount: Int
    let rowCount: Int

    func encodedBegin() -> [UInt8] {
        var writer = ByteWriter(capacity: 128)
        writer.write(self.mark.term.rawValue)
        writer.write(prefixed: self.mark.membership.encoded())
        writer.write(self.featureLevel.rawValue)
        writer.write(UInt32(self.organizationCount))
        writer.write(UInt32(self.rowCount))
        return writer.bytes
    }

    init(mark: SnapshotMark, featureLevel: FeatureLevel, organizationCount: Int, rowCount: Int) {
        self.mark = mark
        self.featureLevel = featureLevel
        self.organizationCount = organizationCount
        self.rowCount = rowCount
    }

    init(begin chunk: SnapshotChunk) throws(MalformedBytes) {
        var reader = ByteReader(chunk.body)
        let term = Term(try reader.read())
        let membership = try Membership(bytes: try reader.readPrefixed())
        self.mark = SnapshotMark(index: chunk.index, term: term, membership: membership)
        self.featureLevel = FeatureLevel(rawValue: try reader.read())
        self.organizationCount = Int(try reader.read(UInt32.self))
        self.rowCount = Int(try reader.read(UInt32.self))
        try reader.finish("begin of a snapshot")
    }
}

extension SnapshotManifest.Organization {
    func encode(into writer: inout ByteWriter) {
        writer.write(prefixed: self.head.encode())
        writer.write(self.from)
        writer.write(UInt8(self.anchor == nil ? 0 : 1))
        if let anchor = self.anchor { writer.write(anchor) }
    }

    init(from reader: inout ByteReader) throws(MalformedBytes) {
        self.head = try LedgerHead.decode(Array(try reader.readPrefixed()))
        self.from = try reader.read()
        self.anchor = try reader.read(UInt8.self) == 0 ? nil : try reader.readDigest()
    }
}
