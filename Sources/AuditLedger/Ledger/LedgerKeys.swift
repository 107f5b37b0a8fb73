package import Primitives

/// Keys of the ledger's column families; fixed width and big-endian, so that an organization is a range.
package enum LedgerKeys {
    /// Of the family `records`: organization u32 · sequence u64.
    package static func record(_ organization: OrganizationID, _ sequence: SequenceNumber) -> [UInt8] {
        var key: [UInt8] = []
        key.reserveCapacity(12)
        self.append(organization, to: &key)
        self.append(sequence.rawValue, to: &key)
        return key
    }

    /// Bytes of the longest row of the family `treeNodes`.
    package static let nodeRunBytesMax = 256 * Digest.byteCount

    /// Of the family `treeNodes`: organization u32 · level u8 · index u64 of the first node of a run.
    ///
    /// The value holds the digests of one or more neighbouring nodes of the level: those that one command has made.
    package static func node(_ organization: OrganizationID, _ position: TreePosition) -> [UInt8] {
        var key: [UInt8] = []
        key.reserveCapacity(13)
        self.append(organization, to: &key)
        key.append(position.level)
        self.append(position.index, to: &key)
        return key
    }

    /// Of the family `ledgerHeads`, and the prefix of the other two: organization u32.
    package static func head(_ organization: OrganizationID) -> [UInt8] {
        var key: [UInt8] = []
        key.reserveCapacity(4)
        self.append(organization, to: &key)
        return key
    }

    private static func append(_ organization: OrganizationID, to key: inout [UInt8]) {
        var shift = UInt32(32)
        while shift > 0 {
            shift -= 8
            key.append(UInt8(truncatingIfNeeded: organization.rawValue >> shift))
        }
    }

    private static func append(_ value: UInt64, to key: inout [UInt8]) {
        var shift = UInt64(64)
        while shift > 0 {
            shift -= 8
            key.append(UInt8(truncatingIfNeeded: value >> shift))
        }
    }

    private static func number(_ bytes: [UInt8], from start: Int) -> UInt64 {
        var value = UInt64(0)
        for place in start..<start + 8 { value = value << 8 | UInt64(bytes[place]) }
        return value
    }

    /// The sequence in a key of `records`; nil when the key has another form.
    static func sequence(ofRecordKey key: [UInt8]) -> SequenceNumber? {
        guard key.count == 12 else { return nil }
        return SequenceNumber(self.number(key, from: 4))
    }

    static func sequence(ofRecordKey key: RawSpan) -> SequenceNumber? {
        guard key.byteCount == 12 else { return nil }
        return SequenceNumber(UInt64(bigEndian: key.unsafeLoadUnaligned(fromByteOffset: 4, as: UInt64.self)))
    }

    static func position(ofNodeKey key: RawSpan) -> TreePosition? {
        guard key.byteCount == 13 else { return nil }
        let index = UInt64(bigEndian: key.unsafeLoadUnaligned(fromByteOffset: 5, as: UInt64.self))
        return TreePosition(level: key.unsafeLoadUnaligned(fromByteOffset: 4, as: UInt8.self), index: index)
    }

    /// The place in a key of `treeNodes`; nil when the key has another form.
    static func position(ofNodeKey key: [UInt8]) -> TreePosition? {
        guard key.count == 13 else { return nil }
        return TreePosition(level: key[4], index: self.number(key, from: 5))
    }
}
