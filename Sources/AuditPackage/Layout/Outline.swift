internal import AuditLedger
internal import Primitives

/// One line of a selection's outline: a shown record's checksum, or the root of a perfect subtree of records that are
/// left out.
///
/// All lines together, in order, cover the tree from its first record to its last, without gap or overlap. The record
/// before a shown one always has a line of its own, so that the chain can be checked across the gap.
struct OutlineLine: Hashable, Sendable {
    /// The sequence of the first record under the node.
    let sequence: UInt64
    let level: UInt8
    let hash: Digest
    let isShown: Bool

    /// The records under the node.
    var count: UInt64 { 1 << UInt64(self.level) }

    /// A line has at most this many bytes.
    static let bytesMax = 160
    private static let hashLead = Array("{\"hash\":\"".utf8)
    private static let levelLead = Array("\",\"level\":".utf8)
    private static let sequenceLead = Array(",\"sequence\":".utf8)
    private static let shownEnd = Array(",\"shown\":true}".utf8)
    private static let hiddenEnd = Array(",\"shown\":false}".utf8)

    /// Appends `{"hash":…,"level":…,"sequence":…,"shown":…}` and a newline.
    func append(to text: inout [UInt8]) {
        text += Self.hashLead
        self.hash.appendHex(to: &text)
        text += Self.levelLead
        text.append(contentsOf: String(self.level).utf8)
        text += Self.sequenceLead
        text.append(contentsOf: String(self.sequence).utf8)
        text += self.isShown ? Self.shownEnd : Self.hiddenEnd
        text.append(UInt8(ascii: "\n"))
    }

    init(sequence: UInt64, level: UInt8, hash: Digest, isShown: Bool) {
        self.sequence = sequence
        self.level = level
        self.hash = hash
        self.isShown = isShown
    }

    /// Reads a line without its newline.
    /// - Returns: nil when it is not exactly what ``append(to:)`` writes, or no node of a tree.
    init?(_ line: ArraySlice<UInt8>) {
        guard line.count < Self.bytesMax, line.starts(with: Self.hashLead) else { return nil }
        var rest = line.dropFirst(Self.hashLead.count)
        guard let hash = Digest(hex: String(decoding: rest.prefix(64), as: UTF8.self)) else { return nil }
        rest = rest.dropFirst(64)
        guard rest.starts(with: Self.levelLead) else { return nil }
        rest = rest.dropFirst(Self.levelLead.count)
        guard let level = Self.number(&rest), rest.starts(with: Self.sequenceLead) else { return nil }
        rest = rest.dropFirst(Self.sequenceLead.count)
        guard let sequence = Self.number(&rest), level < 63, sequence > 0, sequence <= MerkleTree.sizeMax else {
            return nil
        }
        let isShown = rest.elementsEqual(Self.shownEnd)
        guard isShown || rest.elementsEqual(Self.hiddenEnd), !isShown || level == 0,
            (sequence - 1) & (1 << level - 1) == 0
        else { return nil }
        self.init(sequence: sequence, level: UInt8(level), hash: hash, isShown: isShown)
        var written: [UInt8] = []
        self.append(to: &written)
        guard written.dropLast().elementsEqual(line) else { return nil }
    }

    private static func number(_ text: inout ArraySlice<UInt8>) -> UInt64? {
        let digits = text.prefix { $0 >= 0x30 && $0 <= 0x39 }
        text = text.dropFirst(digits.count)
        return UInt64(String(decoding: digits, as: UTF8.self))
    }
}

/// Folds perfect subtrees, from left to right, into the root of the tree that they make up.
struct SubtreeFold: Sendable {
    /// The leaves so far.
    private(set) var count: UInt64 = 0
    /// The roots of the largest perfect subtrees so far, largest first.
    private var peaks: [Digest] = []

    /// Adds the subtree that begins behind the last one.
    /// - Returns: false, and nothing is changed, when a tree has no such node there.
    mutating func add(_ digest: Digest, level: UInt8) -> Bool {
        guard level < 63, self.count & (1 << UInt64(level) - 1) == 0, self.count < MerkleTree.sizeMax >> 1 else {
            return false
        }
        var digest = digest
        var index = self.count >> UInt64(level)
        while index & 1 == 1, let left = self.peaks.popLast() {
            digest = LedgerHash.node(left, digest)
            index >>= 1
        }
        self.peaks.append(digest)
        self.count += 1 << UInt64(level)
        return true
    }

    var root: Digest { MerkleTree.root(ofPeaks: self.peaks) }
}

/// The places of the largest perfect subtrees that make up records `first…last` of a ledger.
enum OutlineGap {
    static func nodes(first: UInt64, last: UInt64) -> [TreePosition] {
        var nodes: [TreePosition] = []
        var next = first - 1
        while next < last {
            let alignment = next == 0 ? UInt64.bitWidth - 1 : next.trailingZeroBitCount
            let level = min(alignment, UInt64.bitWidth - 1 - (last - next).leadingZeroBitCount)
            nodes.append(TreePosition(level: UInt8(level), index: next >> UInt64(level)))
            next += 1 << UInt64(level)
        }
        return nodes
    }
}
