package import Primitives

/// One of the two histories that a ``MerkleDescent`` compares.
package enum DescentSide: String, Sendable, CaseIterable {
    case a
    case b

    package var other: DescentSide { self == .a ? .b : .a }
}

/// Something to ask of a side; every answer is at most 8 KiB, a record's bytes excepted.
package enum DescentQuestion: Sendable, Hashable {
    /// The number of records and the roots of the perfect subtrees over them.
    case head
    /// The roots of the perfect subtrees of the first `size` records, then those of the records from there to `of`.
    case bounds(size: UInt64, of: UInt64)
    /// The nodes under a node at the next lower level that is a multiple of eight (``TreePosition/rowBelow``).
    case descendants(TreePosition)
    /// Digests over blocks of `blockRecords` records each, without their links: see ``DescentContents``.
    case contents(first: SequenceNumber, records: UInt64, blockRecords: UInt64)
    /// The bytes of a record.
    case record(SequenceNumber)
}

/// What a side answered.
package enum DescentAnswer: Sendable, Hashable {
    case head(size: UInt64, peaks: [Digest])
    /// In the order of the question.
    case digests([Digest])
    /// nil: there is none.
    case record([UInt8]?)
    /// The perfect subtrees of a node that the side knows, in order: no lower than the row that was asked for, and higher
    /// where the side knows nothing below. Only to ``DescentQuestion/descendants(_:)``.
    case cover([DescentNode])
    /// The side does not have what is asked for, and says so: it holds some records only.
    case withheld
    /// The side cannot be read; the text says why.
    case unavailable(String)
}

/// A node of a tree with its place.
package struct DescentNode: Sendable, Hashable {
    package let position: TreePosition
    package let digest: Digest

    package init(position: TreePosition, digest: Digest) {
        self.position = position
        self.digest = digest
    }
}

/// A history that can be compared with another one: a replica's store, or a package file.
///
/// A side may lie or be damaged: whatever it answers is checked against what it said before.
package protocol TreeSide {
    /// Answers one question; may block.
    /// - Throws: ``LedgerError`` when the side cannot be read.
    func answer(_ question: DescentQuestion) throws(LedgerError) -> DescentAnswer
}

/// A root that others have signed, as evidence for one of two sides.
package struct DescentCheckpoint: Sendable, Hashable {
    package let size: UInt64
    package let root: Digest
    /// Whether a quorum of the policy has signed it; only then it decides.
    package let isQuorumSigned: Bool

    package init(size: UInt64, root: Digest, isQuorumSigned: Bool) {
        self.size = size
        self.root = root
        self.isQuorumSigned = isQuorumSigned
    }
}

/// What a side answered that cannot be: it lies, or its tree is damaged.
package struct DescentFault: Sendable, Hashable {
    /// What is wrong; the raw value is a stable name.
    package enum Kind: String, Sendable {
        /// Nodes do not hash to the node over them that the same side gave.
        case contradictsItself = "contradicts_itself"
        /// An answer has not the form that the question demands.
        case malformed
    }

    package let kind: Kind
    /// The node that the answer was about; nil when it was about the whole tree.
    package let position: TreePosition?

    package init(kind: Kind, position: TreePosition?) {
        self.kind = kind
        self.position = position
    }
}

/// What one side holds at the first difference.
package struct DescentLeaf: Sendable, Hashable {
    /// What was found when the record itself was read; the raw value is a stable name.
    package enum Standing: String, Sendable {
        /// The bytes have the checksum of the leaf and are a record of this organization at this place.
        case sound
        /// The bytes are not those whose checksum the leaf is.
        case modified
        /// There is no record.
        case missing
        /// The bytes have the checksum of the leaf, but are a record of another organization or place, or none at all.
        case foreign
        /// The side did not give its record.
        case unread
    }

    package let checksum: Digest
    package internal(set) var standing = Standing.unread
    /// The record's bytes, where the side gave some.
    package internal(set) var bytes: [UInt8]?
}

/// Which side the signed checkpoints speak for.
package enum DescentVerdict: Sendable, Hashable {
    /// A quorum has signed a root over the first differing record, and it is that of this side.
    case supports(DescentSide, checkpointSize: UInt64)
    /// A quorum has signed a root over the first differing record, and it is that of neither side.
    case supportsNeither(checkpointSize: UInt64)
    /// Quorums have signed roots of both sides: a fork that those who signed have made. The size is that of the larger
    /// checkpoint.
    case supportsBoth(checkpointSize: UInt64)
    /// No quorum-signed checkpoint covers the first differing record.
    case undecided
}

