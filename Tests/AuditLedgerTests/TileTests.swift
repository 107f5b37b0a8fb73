import Primitives
import Testing

@testable import AuditLedger

/// Tiles and entry bundles of C2SP tlog-tiles.
struct TileTests {
    @Test func pathsAreThoseOfTheSpecification() throws {
        func path(_ content: TilePath.Content, _ index: UInt64, _ width: Int = 256) throws -> String {
            try TilePath(content, index: index, width: width).text
        }
        #expect(try path(.hashes(level: 0), 1_234_067) == "tile/0/x001/x234/067")
        #expect(try path(.hashes(level: 0), 0) == "tile/0/000")
        #expect(try path(.hashes(level: 63), 999) == "tile/63/999")
        #expect(try path(.hashes(level: 2), 1000, 17) == "tile/2/x001/000.p/17")
        #expect(try path(.entries, 123_456_789, 255) == "tile/entries/x123/x456/789.p/255")
    }

    @Test(arguments: [UInt64(0), 1, 999, 1000, 1_000_000, 999_999_999, UInt64(Int64.max)])
    func pathsHaveOneSpelling(index: UInt64) throws {
        for content in [TilePath.Content.entries, .hashes(level: 0), .hashes(level: 7), .hashes(level: 63)] {
            for width in [1, 9, 10, 99, 255, 256] {
                let path = try TilePath(content, index: index, width: width)
                #expect(try TilePath(parsing: path.text.utf8) == path)
            }
        }
    }

    @Test func refusesOtherPaths() {
        let bad = [
            "", "tile", "tile/", "tile/0", "tile/0/", "/tile/0/000", "tile/0/000/", "tile/00/000", "tile/64/000",
            "tile/0/0", "tile/0/00", "tile/0/0000", "tile/0/x000", "tile/0/x001", "tile/0/x000/000", "tile/0/001/000",
            "tile/0/x1/000", "tile/0/x001/x000", "tile/0/000.p/0", "tile/0/000.p/256", "tile/0/000.p/01",
            "tile/0/000.p/", "tile/0/000.p", "tile/0/000/1", "tile/0/000.q/1", "tile/0/000.p/1/1", "tile/-1/000",
            "tile/0/+00", "tile/0/٠٠٠", "tile/data/000", "tile/entries", "tile/0/../000",
            "tile/0/x999/x999/x999/x999/x999/x999/999",
            "tile/0/x018/x446/x744/x073/x709/x551/616", "tile/0/x009/x223/x372/x036/x854/x775/808", "TILE/0/000",
        ]
        for text in bad {
            #expect(proofCode { _ = try TilePath(parsing: text.utf8) } == .malformed, "\(text)")
        }
        #expect(proofCode { _ = try TilePath(.hashes(level: 64), index: 0) } == .malformed)
        #expect(proofCode { _ = try TilePath(.entries, index: .max) } == .malformed)
        #expect(proofCode { _ = try TilePath(.entries, index: 0, width: 0) } == .malformed)
        #expect(proofCode { _ = try TilePath(.entries, index: 0, width: 257) } == .malformed)
    }

