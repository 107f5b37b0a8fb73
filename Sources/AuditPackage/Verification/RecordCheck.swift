internal import AuditLedger
internal import Primitives

/// What one record must know of the next.
struct ChainLink: Hashable, Sendable {
    /// What the next record names as `previous`.
    let checksum: Digest
    /// The next record is not earlier.
    let time: Timestamp?
}

/// Checks records that follow each other.
struct RecordCheck {
    /// `"key"`, quoted: what every record's `organization` is.
    private let organization: [UInt8]

    init(organization: OrganizationKey) {
        self.organization = CanonicalJSON.encode(.text(organization.rawValue))
    }

    /// A record as it stands in the package.
    struct Record {
        let bytes: [UInt8]
        let checksum: Digest
        /// Nil when the bytes are no record.
        let fields: RecordFields?

        init(_ bytes: ArraySlice<UInt8>) {
            self.bytes = Array(bytes)
            self.checksum = LedgerHash.leaf(self.bytes)
            self.fields = try? RecordFields(scanning: self.bytes)
        }
    }

    /// Whether the record is of this organization.
    func isOwn(_ record: Record) -> Bool {
        record.fields?.json(.organization)?.elementsEqual(self.organization) == true
    }

    /// What is wrong with a record at a place, behind another one (nil when that is not known).
    func finding(_ record: Record, at sequence: UInt64, after link: ChainLink?, file: String) -> PackageFinding? {
        let place = SequenceNumber(sequence)
        func found(_ kind: PackageFinding.Kind, _ detail: String) -> PackageFinding {
            PackageFinding(kind, sequence: place, file: file, detail)
        }
        guard let fields = record.fields else {
            return found(.malformed, "the bytes are not those of a record in canonical form")
        }
        guard self.isOwn(record) else { return found(.foreign, "the record is of another organization") }
        guard fields.sequence == place else {
            return found(.reordered, "the record that stands here says that it is record \(fields.sequence)")
        }
        guard let link else { return nil }
        guard fields.previous == link.checksum else {
            return found(
                .brokenChain,
                sequence == 1
                    ? "the first record does not begin the chain"
                    : "previous is not the checksum of record \(sequence - 1): one of the two was changed"
            )
        }
        if let last = link.time, fields.recordedAt < last {
            return found(.malformed, "recorded_at goes back")
        }
        return nil
    }

    /// Why a record is not the one that was signed for its place.
    func difference(_ record: Record, at sequence: UInt64, file: String) -> PackageFinding {
        let place = SequenceNumber(sequence)
        if record.fields != nil, !self.isOwn(record) {
            return PackageFinding(.foreign, sequence: place, file: file, "the record is of another organization")
        }
        if let fields = record.fields, fields.sequence != place {
            return PackageFinding(
                .reordered,
                sequence: place,
                file: file,
                "the record that stands here says that it is record \(fields.sequence)"
            )
        }
        return PackageFinding(
            .modified,
            sequence: place,
            file: file,
            "the record's bytes are not those that were signed"
        )
    }
}
