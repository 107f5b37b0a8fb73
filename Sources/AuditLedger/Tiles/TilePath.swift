internal import Primitives

/// The name of a tile or entry bundle below a log's prefix: `tile/0/x001/234.p/12`, `tile/entries/000` (C2SP
/// tlog-tiles).
package struct TilePath: Hashable, Sendable, CustomStringConvertible {
    /// A full tile has this many hashes, a full bundle this many entries.
    package static let fullWidth = 256
    /// Nodes between a tile's level and the one above.
    static let height = UInt64(8)
    /// The largest level that a path may name; levels above 7 are empty in any tree of 2^63 leaves.
    static let levelMax = UInt8(63)
    private static let bytesMax = 64

    /// What a file contains.
    package enum Content: Hashable, Sendable {
        /// Hashes of nodes of level 8 times this.
        case hashes(level: UInt8)
        /// The records themselves.
        case entries
    }

    package let content: Content
    /// The number of the tile within its level, from 0.
    package let index: UInt64
    /// How many hashes or entries there are, 1 to 256.
    package let width: Int

    /// - Throws: ``ProofError`` `.malformed` for a level above 63, an index above 2^63 − 1, or another width than 1 to
    ///   256.
    package init(_ content: Content, index: UInt64, width: Int = Self.fullWidth) throws(ProofError) {
        if case .hashes(let level) = content, level > Self.levelMax {
            throw ProofError(.malformed, "no tile has level \(level)")
        }
        guard (1...Self.fullWidth).contains(width), index <= MerkleTree.sizeMax else {
            throw ProofError(.malformed, "a tile is 1 to \(Self.fullWidth) wide, its index at most 2^63 - 1")
        }
        self.content = content
        self.index = index
        self.width = width
    }

    /// Inside of the module, where the arithmetic keeps the limits.
    init(unchecked content: Content, index: UInt64, width: Int) {
        self.content = content
        self.index = index
        self.width = width
    }

    package var isFull: Bool { self.width == Self.fullWidth }

    /// The same tile when it is complete.
    package var full: TilePath { TilePath(unchecked: self.content, index: self.index, width: Self.fullWidth) }

    /// The path without a leading slash.
    package var text: String {
        var groups: [String] = []
        var rest = self.index
        repeat {
            let digits = String(rest % 1000)
            groups.append(String(repeating: "0", count: 3 - digits.count) + digits)
            rest /= 1000
        } while rest > 0
        let index = groups.dropFirst().reversed().map { "x\($0)/" }.joined() + groups[0]
        let suffix = self.isFull ? "" : ".p/\(self.width)"
        return switch self.content {
        case .hashes(let level): "tile/\(level)/\(index)\(suffix)"
        case .entries: "tile/entries/\(index)\(suffix)"
        }
    }

    package var description: String { self.text }

    /// Reads a path; what is accepted is what ``text`` would write.
    ///
    /// - Throws: ``ProofError`` `.malformed`.
    package init(parsing text: some Collection<UInt8>) throws(ProofError) {
        let malformed = ProofError(.malformed, "not the path of a tile")
        let bytes = Array(text.prefix(Self.bytesMax + 1))
        guard bytes.count <= Self.bytesMax else { throw malformed }
        var parts = bytes.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)[...]
        guard parts.popFirst() == Array("tile".utf8)[...], let kind = parts.popFirst() else { throw malformed }
        let content: Content
        if kind == Array("entries".utf8)[...] {
            content = .entries
        } else {
            guard let level = try? StrictText.number(kind, line: 1), level <= Self.levelMax else { throw malformed }
            content = .hashes(level: UInt8(level))
        }
        var width = Self.fullWidth
        let partial = Array(".p".utf8)
        if parts.count >= 2, parts[parts.endIndex - 2].suffix(2) == partial[...], let last = parts.popLast() {
            guard let number = try? StrictText.number(last, line: 1), (1..<256).contains(number) else {
                throw malformed
            }
            width = Int(number)
            parts[parts.endIndex - 1].removeLast(2)
        }
        guard let index = Self.index(of: parts) else { throw malformed }
        try self.init(content, index: index, width: width)
        // The one check against leading zero groups, and all else that has two spellings.
        guard Array(self.text.utf8) == bytes else { throw malformed }
    }

    private static func index(of parts: ArraySlice<ArraySlice<UInt8>>) -> UInt64? {
        guard !parts.isEmpty else { return nil }
        var index = UInt64(0)
        for (offset, part) in parts.enumerated() {
            var digits = part
            if offset < parts.count - 1 { guard digits.popFirst() == UInt8(ascii: "x") else { return nil } }
            guard digits.count == 3, digits.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) })
            else { return nil }
            let group = digits.reduce(UInt64(0)) { $0 * 10 + UInt64($1 - UInt8(ascii: "0")) }
            let (product, overflowed) = index.multipliedReportingOverflow(by: 1000)
            let (sum, carried) = product.addingReportingOverflow(group)
            guard !overflowed, !carried else { return nil }
            index = sum
        }
        return index
    }
}

extension TilePath {
    /// How many tiles and bundles a tree of `size` leaves has at a level: full ones, and the width of the partial one.
    package static func counts(level: UInt8, size: UInt64) -> (full: UInt64, partialWidth: Int) {
        let shift = UInt64(level) * Self.height
        guard shift < 64 else { return (0, 0) }
        let nodes = size >> shift
        return (nodes >> Self.height, Int(nodes & 255))
    }

    /// The tile of a level that holds a node, as wide as a tree of `size` leaves has it; nil when it has no such tile.
    package static func tile(level: UInt8, index: UInt64, size: UInt64) -> TilePath? {
        self.path(.hashes(level: level), index: index, counts: self.counts(level: level, size: size))
    }

    /// The bundle with this index, as wide as a tree of `size` leaves has it; nil when it has no such bundle.
    package static func bundle(index: UInt64, size: UInt64) -> TilePath? {
        self.path(.entries, index: index, counts: self.counts(level: 0, size: size))
    }

    private static func path(
        _ content: Content,
        index: UInt64,
        counts: (full: UInt64, partialWidth: Int)
    ) -> TilePath? {
        if index < counts.full { return TilePath(unchecked: content, index: index, width: Self.fullWidth) }
        guard index == counts.full, counts.partialWidth > 0 else { return nil }
        return TilePath(unchecked: content, index: index, width: counts.partialWidth)
    }

    /// Calls `body` with every file that the leaves `start ..< size` of a tree of `size` leaves touch: bundles first,
    /// then tiles from the lowest level up, each in order.
    ///
    /// From 0, that is the whole tree; from an older size, what changed or came since.
    package static func forEach(
        since start: UInt64 = 0,
        size: UInt64,
        includingEntries: Bool = true,
        _ body: (TilePath) throws -> Void
    ) rethrows {
        guard start < size else { return }
        func visit(_ content: Content, level: UInt8) throws {
            let counts = self.counts(level: level, size: size)
            let end = counts.full + (counts.partialWidth > 0 ? 1 : 0)
            var index = start >> (UInt64(level + 1) * Self.height)
            while index < end {
                if let path = self.path(content, index: index, counts: counts) { try body(path) }
                index += 1
            }
        }
        if includingEntries { try visit(.entries, level: 0) }
        var level = UInt8(0)
        while UInt64(level) * Self.height < 64, size >> (UInt64(level) * Self.height) > 0 {
            try visit(.hashes(level: level), level: level)
            level += 1
        }
    }
}