    /// The tree of 70,000 in the specification's text.
    @Test func countsAreThoseOfTheSpecification() {
        #expect(TilePath.counts(level: 0, size: 70_000) == (273, 112))
        #expect(TilePath.counts(level: 1, size: 70_000) == (1, 17))
        #expect(TilePath.counts(level: 2, size: 70_000) == (0, 1))
        #expect(TilePath.counts(level: 0, size: 256) == (1, 0))
        #expect(TilePath.counts(level: 1, size: 256) == (0, 1))
        #expect(TilePath.counts(level: 63, size: .max) == (0, 0))
        var paths: [String] = []
        TilePath.forEach(size: 70_000, includingEntries: false) { paths.append($0.text) }
        #expect(paths.count == 273 + 1 + 1 + 1 + 1)
        #expect(
            paths.suffix(5) == ["tile/0/272", "tile/0/273.p/112", "tile/1/000", "tile/1/001.p/17", "tile/2/000.p/1"]
        )
        paths = []
        TilePath.forEach(since: 69_900, size: 70_000) { paths.append($0.text) }
        #expect(
            paths == [
                "tile/entries/273.p/112", "tile/0/273.p/112", "tile/1/001.p/17", "tile/2/000.p/1",
            ]
        )
        paths = []
        TilePath.forEach(size: 0) { paths.append($0.text) }
        #expect(paths.isEmpty)
    }

    final class Files {
        var files: [TilePath: [UInt8]] = [:]

        init(size: UInt64, nodes: MerkleNodes = LargeTree.nodes) throws {
            try TilePath.forEach(size: size, includingEntries: false) { path in
                self.files[path] = try Tile(path: path, from: nodes).encoded
            }
        }

        func tree(_ size: UInt64) -> TileNodes { TileNodes(size: size) { self.files[$0] } }
    }

    @Test(arguments: [UInt64(1), 2, 255, 256, 257, 511, 512, 65_535, 65_536, 65_537, 70_000])
    func leadToTheRootAndToProofs(size: UInt64) throws {
        let files = try Files(size: size)
        let tree = files.tree(size)
        let root = try LargeTree.nodes.treeRoot(size: size)
        try tree.verify(root: root)
        #expect(proofCode { try tree.verify(root: .zero) } == .rootMismatch)
        for index in [0, size / 3, size / 2, size - 1] {
            let proof = try InclusionProof.build(index: index, size: size, from: tree)
            try proof.verify(leaf: LargeTree.leaf(index), root: root)
            guard index > 0 else { continue }
            let consistency = try ConsistencyProof.build(from: index, to: size, nodes: tree)
            try consistency.verify(oldRoot: try LargeTree.nodes.treeRoot(size: index), newRoot: root)
        }
        #expect(proofCode { _ = try tree.node(at: TreePosition(level: 0, index: size)) } == .beyondTree)
        #expect(proofCode { _ = try tree.node(at: TreePosition(level: 63, index: 0)) } == .beyondTree)
    }

    @Test func namesTheTileThatIsWrong() throws {
        let size = UInt64(70_000)
        let root = try LargeTree.nodes.treeRoot(size: size)
        let sound = try Files(size: size).files
        for path in sound.keys.sorted(by: { $0.text < $1.text }) where path.index % 53 == 0 || !path.isFull {
            let files = try Files(size: 0)
            files.files = sound
            files.files[path]?[5] ^= 1
            let code = proofCode { try files.tree(size).verify(root: root) }
            #expect([.tileMismatch, .rootMismatch].contains(code), "\(path)")
            files.files[path] = Array((sound[path] ?? []).dropLast())
            #expect(proofCode { try files.tree(size).verify(root: root) } == .wrongWidth, "\(path)")
            files.files[path] = nil
            #expect(proofCode { try files.tree(size).verify(root: root) } == .missingTile, "\(path)")
        }
        let files = try Files(size: 0)
        files.files = sound
        let path = try TilePath(.hashes(level: 0), index: 7)
        files.files[path]?[5] ^= 1
        let error = #expect(throws: ProofError.self) { try files.tree(size).verify(root: root) }
        #expect(error?.message.contains("tile/0/007 ") == true)
    }

    /// A log may drop partial tiles once the full one is there.
    @Test func takesTheFullTileForAMissingPartialOne() throws {
        let files = try Files(size: 70_144)
        #expect(files.files[try TilePath(.hashes(level: 0), index: 273, width: 112)] == nil)
        for path in try Files(size: 70_000).files.keys
        where path.text.hasPrefix("tile/1") || path.text.hasPrefix("tile/2") {
            files.files[path] = try Tile(path: path, from: LargeTree.nodes).encoded
        }
        try files.tree(70_000).verify(root: try LargeTree.nodes.treeRoot(size: 70_000))
    }

    @Test func bundlesHoldTheirEntries() throws {
        let entries = [bytes(""), bytes("a"), [UInt8](repeating: 7, count: 65_535)]
        var bundle: [UInt8] = []
        for entry in entries { try EntryBundle.append(entry, to: &bundle) }
        #expect(Array(bundle.prefix(5)) == [0, 0, 0, 1, 0x61])
        let path = try TilePath(.entries, index: 0, width: 3)
        #expect(try EntryBundle.entries(path: path, parsing: bundle).map { Array($0) } == entries)
        func code(_ bytes: [UInt8], _ width: Int = 3) -> ProofError.Code? {
            proofCode {
                _ = try EntryBundle.entries(path: TilePath(.entries, index: 0, width: width), parsing: bytes)
            }
        }
        #expect(code(bundle) == nil)
        #expect(code(bundle, 2) == .wrongWidth)
        #expect(code(bundle, 4) == .wrongWidth)
        #expect(code(bundle + [0]) == .wrongWidth)
        for cut in 1..<8 { #expect(code(Array(bundle.dropLast(cut))) == .wrongWidth) }
        #expect(code([]) == .wrongWidth)
        #expect(
            proofCode { try EntryBundle.append([UInt8](repeating: 0, count: 65_536), to: &bundle) } == .tooLarge
        )
        let tile = try TilePath(.hashes(level: 0), index: 0, width: 3)
        #expect(proofCode { _ = try EntryBundle.entries(path: tile, parsing: bundle) } == .malformed)
        #expect(proofCode { _ = try Tile(path: path, parsing: bundle) } == .malformed)
        #expect(proofCode { _ = try Tile(path: path, from: LargeTree.nodes) } == .malformed)
        #expect(
            proofCode { _ = try Tile(path: TilePath(.hashes(level: 8), index: 0), from: LargeTree.nodes) } == .malformed
        )
    }

    @Test func bundlesAreCheckedAgainstTheirTile() throws {
        let fixture = try LedgerFixture(records: 300)
        let reader = try fixture.reader()
        var files: [TilePath: [UInt8]] = [:]
        try TilePath.forEach(size: 300) { path in
            guard path.content == .entries else {
                files[path] = try Tile(path: path, from: reader).encoded
                return
            }
            var bundle: [UInt8] = []
            for record in try reader.records(from: SequenceNumber(path.index * 256 + 1), limit: path.width) {
                try EntryBundle.append(record.bytes, to: &bundle)
            }
            files[path] = bundle
        }
        #expect(files.count == 5)
        let stored = files
        let tree = TileNodes(size: 300) { stored[$0] }
        try tree.verify(root: try reader.root(at: 300))
        let path = try #require(TilePath.bundle(index: 1, size: 300))
        let good = try #require(files[path])
        #expect(try tree.verify(bundle: path, bytes: good) == fixture.appended.suffix(44).map(\.checksum))
        var forged = good
        forged[forged.count - 3] ^= 1
        let error = #expect(throws: ProofError.self) { try tree.verify(bundle: path, bytes: forged) }
        #expect(error?.code == .tileMismatch && error?.message.contains("record 300 ") == true)
    }

    @Test(arguments: UInt64(1)...10) func damageNeverTraps(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        var bundle: [UInt8] = []
        for _ in 0..<5 { try EntryBundle.append([UInt8](repeating: 9, count: 40), to: &bundle) }
        let path = try TilePath(.entries, index: 0, width: 5)
        for _ in 0..<200 {
            let name = NoteFixture.damage(bytes("tile/0/x001/x234/067.p/12"), &generator)
            if let read = try? TilePath(parsing: name) { #expect(bytes(read.text) == name, "seed \(seed)") }
            let damaged = NoteFixture.damage(bundle, &generator)
            if let entries = try? EntryBundle.entries(path: path, parsing: damaged) {
                var again: [UInt8] = []
                for entry in entries { try EntryBundle.append(Array(entry), to: &again) }
                #expect(again == damaged, "seed \(seed)")
            }
        }
    }
}
