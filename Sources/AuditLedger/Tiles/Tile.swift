package import Primitives

/// The hashes of a tile: up to 256 neighbouring nodes of one level.
package struct Tile: Hashable, Sendable {
    package let path: TilePath
    package let hashes: [Digest]

    /// Reads the bytes of a tile.
    ///
    /// - Throws: ``ProofError`` `.wrongWidth` when they are not as many hashes as the path says, `.malformed` when the
    ///   path is that of entries.
    package init(path: TilePath, parsing bytes: [UInt8]) throws(ProofError) {
        guard case .hashes = path.content else { throw ProofError(.malformed, "\(path) has no hashes") }
        guard bytes.count == path.width * Digest.byteCount else {
            throw ProofError(.wrongWidth, "\(path) has \(bytes.count) bytes")
        }
        self.path = path
        self.hashes = (0..<path.width).map { LedgerHash.digest(stored: bytes, at: $0) }
    }

    /// Reads a tile's hashes from the nodes of a tree.
    ///
    /// - Throws: ``ProofError`` `.malformed` when the path is that of entries or of a level without nodes; whatever the
    ///   source throws.
    package init(path: TilePath, from source: some TreeNodeSource) throws {
        guard case .hashes(let level) = path.content, UInt64(level) * TilePath.height < 64,
            path.index <= MerkleTree.sizeMax >> (UInt64(level + 1) * TilePath.height)
        else { throw ProofError(.malformed, "\(path) has no hashes") }
        var hashes: [Digest] = []
        for place in 0..<path.width {
            let position = TreePosition(
                level: level * UInt8(TilePath.height),
                index: path.index << TilePath.height + UInt64(place)
            )
            hashes.append(try source.node(at: position))
        }
        self.path = path
        self.hashes = hashes
    }

    /// The bytes of the tile.
    package var encoded: [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(self.hashes.count * Digest.byteCount)
        for hash in self.hashes { hash.append(to: &bytes) }
        return bytes
    }

    /// The node over the whole tile: an entry of the tile above when the tile is full.
    package var root: Digest { self.node(height: 8, place: 0) }

    /// The node `height` levels above the hashes; its subtree lies within the tile, or is that of a partial tile.
    func node(height: Int, place: Int) -> Digest {
        var tree = MerkleTree()
        let start = place << height
        for hash in self.hashes[start..<min(start + 1 << height, self.hashes.count)] { tree.push(hash) }
        return tree.root
    }
}

/// Up to 256 records, each after its length in two bytes (C2SP tlog-tiles, section Log entries).
package enum EntryBundle {
    /// An entry has at most this many bytes; our records have at most 60,000.
    package static let entryBytesMax = 65_535
    /// A bundle has at most this many bytes.
    package static let bytesMax = TilePath.fullWidth * (2 + Self.entryBytesMax)

    /// Appends one entry to a bundle.
    ///
    /// - Throws: ``ProofError`` `.tooLarge`.
    package static func append(_ entry: [UInt8], to bundle: inout [UInt8]) throws(ProofError) {
        guard entry.count <= Self.entryBytesMax else {
            throw ProofError(.tooLarge, "an entry has at most \(Self.entryBytesMax) bytes")
        }
        bundle.append(UInt8(entry.count >> 8))
        bundle.append(UInt8(entry.count & 255))
        bundle += entry
    }

    /// Reads the entries of a bundle that must have exactly `path.width` of them.
    ///
    /// - Throws: ``ProofError`` `.wrongWidth` when bytes are missing or left over, `.malformed` when the path is that of
    ///   hashes.
    package static func entries(path: TilePath, parsing bytes: [UInt8]) throws(ProofError) -> [ArraySlice<UInt8>] {
        guard path.content == .entries else { throw ProofError(.malformed, "\(path) has no entries") }
        var entries: [ArraySlice<UInt8>] = []
        var next = 0
        while entries.count < path.width {
            guard bytes.count - next >= 2 else {
                throw ProofError(.wrongWidth, "\(path) ends after \(entries.count) entries")
            }
            let count = Int(bytes[next]) << 8 | Int(bytes[next + 1])
            next += 2
            guard bytes.count - next >= count else {
                throw ProofError(.wrongWidth, "entry \(entries.count) of \(path) is cut off")
            }
            entries.append(bytes[next..<next + count])
            next += count
        }
        guard next == bytes.count else {
            throw ProofError(.wrongWidth, "\(path) has bytes after its \(path.width) entries")
        }
        return entries
    }
}

