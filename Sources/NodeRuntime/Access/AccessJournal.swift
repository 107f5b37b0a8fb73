internal import AuditLedger
internal import Primitives
internal import Storage

/// What an ``AccessRecorder`` has counted and not written yet, kept on this node's disk, so that a kill loses little of it.
///
/// One row of the family `meta`: version u8 · count u32 · entries. An entry: action, subject and ledger as prefixed texts · entity u8
/// and its organization · actor · count u64 · first and last time i64 · request; texts that may be absent have a flag before
/// them. Every call blocks.
struct AccessJournal: Sendable {
    /// The row's key.
    static let key = Array("access_tally".utf8)
    /// Longer texts of a request are cut: they explain, they identify nothing.
    static let requestTextBytesMax = 256
    private static let version = UInt8(1)

    let store: any KeyValueStore

    /// Puts what is pending in the place of what was; survives a kill of the process at once, of the machine with the
    /// store's next sync.
    /// - Throws: ``StorageError``.
    func save(_ entries: [AccessEntry]) throws(StorageError) {
        var batch = WriteBatch()
        if entries.isEmpty {
            batch.delete(.meta, key: Self.key)
        } else {
            batch.put(.meta, key: Self.key, value: Self.encode(entries))
        }
        try self.store.write(batch, durability: .logged)
    }

    /// What was pending when the process ended; nothing when the row cannot be read.
    func load() -> [AccessEntry] {
        guard let value = try? self.store.get(Self.key, in: .meta) else { return [] }
        return (try? Self.decode(value)) ?? []
    }

    // MARK: Form

    static func encode(_ entries: [AccessEntry]) -> [UInt8] {
        var writer = ByteWriter(capacity: 64 + entries.count * 192)
        writer.write(Self.version)
        writer.write(UInt32(entries.count))
        for entry in entries {
            let act = entry.act
            writer.write(prefixed: act.kind.rawValue)
            writer.write(prefixed: act.subject)
            writer.write(prefixed: act.ledger.rawValue)
            switch act.entity {
            case .cluster: writer.write(UInt8(0))
            case .unknownOrganization: writer.write(UInt8(1))
            case .various: writer.write(UInt8(2))
            case .organization(let key):
                writer.write(UInt8(3))
                writer.write(prefixed: key.rawValue)
            }
            writer.write(prefixed: act.actor.kind.rawValue)
            writer.write(prefixed: act.actor.id)
            for text in [act.actor.name, act.actor.role, act.actor.onBehalfOf] { Self.write(text, to: &writer) }
            writer.write(entry.count)
            writer.write(entry.firstAt.rawValue)
            writer.write(entry.lastAt.rawValue)
            writer.write(prefixed: entry.request.id)
            writer.write(prefixed: entry.request.channel.rawValue)
            for text in [entry.request.ip, entry.request.userAgent, entry.request.authentication] {
                Self.write(text.map(Self.cut), to: &writer)
            }
        }
        return writer.bytes
    }

    private static func cut(_ text: String) -> String {
        guard text.utf8.count > Self.requestTextBytesMax else { return text }
        return String(decoding: text.utf8.prefix(Self.requestTextBytesMax), as: UTF8.self)
    }

    private static func write(_ text: String?, to writer: inout ByteWriter) {
        writer.write(UInt8(text == nil ? 0 : 1))
        if let text { writer.write(prefixed: text) }
    }

    /// - Throws: ``MalformedBytes``.
    static func decode(_ value: [UInt8]) throws(MalformedBytes) -> [AccessEntry] {
        var reader = ByteReader(value)
        guard try reader.read(UInt8.self) == Self.version else {
            throw MalformedBytes(what: "version of counted accesses", offset: 0)
        }
        let count = try reader.read(UInt32.self)
        var entries: [AccessEntry] = []
        for _ in 0..<count { entries.append(try Self.entry(&reader)) }
        try reader.finish("counted accesses")
        return entries
    }

    private static func entry(_ reader: inout ByteReader) throws(MalformedBytes) -> AccessEntry {
        let kind = AccessAct.Kind(rawValue: try reader.readPrefixedText())
        let subject = try reader.readPrefixedText()
        let ledger = OrganizationKey(try reader.readPrefixedText())
        var entity: AccessAct.Entity?
        switch try reader.read(UInt8.self) {
        case 0: entity = .cluster
        case 1: entity = .unknownOrganization
        case 2: entity = .various
        case 3: entity = OrganizationKey(try reader.readPrefixedText()).map { .organization($0) }
        default: break
        }
        let actorKind = ActorKind(rawValue: try reader.readPrefixedText())
        let actorID = try reader.readPrefixedText()
        let (name, role) = (try Self.text(&reader), try Self.text(&reader))
        let onBehalfOf = try Self.text(&reader)
        let count = try reader.read(UInt64.self)
        let first = Timestamp(microseconds: try reader.read())
        let last = Timestamp(microseconds: try reader.read())
        let requestID = try reader.readPrefixedText()
        let channel = RequestChannel(rawValue: try reader.readPrefixedText())
        let (ip, userAgent) = (try Self.text(&reader), try Self.text(&reader))
        let authentication = try Self.text(&reader)
        guard let kind, let ledger, let entity, let actorKind, let channel, count > 0, first <= last else {
            throw MalformedBytes(what: "counted access", offset: reader.offset)
        }
        let actor = Actor(kind: actorKind, id: actorID, name: name, role: role, onBehalfOf: onBehalfOf)
        let request = RequestInfo(
            id: requestID,
            channel: channel,
            ip: ip,
            userAgent: userAgent,
            authentication: authentication
        )
        return AccessEntry(
            AccessAct(kind: kind, actor: actor, ledger: ledger, entity: entity, subject: subject),
            count: count,
            from: first,
            to: last,
            by: request
        )
    }

    private static func text(_ reader: inout ByteReader) throws(MalformedBytes) -> String? {
        try reader.read(UInt8.self) == 0 ? nil : try reader.readPrefixedText()
    }
}
