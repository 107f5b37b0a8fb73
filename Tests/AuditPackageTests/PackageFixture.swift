import AuditLedger
import Primitives
import Storage
import Testing

@testable import AuditPackage

/// A cluster of three nodes with one organization's ledger, and packages made of it.
struct PackageFixture {
    static let cluster = "lab-cluster"
    static let organization = OrganizationKey("north-lab")!
    static let id = OrganizationID(3)
    static let startedAt = Timestamp(microseconds: 1_750_000_000_000_000)
    static let signedAt: UInt64 = 1_760_000_000

    let store = InMemoryStore()
    private(set) var appender: LedgerAppender

    init(records: Int) throws {
        self.appender = LedgerAppender(head: LedgerHead(empty: Self.id))
        try self.append(records)
    }

    mutating func append(_ count: Int, note: String = "as planned") throws {
        var batch = WriteBatch()
        for _ in 0..<count {
            let number = self.appender.head.size + 1
            let time = Timestamp(microseconds: Self.startedAt.rawValue + Int64(number) * 1_000_000)
            _ = self.appender.append(try Self.draft(number, note: note), stampedAt: time, into: &batch)
        }
        self.appender.finish(into: &batch)
        try self.store.write(batch)
    }

    mutating func append(_ drafts: [EventDraft]) throws {
        var batch = WriteBatch()
        for draft in drafts {
            let number = self.appender.head.size + 1
            let time = Timestamp(microseconds: Self.startedAt.rawValue + Int64(number) * 1_000_000)
            _ = self.appender.append(draft, stampedAt: time, into: &batch)
        }
        self.appender.finish(into: &batch)
        try self.store.write(batch)
    }

    static func draft(
        _ number: UInt64,
        organization: OrganizationKey = Self.organization,
        note: String = "as planned"
    ) throws -> EventDraft {
        let context = EventContext(
            organization: organization,
            request: RequestInfo(id: "r-\(number)", channel: .api, authentication: "bearer"),
            defaultActor: Actor(kind: .user, id: "u-\(number % 5)", name: "Zoë <\(number % 5)>", role: "technician")
        )
        let before = #"{"state":"open","temperature":\#(number % 7)}"#
        let after = #"{"note":"<b>\#(note)</b>","state":"closed","temperature":\#(number % 7)}"#
        let text =
            #"{"action":"update","entity_type":"culture","entity_id":"c-\#(number % 11)","before":\#(before),"#
            + #""after":\#(after),"reason":"é & \"why\"\n"}"#
        return try EventDraft.parse(Array(text.utf8), defaults: context)
    }

    // MARK: Keys

    static func seed(_ node: Int) -> [UInt8] { (0..<32).map { UInt8(($0 * 7 + node * 31) & 255) } }

    /// What node `node` signs with as a replica.
    static func replicaKey(_ node: Int, cluster: String = Self.cluster) throws -> NoteSignerKey {
        try NoteSignerKey(name: NoteKeyName("\(cluster)/node-\(node)"), type: .cosignature, seed: self.seed(node))
    }

    /// What node `node` signs with as the log.
    static func logKey(_ node: Int, origin: LogOrigin) throws -> NoteSignerKey {
        try NoteSignerKey(name: origin.keyName, type: .ed25519, seed: self.seed(node))
    }

    static func manifestKey(_ node: Int) throws -> NoteSignerKey {
        try NoteSignerKey(name: NoteKeyName("\(self.cluster)/node-\(node)"), type: .ed25519, seed: self.seed(node))
    }

    static func keys(_ nodes: [Int] = [1, 2, 3]) throws -> [PackageKey] {
        try nodes.map { PackageKey(key: try self.replicaKey($0).verifierKey, validFrom: Self.startedAt) }
    }

    static func origin() throws -> LogOrigin { try LogOrigin(cluster: self.cluster, organization: self.organization) }

    static func policy(_ nodes: [Int] = [1, 2, 3]) throws -> TrustPolicy {
        let origin = try self.origin()
        return try TrustPolicy.cluster(
            logs: try nodes.map { try self.logKey($0, origin: origin).verifierKey },
            replicas: try nodes.map { try self.replicaKey($0).verifierKey },
            replicasNeeded: nodes.count / 2 + 1
        )
    }

    static func trust() throws -> PackageTrust { PackageTrust(keys: try self.keys()) }

    // MARK: Packages