/// Nodes of a tree, from its tiles.
package struct TileNodes: TreeNodeSource {
    /// The size of the tree; it says how wide partial tiles are.
    package let size: UInt64
    private let fetch: (TilePath) throws -> [UInt8]?

    /// - Parameter fetch: The bytes of a tile; nil when there is none. Asked for the same tile many times: cache outside.
    package init(size: UInt64, fetch: @escaping (TilePath) throws -> [UInt8]?) {
        self.size = size
        self.fetch = fetch
    }

    /// - Throws: ``ProofError`` `.beyondTree`, `.missingTile`, `.wrongWidth`; whatever `fetch` throws.
    package func node(at position: TreePosition) throws -> Digest {
        let height = position.level % UInt8(TilePath.height)
        let level = position.level / UInt8(TilePath.height)
        let first = position.index << UInt64(height)
        guard position.level < 63, position.index < MerkleTree.nodeCount(level: position.level, size: self.size),
            let path = TilePath.tile(level: level, index: first >> TilePath.height, size: self.size)
        else {
            throw ProofError(
                .beyondTree,
                "node \(position.level)/\(position.index) is not in a tree of size \(self.size)"
            )
        }
        let place = Int(first & 255) >> Int(height)
        return try self.tile(path).node(height: Int(height), place: place)
    }

    /// A tile, checked for its width only.
    ///
    /// - Throws: ``ProofError`` `.missingTile`, `.wrongWidth`; whatever `fetch` throws.
    package func tile(_ path: TilePath) throws -> Tile {
        if let bytes = try self.fetch(path) { return try Tile(path: path, parsing: bytes) }
        // A log may drop a partial tile when the full one is there.
        guard !path.isFull, let bytes = try self.fetch(path.full) else {
            throw ProofError(.missingTile, "\(path) is missing")
        }
        let full = try Tile(path: path.full, parsing: bytes)
        var cut: [UInt8] = []
        for hash in full.hashes.prefix(path.width) { hash.append(to: &cut) }
        return try Tile(path: path, parsing: cut)
    }

    /// Checks that all tiles belong together and lead to a root.
    ///
    /// Every full tile must be the node that the tile above has for it; so a root that is right says that every hash is.
    /// - Throws: ``ProofError`` `.tileMismatch` naming the tile, `.rootMismatch`, `.missingTile`, `.wrongWidth`;
    ///   whatever `fetch` throws.
    /// - Complexity: Reads every tile, those of level 1 and above once more for each tile below.
    package func verify(root: Digest) throws {
        var above: Tile?
        try TilePath.forEach(size: self.size, includingEntries: false) { path in
            let tile = try self.tile(path)
            guard path.isFull, case .hashes(let level) = path.content,
                let parent = TilePath.tile(level: level + 1, index: path.index >> TilePath.height, size: self.size)
            else { return }
            if above?.path != parent { above = try self.tile(parent) }
            guard above?.hashes[Int(path.index & 255)] == tile.root else {
                throw ProofError(.tileMismatch, "\(path) is not what \(parent) has for it")
            }
        }
        guard try self.treeRoot(size: self.size) == root else {
            throw ProofError(.rootMismatch, "the tiles do not lead to the root of size \(self.size)")
        }
    }

    /// Checks a bundle's entries against the level-0 tile with the same index.
    ///
    /// - Returns: The checksums of the entries.
    /// - Throws: ``ProofError`` `.tileMismatch` naming the record's sequence, `.wrongWidth`, `.missingTile`, `.malformed`;
    ///   whatever `fetch` throws.
    package func verify(bundle path: TilePath, bytes: [UInt8]) throws -> [Digest] {
        let entries = try EntryBundle.entries(path: path, parsing: bytes)
        let tile = try self.tile(TilePath(.hashes(level: 0), index: path.index, width: path.width))
        for (place, entry) in entries.enumerated() {
            guard LedgerHash.leaf(entry) == tile.hashes[place] else {
                let sequence = path.index << TilePath.height + UInt64(place) + 1
                throw ProofError(.tileMismatch, "record \(sequence) is not the one that \(tile.path) has")
            }
        }
        return tile.hashes
    }
}
