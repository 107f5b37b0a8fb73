import AuditLedger
import Primitives
import Testing

/// Proofs that show some records and that the others exist.
struct SelectionProofTests {
    static func leaves(_ ranges: [Range<UInt64>]) -> [Digest] { ranges.joined().map(LargeTree.leaf) }

    @Test func provesEveryRangeOfEverySmallTree() throws {
        let reference = ProofReference(leaves: ProofReference.leaves(40))
        let nodes = MerkleNodes(leaves: reference.leaves)
        for size in UInt64(1)...40 {
            let root = reference.root(0, Int(size))
            for start in 0..<size {
                for end in (start + 1)...size {
                    let proof = try SelectionProof.build(ranges: [start..<end], size: size, from: nodes)
                    try proof.verify(leaves: Self.leaves([start..<end]), root: root)
                    #expect(proof.hashes.count <= 2 * (UInt64.bitWidth - size.leadingZeroBitCount))
                }
            }
        }
    }

    /// One record's selection carries exactly the hashes of its inclusion proof.
    @Test func ofOneRecordIsItsInclusionProof() throws {
        let nodes = MerkleNodes(leaves: ProofReference.leaves(300))
        for size in [UInt64(1), 2, 5, 8, 255, 256, 257, 300] {
            for index in stride(from: 0, to: size, by: 3) {
                let selection = try SelectionProof.build(ranges: [index..<index + 1], size: size, from: nodes)
                let inclusion = try InclusionProof.build(index: index, size: size, from: nodes)
                #expect(Set(selection.hashes) == Set(inclusion.path), "leaf \(index) of \(size)")
                #expect(selection.hashes.count == inclusion.path.count)
            }
        }
    }

    @Test(arguments: UInt64(1)...20) func provesRandomSelections(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        let size = UInt64.random(in: 1...(seed % 4 == 0 ? LargeTree.size : 600), using: &generator)
        let count = Int.random(in: 1...min(200, Int(size)), using: &generator)
        let indexes = (0..<count).map { _ in UInt64.random(in: 0..<size, using: &generator) }.sorted()
        let ranges = SelectionProof.ranges(ofAscending: indexes)
        #expect(Array(ranges.joined()) == Array(Set(indexes)).sorted())
        let proof = try SelectionProof.build(ranges: ranges, size: size, from: LargeTree.nodes)
        let root = try LargeTree.nodes.treeRoot(size: size)
        let leaves = Self.leaves(ranges)
        try proof.verify(leaves: leaves, root: root)
        #expect(try SelectionProof(parsing: proof.encoded) == proof)

        let place = Int.random(in: 0..<leaves.count, using: &generator)
        var forged = leaves
        forged[place] = flipped(forged[place], byte: 5)
        #expect(proofCode { try proof.verify(leaves: forged, root: root) } == .rootMismatch, "seed \(seed)")
        #expect(proofCode { try proof.verify(leaves: leaves.dropLast(), root: root) } == .wrongRecordCount)
        #expect(proofCode { try proof.verify(leaves: leaves + [.zero], root: root) } == .wrongRecordCount)
        guard leaves.count > 1, place > 0 else { return }
        var reordered = leaves
        reordered.swapAt(place, place - 1)
        #expect(proofCode { try proof.verify(leaves: reordered, root: root) } == .rootMismatch, "seed \(seed)")
    }