    func reader() throws -> LedgerReader {
        LedgerReader(store: try self.store.snapshot(), organization: Self.id)
    }

    func checkpoint(size: UInt64? = nil, cosigners: [Int] = [1, 2, 3]) throws -> SignedCheckpoint {
        let size = size ?? self.appender.head.size
        let root = try self.reader().root(at: size)
        return try Self.sign(Checkpoint(origin: Self.origin(), size: size, root: root), cosigners: cosigners)
    }

    static func sign(_ checkpoint: Checkpoint, cosigners: [Int] = [1, 2, 3]) throws -> SignedCheckpoint {
        var signed = try SignedCheckpoint(checkpoint)
        try signed.sign(try self.logKey(1, origin: checkpoint.origin))
        for node in cosigners { try signed.cosign(try self.replicaKey(node), timeSeconds: self.signedAt) }
        return signed
    }

    func request(_ change: (inout PackageRequest) throws -> Void = { _ in }) throws -> PackageRequest {
        var request = PackageRequest(
            cluster: Self.cluster,
            organization: Self.organization,
            checkpoint: try self.checkpoint(),
            policy: try Self.policy(),
            keys: try Self.keys(),
            exportedBy: Actor(kind: .user, id: "auditor-1", name: "A <Auditor>", role: "auditor"),
            exportedAt: Timestamp("2026-11-21T15:30:00.000000Z")!,
            node: "node-1"
        )
        request.manifestSigner = try Self.manifestKey(1)
        try change(&request)
        return request
    }

    func package(_ change: (inout PackageRequest) throws -> Void = { _ in }) throws -> [UInt8] {
        var export = try PackageExport(try self.request(change), reader: try self.reader())
        var bytes: [UInt8] = []
        while let piece = try export.next() { bytes += piece }
        return bytes
    }
}

/// A package taken apart, to be changed and put together again.
struct LoosePackage {
    var members: [(name: String, bytes: [UInt8])]

    init(_ bytes: [UInt8]) throws {
        let archive = try ZipArchive(PackageArray(bytes))
        self.members = try archive.members.map { ($0.name, try archive.content(of: $0).bytes) }
    }

    subscript(_ name: String) -> [UInt8] {
        get { self.members.first { $0.name == name }?.bytes ?? [] }
        set {
            if let place = self.members.firstIndex(where: { $0.name == name }) {
                self.members[place].bytes = newValue
            } else {
                self.members.append((name, newValue))
            }
        }
    }

    mutating func remove(_ name: String) { self.members.removeAll { $0.name == name } }

    /// As a forger does who knows the form: the manifest names what is there now.
    mutating func repairManifest() throws {
        let old = try PackageManifest(parsing: self[PackageLayout.manifest])
        let files = self.members
            .filter { $0.name != PackageLayout.manifest && $0.name != PackageLayout.manifestSignature }
            .map { PackageManifest.File(name: $0.name, size: $0.bytes.count, sha256: PackageManifest.hash($0.bytes)) }
        self[PackageLayout.manifest] =
            PackageManifest(
                kind: old.kind,
                origin: old.origin,
                cluster: old.cluster,
                organization: old.organization,
                tree: TreeHead(size: old.size, root: old.root),
                records: (old.first, old.last, old.shownCount),
                filters: old.filters,
                exported: (old.exportedBy, old.exportedAt, old.node, old.record),
                policyHash: PackageManifest.hash(self[PackageLayout.policy]),
                files: files
            ).encoded
        self.remove(PackageLayout.manifestSignature)
    }

    func packed() -> [UInt8] {
        var zip = ZipWriter(date: Timestamp(microseconds: 0))
        var bytes: [UInt8] = []
        for member in self.members { bytes += zip.member(member.name, member.bytes) }
        return bytes + zip.finish()
    }

    // MARK: Bundles

    func entries(_ path: String) throws -> [[UInt8]] {
        try EntryBundle.entries(path: try TilePath(parsing: path.utf8), parsing: self[path]).map { Array($0) }
    }

    mutating func set(_ entries: [[UInt8]], at path: String) throws {
        var bundle: [UInt8] = []
        for entry in entries { try EntryBundle.append(entry, to: &bundle) }
        self[path] = bundle
    }
}

func verify(_ bytes: [UInt8], _ trust: PackageTrust? = nil) async throws -> PackageReport {
    try await PackageVerifier(trust: try trust ?? PackageFixture.trust()).verify(PackageArray(bytes))
}
