import AuditLedger
import Primitives
import Storage
import Testing

/// Proofs that a record is in a tree.
struct InclusionProofTests {
    @Test func agreesWithThePublishedProofs() throws {
        let nodes = MerkleNodes(leaves: PublishedTree.leaves)
        for vector in PublishedTree.inclusions {
            let proof = try InclusionProof.build(index: vector.index, size: vector.size, from: nodes)
            #expect(proof.path.map(\.hex) == vector.path)
            try proof.verify(
                leaf: PublishedTree.leaves[Int(vector.index)],
                root: PublishedTree.roots[Int(vector.size)]
            )
        }
    }

    /// Every pair up to 128; beyond, the ends and every 61st leaf.
    @Test(arguments: 0..<8) func agreesWithTheDefinitionForAllSizesTo1024(part: Int) throws {
        let reference = ProofReference(leaves: ProofReference.leaves(1024))
        let nodes = MerkleNodes(leaves: reference.leaves)
        for size in stride(from: 1 + part, through: 1024, by: 8) {
            let root = reference.root(0, size)
            #expect(try nodes.treeRoot(size: UInt64(size)) == root)
            for index in 0..<size where size <= 128 || index % 61 == size % 61 || index == 0 || index + 1 == size {
                let proof = try InclusionProof.build(index: UInt64(index), size: UInt64(size), from: nodes)
                #expect(proof.path == reference.path(index, 0, size), "leaf \(index) of \(size)")
                try proof.verify(leaf: reference.leaves[index], root: root)
            }
        }
    }

    @Test(arguments: UInt64(1)...5) func holdsInLargeTrees(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        for _ in 0..<40 {
            let size = UInt64.random(in: 1...LargeTree.size, using: &generator)
            let index = UInt64.random(in: 0..<size, using: &generator)
            let proof = try InclusionProof.build(index: index, size: size, from: LargeTree.nodes)
            let root = try LargeTree.nodes.treeRoot(size: size)
            try proof.verify(leaf: LargeTree.leaf(index), root: root)
            #expect(
                proofCode { try proof.verify(leaf: LargeTree.leaf(index ^ 1), root: root) } == .rootMismatch,
                "seed \(seed): leaf \(index) of \(size)"
            )
        }
    }

    @Test func needsAtMostTwiceTheDepthInReads() throws {
        final class CountingNodes: TreeNodeSource {
            var reads = 0
            func node(at position: TreePosition) throws -> Digest {
                self.reads += 1
                return Digest(words: (UInt64(position.level), position.index, 0, 0))
            }
        }
        for size in [UInt64(1), 7, 1_000_000_007, MerkleTree.sizeMax] {
            for index in [0, size / 3, size / 2, size - 1] {
                let nodes = CountingNodes()
                let proof = try InclusionProof.build(index: index, size: size, from: nodes)
                let depth = UInt64.bitWidth - size.leadingZeroBitCount
                #expect(nodes.reads <= 2 * depth + 1, "leaf \(index) of \(size)")
                #expect(proof.path.count <= InclusionProof.pathMax)
                _ = try proof.root(leaf: .zero)
            }
        }
    }

    @Test func readsAStoredLedger() throws {
        let fixture = try LedgerFixture(records: 130)
        let reader = try fixture.reader()
        for size in [UInt64(1), 64, 100, 130] {
            for index in stride(from: 0, to: size, by: 7) {
                let proof = try InclusionProof.build(index: index, size: size, from: reader)
                let record = try #require(try reader.record(at: SequenceNumber(index + 1)))
                try proof.verify(leaf: LedgerHash.leaf(record), root: try reader.root(at: size))
            }
        }
        #expect(throws: LedgerError.self) { try InclusionProof.build(index: 3, size: 131, from: reader) }
    }

    @Test(arguments: [(UInt64(0), UInt64(8)), (5, 8), (4, 5), (130, 300), (299, 300), (255, 1000)])
    func refusesEveryForgery(index: UInt64, size: UInt64) throws {
        let nodes = MerkleNodes(leaves: ProofReference.leaves(1000))
        let leaf = LargeTree.leaf(index)
        let root = try nodes.treeRoot(size: size)
        let proof = try InclusionProof.build(index: index, size: size, from: nodes)
        func code(_ path: [Digest], index: UInt64 = index, size: UInt64 = size) -> ProofError.Code? {
            proofCode { try InclusionProof(index: index, size: size, path: path).verify(leaf: leaf, root: root) }
        }
        #expect(code(proof.path) == nil)
        for place in proof.path.indices {
            for byte in 0..<Digest.byteCount {
                var path = proof.path
                path[place] = flipped(path[place], byte: byte)
                #expect(code(path) == .rootMismatch, "hash \(place), byte \(byte)")
            }
            var shorter = proof.path
            shorter.remove(at: place)
            #expect(code(shorter) == .wrongLength)
            var longer = proof.path
            longer.insert(proof.path[place], at: place)
            #expect(code(longer) == .wrongLength)
            if place > 0 {
                var swapped = proof.path
                swapped.swapAt(place, place - 1)
                #expect(code(swapped) == .rootMismatch)
            }
        }
        #expect(code([]) == .wrongLength)
        #expect(code(proof.path + Array(repeating: .zero, count: 64)) == .wrongLength)
        for other in 0..<min(size, 64) where other != index {
            #expect([.rootMismatch, .wrongLength].contains(code(proof.path, index: other)), "as leaf \(other)")
        }
        for byte in 0..<Digest.byteCount {
            #expect(proofCode { try proof.verify(leaf: flipped(leaf, byte: byte), root: root) } == .rootMismatch)
            #expect(proofCode { try proof.verify(leaf: leaf, root: flipped(root, byte: byte)) } == .rootMismatch)
        }
    }

    @Test func namesWhatIsWrongWithSizes() throws {
        let nodes = MerkleNodes(leaves: ProofReference.leaves(4))
        #expect(proofCode { _ = try InclusionProof.build(index: 0, size: 0, from: nodes) } == .emptyTree)
        #expect(proofCode { _ = try InclusionProof.build(index: 4, size: 4, from: nodes) } == .beyondTree)
        #expect(proofCode { _ = try InclusionProof.build(index: 4, size: 5, from: nodes) } == .beyondTree)
        #expect(proofCode { _ = try InclusionProof.build(index: 4, size: .max, from: nodes) } == .beyondTree)
        #expect(proofCode { _ = try InclusionProof(index: 0, size: 0, path: []).root(leaf: .zero) } == .emptyTree)
        #expect(proofCode { _ = try InclusionProof(index: 1, size: 1, path: []).root(leaf: .zero) } == .beyondTree)
        #expect(proofCode { _ = try InclusionProof(index: 0, size: .max, path: []).root(leaf: .zero) } == .beyondTree)
        // An empty path is legal in the tree of one leaf only.
        #expect(try InclusionProof(index: 0, size: 1, path: []).root(leaf: .zero) == .zero)
        #expect(proofCode { _ = try InclusionProof(index: 0, size: 2, path: []).root(leaf: .zero) } == .wrongLength)
        let head = TreeHead(size: 4, root: try nodes.treeRoot(size: 4))
        let proof = try InclusionProof.build(index: 1, size: 3, from: nodes)
        #expect(proofCode { try proof.verify(leaf: LargeTree.leaf(1), in: head) } == .otherTree)
    }
}
