package import AuditLedger
package import Primitives

internal import struct Crypto.SHA256

/// What a package says of itself.
///
/// Nothing in it is believed that the signed checkpoint or the parts can show; who exported what and why, only the
/// manifest's signature vouches for.
package struct PackageManifest: Hashable, Sendable {
    /// The name of this form of package.
    package static let format = "flask-track-audit-package/1"

    /// What the package holds.
    package enum Kind: String, Sendable {
        /// Every record up to the checkpoint, as C2SP tlog-tiles.
        case full
        /// Some records, and the outline of the tree around them.
        case selection
    }

    /// A part of the package.
    package struct File: Hashable, Sendable {
        package let name: String
        package let size: Int
        package let sha256: Digest
    }

    package let kind: Kind
    package let origin: LogOrigin
    package let cluster: String
    package let organization: OrganizationKey
    /// The tree of the checkpoint.
    package let size: UInt64
    package let root: Digest
    /// The first and last record that were asked for.
    package let first: UInt64
    package let last: UInt64
    package let shownCount: UInt64
    /// What else was asked for, in the words of the request; empty when it was nothing.
    package let filters: [JSONMember]
    /// Who asked, as a record names an actor.
    package let exportedBy: JSONValue
    package let exportedAt: Timestamp
    /// The node that made the package.
    package let node: String
    /// The record that says that this package was made; nil when there is none.
    package let record: ExportRecord?
    package let policyHash: Digest
    package let files: [File]

    /// The record of the export itself, behind those of the package.
    package struct ExportRecord: Hashable, Sendable {
        package let sequence: SequenceNumber
        package let checksum: Digest

        package init(sequence: SequenceNumber, checksum: Digest) {
            self.sequence = sequence
            self.checksum = checksum
        }
    }

    /// SHA-256, as the manifest names parts.
    package static func hash(_ bytes: [UInt8]) -> Digest {
        Digest(bytes: Array(SHA256.hash(data: bytes))) ?? .zero
    }

    // MARK: Text

    /// Canonical JSON.
    package var encoded: [UInt8] {
        var exported = [
            JSONMember("at", .text(self.exportedAt.description)),
            JSONMember("by", self.exportedBy),
            JSONMember("node", .text(self.node)),
        ]
        if let record = self.record {
            let members = [
                JSONMember("checksum", .text(record.checksum.hex)),
                JSONMember("sequence", Self.number(record.sequence.rawValue)),
            ]
            exported.append(JSONMember("record", .object(members)))
        }
        let files = self.files.map { file in
            JSONValue.object([
                JSONMember("name", .text(file.name)),
                JSONMember("sha256", .text(file.sha256.hex)),
                JSONMember("size", Self.number(UInt64(file.size))),
            ])
        }
        return CanonicalJSON.encode(
            .object([
                JSONMember("cluster", .text(self.cluster)),
                JSONMember("exported", .object(exported)),
                JSONMember("files", .array(files)),
                JSONMember("filters", .object(self.filters)),
                JSONMember("format", .text(Self.format)),
                JSONMember("kind", .text(self.kind.rawValue)),
                JSONMember("organization", .text(self.organization.rawValue)),
                JSONMember("origin", .string(self.origin.bytes)),
                JSONMember("policy_sha256", .text(self.policyHash.hex)),
                JSONMember(
                    "records",
                    .object([
                        JSONMember("first", Self.number(self.first)),
                        JSONMember("last", Self.number(self.last)),
                        JSONMember("shown", Self.number(self.shownCount)),
                    ])
                ),
                JSONMember(
                    "tree",
                    .object([
                        JSONMember("root", .text(self.root.hex)), JSONMember("size", Self.number(self.size)),
                    ])
                ),
            ])
        )
    }

    /// Integers beyond 2^53 - 1 have no place in JSON; no ledger comes near.
    private static func number(_ value: UInt64) -> JSONValue {
        JSONNumber(Int64(clamping: value)).map { .number($0) } ?? .null
    }

    /// Reads a manifest.
    ///
    /// - Throws: `.malformed`, naming the first member that is not as it must be.
    package init(parsing bytes: [UInt8]) throws(PackageError) {
        do {
            let limits = JSONLimits(
                bytesMax: ZipFormat.memberBytesMax,
                depthMax: JSONLimits.depthMaxDefault,
                valuesMax: ZipFormat.membersMax * 4
            )
            try self.init(JSONPlace(try JSONParser.parse(bytes, limits: limits)))
        } catch let error as PackageError {
            throw error
        } catch {
            throw PackageError(.malformed, "the manifest cannot be read", cause: error)
        }
    }

    private init(_ place: JSONPlace) throws {
        try place.requireOnly(keys: [
            "cluster", "exported", "files", "filters", "format", "kind", "organization", "origin", "policy_sha256",
            "records", "tree",
        ])
        let format = try place.string("format")
        guard format == Self.format else {
            throw PackageError(.malformed, "the package is of another form than \(Self.format)")
        }
        let exported = try place.required("exported")
        let records = try place.required("records")
        let tree = try place.required("tree")
        self.kind = try Self.known(Kind(rawValue: try place.string("kind")), "kind")
        self.origin = try LogOrigin(try place.string("origin"))
        self.cluster = try place.string("cluster")
        self.organization = try Self.known(OrganizationKey(try place.string("organization")), "organization")
        self.size = try Self.count(tree, "size")
        self.root = try Self.known(Digest(hex: try tree.string("root")), "tree/root")
        self.first = try Self.count(records, "first")
        self.last = try Self.count(records, "last")
        self.shownCount = try Self.count(records, "shown")
        self.filters = try place.required("filters").object()
        self.exportedBy = try exported.required("by").value
        self.exportedAt = try Self.known(Timestamp(try exported.string("at")), "exported/at")
        self.node = try exported.string("node")
        self.policyHash = try Self.known(Digest(hex: try place.string("policy_sha256")), "policy_sha256")
        self.record = try exported.optional("record").map { record in
            ExportRecord(
                sequence: SequenceNumber(try Self.count(record, "sequence")),
                checksum: try Self.known(Digest(hex: try record.string("checksum")), "exported/record/checksum")
            )
        }
        self.files = try place.array("files").map { file in
            File(
                name: try file.string("name"),
                size: Int(try Self.count(file, "size")),
                sha256: try Self.known(Digest(hex: try file.string("sha256")), "files")
            )
        }
    }

    private static func count(_ place: JSONPlace, _ key: String) throws -> UInt64 {
        let value = try place.integer(key)
        guard value >= 0 else { throw PackageError(.malformed, "the manifest's member \(key) is negative") }
        return UInt64(value)
    }

    private static func known<Value>(_ value: Value?, _ name: String) throws -> Value {
        guard let value else {
            throw PackageError(.malformed, "the manifest's member \(name) has not the form it must have")
        }
        return value
    }

    package init(
        kind: Kind,
        origin: LogOrigin,
        cluster: String,
        organization: OrganizationKey,
        tree: TreeHead,
        records: (first: UInt64, last: UInt64, shown: UInt64),
        filters: [JSONMember],
        exported: (by: JSONValue, at: Timestamp, node: String, record: ExportRecord?),
        policyHash: Digest,
        files: [File]
    ) {
        self.kind = kind
        self.origin = origin
        self.cluster = cluster
        self.organization = organization
        self.size = tree.size
        self.root = tree.root
        self.first = records.first
        self.last = records.last
        self.shownCount = records.shown
        self.filters = filters
        self.exportedBy = exported.by
        self.exportedAt = exported.at
        self.node = exported.node
        self.record = exported.record
        self.policyHash = policyHash
        self.files = files
    }
}