extension DescentVerdict {
    /// The verdict after another signed checkpoint, which supports `side` or neither.
    func joined(with side: DescentSide?, checkpointSize: UInt64) -> DescentVerdict {
        switch (self, side) {
        case (.undecided, let side?): .supports(side, checkpointSize: checkpointSize)
        case (.undecided, nil): .supportsNeither(checkpointSize: checkpointSize)
        case (.supports(let before, _), let side?) where before != side: .supportsBoth(checkpointSize: checkpointSize)
        case (.supportsNeither, let side?): .supports(side, checkpointSize: checkpointSize)
        default: self
        }
    }
}

/// The first record at which two sides part.
package struct DescentDifference: Sendable, Hashable {
    package let sequence: SequenceNumber
    package internal(set) var a: DescentLeaf
    package internal(set) var b: DescentLeaf
    /// JSON Pointers of the members that differ, where both sides gave their record.
    package internal(set) var members: [String] = []
    package internal(set) var verdict = DescentVerdict.undecided
    /// Later records, common to both sizes, whose contents were compared.
    package internal(set) var laterCompared = UInt64(0)
    /// Of those, the ones that differ in more than their link to the record before. When many do, the comparison stops
    /// early, and ``laterCompared`` is smaller than ``laterTotal``.
    package internal(set) var laterDiffering = UInt64(0)
    /// Later records that both sides have.
    package let laterTotal: UInt64
}

/// Records among which two sides part, where one of them does not show which.
package struct DescentGap: Sendable, Hashable {
    package let first: SequenceNumber
    package let last: SequenceNumber
    package internal(set) var verdict = DescentVerdict.undecided
}

/// The result of comparing two sides.
package struct DescentResult: Sendable, Hashable {
    package enum Outcome: Sendable, Hashable {
        /// The same records.
        case equal
        /// The records of the shorter side are the first ones of the other.
        case prefix(shorter: DescentSide)
        /// Different records from ``difference`` on.
        case differs
        /// Different records within the gap, of which this side holds no more than their common root.
        case withheld(DescentSide, DescentGap)
        /// A side was caught: its answers do not belong together. A difference found before that is kept.
        case caught(DescentSide, DescentFault)
        /// A side could not be read.
        case unavailable(DescentSide, String)
    }

    package let outcome: Outcome
    /// Where the sides part, when that was found.
    package let difference: DescentDifference?
    /// Sizes as the sides gave them; nil where one did not answer.
    package let sizeA: UInt64?
    package let sizeB: UInt64?
    /// Round trips until the first difference was found, or that there is none.
    package let roundTrips: Int
    /// Round trips in all: with the records themselves, evidence and the comparison of later records.
    package let roundTripsInAll: Int
    /// The most digests that one answer had.
    package let largestAnswer: Int
}

/// The digests that tell whether later records differ in more than their links.
///
/// The content digest of a record is SHA-256(0x00 ‖ its bytes, with zeros in the place of the 64 digits of `previous`);
/// a block's is SHA-256(0x00 ‖ the content digests of its records). Blocks are at most ``blockRecordsMax`` long.
package enum DescentContents {
    package static let blockRecordsMax = UInt64(256)
    /// Digests in one answer.
    static let blocksMax = UInt64(256)
    /// Records that one question covers at most.
    static let questionRecordsMax = Self.blockRecordsMax * Self.blocksMax

    /// The content digest of a record; that of all its bytes when they are no record.
    package static func digest(_ record: [UInt8]) -> Digest {
        guard let fields = try? RecordFields(scanning: record), let range = fields.range(.previous) else {
            return LedgerHash.leaf(record)
        }
        var bytes = record
        for place in range.lowerBound + 1..<max(range.lowerBound + 1, range.upperBound - 1) { bytes[place] = 0x30 }
        return LedgerHash.leaf(bytes)
    }

    /// The digest of a block.
    package static func block(_ digests: [Digest]) -> Digest {
        if digests.count == 1 { return digests[0] }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(digests.count * Digest.byteCount)
        for digest in digests { digest.append(to: &bytes) }
        return LedgerHash.leaf(bytes)
    }
}

extension TreePosition {
    /// Levels between the rows that a descent asks for.
    private static let rowLevels: UInt8 = 8

    /// The nodes under this one at the next lower level that is a multiple of eight, at most 256 of them: the first one,
    /// and how many there are. The node itself at level 0.
    package var rowBelow: (first: TreePosition, count: Int) {
        guard self.level > 0 else { return (self, 1) }
        let level = (self.level - 1) / Self.rowLevels * Self.rowLevels
        let levels = self.level - level
        return (TreePosition(level: level, index: self.index << UInt64(levels)), 1 << Int(levels))
    }
}
