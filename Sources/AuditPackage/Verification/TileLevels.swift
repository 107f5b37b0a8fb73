internal import AuditLedger
internal import Primitives

/// The hashes of a package's tiles of level 1 and above, and of the last one of level 0, and which of them the signed
/// root vouches for.
///
/// From the top: the tiles at the right edge make up the root; a full tile is vouched for when its own root stands in a
/// tile above that is.
struct TileLevels: Sendable {
    private let size: UInt64
    /// Nil where a tile is absent or has another width. Level 0 holds the last, partial tile only.
    private var hashes: [[Digest?]] = []
    private var isVouched: [[Bool]] = []
    /// Whether the tiles at the right edge lead to the root.
    private(set) var leadsToRoot = false
    private(set) var findings: [PackageFinding] = []
    private(set) var partFindings: [PackageFinding] = []

    init(_ parts: PackageParts, checkpoint: Checkpoint) throws(PackageError) {
        self.size = checkpoint.size
        var level = UInt8(0)
        while UInt64(level) * 8 < 64, self.size >> (UInt64(level) * 8) > 0 {
            self.hashes.append(try self.read(parts, level: level))
            level += 1
        }
        self.isVouched = self.hashes.map { $0.map { _ in false } }
        self.vouch(root: checkpoint.root)
    }

    private mutating func read(_ parts: PackageParts, level: UInt8) throws(PackageError) -> [Digest?] {
        var hashes: [Digest?] = []
        let (full, partialWidth) = TilePath.counts(level: level, size: self.size)
        for index in (level == 0 ? full : 0)..<(full + (partialWidth > 0 ? 1 : 0)) {
            guard let path = TilePath.tile(level: level, index: index, size: self.size) else { continue }
            let part = try parts.part(path.text)
            if let finding = part.finding { self.partFindings.append(finding) }
            if let bytes = part.bytes, let tile = try? Tile(path: path, parsing: bytes) {
                hashes += tile.hashes
            } else {
                hashes += [Digest?](repeating: nil, count: path.width)
            }
        }
        return hashes
    }

    /// Where the partial tile of a level begins among ``hashes``.
    private func edge(_ level: Int) -> Int {
        level == 0 ? 0 : self.hashes[level].count / TilePath.fullWidth * TilePath.fullWidth
    }

    private mutating func vouch(root: Digest) {
        var fold = SubtreeFold()
        for level in stride(from: self.hashes.count - 1, through: 0, by: -1) {
            for hash in self.hashes[level][self.edge(level)...] {
                guard let hash, fold.add(hash, level: UInt8(8 * level)) else { return }
            }
        }
        guard fold.count == self.size, fold.root == root else { return }
        self.leadsToRoot = true
        for level in stride(from: self.hashes.count - 1, through: 0, by: -1) {
            for place in self.edge(level)..<self.hashes[level].count { self.isVouched[level][place] = true }
            guard level > 0, level + 1 < self.hashes.count else { continue }
            for tile in 0..<self.edge(level) / TilePath.fullWidth { self.vouch(tile: tile, level: level) }
        }
    }

    private mutating func vouch(tile: Int, level: Int) {
        guard self.isVouched[level + 1][tile], let above = self.hashes[level + 1][tile] else { return }
        let places = tile * TilePath.fullWidth..<(tile + 1) * TilePath.fullWidth
        var tree = MerkleTree()
        for hash in self.hashes[level][places] {
            guard let hash else { return }
            tree.push(hash)
        }
        if tree.root == above {
            for place in places { self.isVouched[level][place] = true }
        } else {
            self.add(tile: UInt64(tile), level: UInt8(level))
        }
    }

    private mutating func add(tile: UInt64, level: UInt8) {
        guard let path = TilePath.tile(level: level, index: tile, size: self.size) else { return }
        let first = TreePosition(level: 8 * (level + 1), index: tile).firstSequence
        self.findings.append(
            PackageFinding(
                .proofMismatch,
                sequence: first,
                file: path.text,
                "the tile is not what the tile above has for it"
            )
        )
    }

    /// The root over a full bundle that the signed root vouches for; nil when nothing does.
    func bundleRoot(_ index: Int) -> Digest? {
        guard self.hashes.count > 1, index < self.hashes[1].count, self.isVouched[1][index] else { return nil }
        return self.hashes[1][index]
    }

    /// The checksums of the last, partial bundle; nil when nothing vouches for them.
    var lastChecksums: [Digest]? {
        guard self.leadsToRoot else { return nil }
        return self.hashes[0].compactMap { $0 }
    }

    /// Tiles that are not those of the tree with these bundle roots and last checksums, which is the signed one.
    func differences(bundleRoots: [Digest], last: [Digest]) -> [PackageFinding] {
        var findings: [PackageFinding] = []
        var computed = [last, bundleRoots]
        for level in 0..<self.hashes.count {
            if level == computed.count {
                computed.append(Self.above(computed[level - 1]))
            }
            for start in stride(from: 0, to: self.hashes[level].count, by: TilePath.fullWidth) {
                let end = min(start + TilePath.fullWidth, self.hashes[level].count)
                let stored = self.hashes[level][start..<end]
                // Absent ones are named as such.
                guard !stored.contains(nil) || stored.contains(where: { $0 != nil }) else { continue }
                guard !zip(stored, computed[level][start..<end]).allSatisfy({ $0 == $1 }) else { continue }
                let index = level == 0 ? UInt64(self.size >> 8) : UInt64(start / TilePath.fullWidth)
                guard let path = TilePath.tile(level: UInt8(level), index: index, size: self.size) else { continue }
                findings.append(
                    PackageFinding(
                        .proofMismatch,
                        file: path.text,
                        "the tile is not that of the signed tree; the records below it are"
                    )
                )
            }
        }
        return findings
    }

    private static func above(_ hashes: [Digest]) -> [Digest] {
        stride(from: 0, to: hashes.count / TilePath.fullWidth * TilePath.fullWidth, by: TilePath.fullWidth).map {
            var tree = MerkleTree()
            for hash in hashes[$0..<$0 + TilePath.fullWidth] { tree.push(hash) }
            return tree.root
        }
    }
}