    @Test func refusesEveryForgedHash() throws {
        let nodes = MerkleNodes(leaves: ProofReference.leaves(1000))
        let ranges = [UInt64(3)..<5, 100..<228, 600..<601]
        let root = try nodes.treeRoot(size: 777)
        let proof = try SelectionProof.build(ranges: ranges, size: 777, from: nodes)
        let leaves = Self.leaves(ranges)
        func code(_ hashes: [Digest], ranges: [Range<UInt64>] = ranges, size: UInt64 = 777) -> ProofError.Code? {
            proofCode {
                try SelectionProof(size: size, ranges: ranges, hashes: hashes).verify(leaves: leaves, root: root)
            }
        }
        #expect(code(proof.hashes) == nil)
        for place in proof.hashes.indices {
            for byte in stride(from: 0, to: Digest.byteCount, by: 5) {
                var hashes = proof.hashes
                hashes[place] = flipped(hashes[place], byte: byte)
                #expect(code(hashes) == .rootMismatch)
            }
            var shorter = proof.hashes
            shorter.remove(at: place)
            #expect(code(shorter) == .wrongLength)
        }
        #expect(code(proof.hashes + [.zero]) == .wrongLength)
        // The same records at other places, or in another tree, are another statement.
        #expect(code(proof.hashes, ranges: [4..<6, 100..<228, 600..<601]) != nil)
        #expect(code(proof.hashes, ranges: [3..<5, 100..<228, 601..<602]) != nil)
        #expect(code(proof.hashes, size: 600) != nil)
        // A root does not say how many leaves there are: the last hash may stand for any number. A head does.
        let claimed = SelectionProof(size: 778, ranges: ranges, hashes: proof.hashes)
        #expect(proofCode { try claimed.verify(leaves: leaves, root: root) } == nil)
        let head = TreeHead(size: 777, root: root)
        #expect(proofCode { try claimed.verify(leaves: leaves, in: head) } == .otherTree)
        #expect(proofCode { try proof.verify(leaves: leaves, in: head) } == nil)
    }

    @Test func namesWhatIsWrongWithASelection() throws {
        let nodes = MerkleNodes(leaves: ProofReference.leaves(8))
        func code(_ ranges: [Range<UInt64>], _ size: UInt64 = 8) -> ProofError.Code? {
            let built = proofCode { _ = try SelectionProof.build(ranges: ranges, size: size, from: nodes) }
            let read = proofCode { _ = try SelectionVerifier(SelectionProof(size: size, ranges: ranges, hashes: [])) }
            #expect(built == read || built == nil && read == .wrongLength)
            return built
        }
        #expect(code([0..<8]) == nil)
        #expect(code([0..<1], 0) == .emptyTree)
        #expect(code([0..<1], .max) == .beyondTree)
        #expect(code([7..<9]) == .beyondTree)
        #expect(code([]) == .badSelection)
        #expect(code([3..<3]) == .badSelection)
        #expect(code([2..<4, 4..<5]) == .badSelection)
        #expect(code([4..<5, 1..<2]) == .badSelection)
        #expect(code([1..<4, 3..<5]) == .badSelection)
        #expect(
            code(Array(repeating: 0..<1, count: SelectionProof.rangesMax + 1)) == .tooLarge
        )
    }

    @Test func textNamesSequences() throws {
        let nodes = MerkleNodes(leaves: ProofReference.leaves(8))
        let proof = try SelectionProof.build(ranges: [1..<3, 5..<6], size: 8, from: nodes)
        let text = text(proof.encoded)
        #expect(text.hasPrefix("flasktrack/selection-proof@v1\nsize 8\nrecords 2 3\nrecords 6 6\n\n"))
        func code(_ changed: String) -> NoteError.Code? { noteCode { _ = try SelectionProof(parsing: changed.utf8) } }
        #expect(code(text) == nil)
        #expect(code(text.replacing("records 2 3", with: "records 0 3")) == .malformedLine)
        #expect(code(text.replacing("records 2 3", with: "records 4 3")) == .malformedLine)
        #expect(code(text.replacing("records 2 3", with: "records 2")) == .malformedLine)
        #expect(code(text.replacing("records 2 3", with: "record 2 3")) == .malformedLine)
        #expect(code(text.replacing("records 2 3", with: "records 02 3")) == .malformedNumber)
        #expect(code(text.replacing("records 2 3", with: "records 2  3")) == .malformedLine)
        #expect(code(String(text.prefix(60))) == .truncated)
        #expect(code(text + "AA==\n") == .malformedHash)
    }
}
