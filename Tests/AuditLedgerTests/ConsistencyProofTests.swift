import AuditLedger
import Primitives
import Testing

/// Proofs that one tree continues another.
struct ConsistencyProofTests {
    @Test func agreesWithThePublishedProofs() throws {
        let nodes = MerkleNodes(leaves: PublishedTree.leaves)
        for vector in PublishedTree.consistencies {
            let proof = try ConsistencyProof.build(from: vector.old, to: vector.new, nodes: nodes)
            #expect(proof.path.map(\.hex) == vector.path)
            try proof.verify(
                oldRoot: PublishedTree.roots[Int(vector.old)],
                newRoot: PublishedTree.roots[Int(vector.new)]
            )
        }
    }

    /// Every pair up to 128; beyond, the ends, the powers of two and every 61st size.
    @Test(arguments: 0..<8) func agreesWithTheDefinitionForAllSizesTo1024(part: Int) throws {
        let reference = ProofReference(leaves: ProofReference.leaves(1024))
        let nodes = MerkleNodes(leaves: reference.leaves)
        for new in stride(from: 1 + part, through: 1024, by: 8) {
            for old in 1...new
            where new <= 128 || old % 61 == new % 61 || old & (old - 1) == 0 || old + 1 >= new {
                let proof = try ConsistencyProof.build(from: UInt64(old), to: UInt64(new), nodes: nodes)
                #expect(proof.path == reference.subproof(old, 0, new), "\(old) to \(new)")
                try proof.verify(oldRoot: reference.root(0, old), newRoot: reference.root(0, new))
            }
        }
    }

    @Test(arguments: UInt64(1)...5) func holdsInLargeTrees(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        for _ in 0..<40 {
            let new = UInt64.random(in: 1...LargeTree.size, using: &generator)
            let old = UInt64.random(in: 1...new, using: &generator)
            let proof = try ConsistencyProof.build(from: old, to: new, nodes: LargeTree.nodes)
            let (oldRoot, newRoot) = (try LargeTree.nodes.treeRoot(size: old), try LargeTree.nodes.treeRoot(size: new))
            try proof.verify(oldRoot: oldRoot, newRoot: newRoot)
            #expect(
                proofCode { try proof.verify(oldRoot: oldRoot, newRoot: flipped(newRoot, byte: 3)) } == .rootMismatch,
                "seed \(seed): \(old) to \(new)"
            )
        }
    }

    @Test(arguments: [(UInt64(1), UInt64(8)), (4, 8), (6, 8), (7, 130), (128, 300), (255, 1000), (999, 1000)])
    func refusesEveryForgery(old: UInt64, new: UInt64) throws {
        let nodes = MerkleNodes(leaves: ProofReference.leaves(1000))
        let (oldRoot, newRoot) = (try nodes.treeRoot(size: old), try nodes.treeRoot(size: new))
        let proof = try ConsistencyProof.build(from: old, to: new, nodes: nodes)
        func code(_ path: [Digest], old: UInt64 = old, new: UInt64 = new) -> ProofError.Code? {
            proofCode {
                try ConsistencyProof(oldSize: old, newSize: new, path: path).verify(oldRoot: oldRoot, newRoot: newRoot)
            }
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
        }
        #expect(code(proof.path + [.zero]) == .wrongLength)
        #expect(code([]) == .wrongLength)
        #expect(code(proof.path + Array(repeating: .zero, count: 64)) == .wrongLength)
        for byte in 0..<Digest.byteCount {
            #expect(
                proofCode { try proof.verify(oldRoot: flipped(oldRoot, byte: byte), newRoot: newRoot) }
                    == .rootMismatch
            )
            #expect(
                proofCode { try proof.verify(oldRoot: oldRoot, newRoot: flipped(newRoot, byte: byte)) }
                    == .rootMismatch
            )
        }
        #expect(code(proof.path, old: new, new: old) == .backwards)
        for other in 2..<min(new, 64) where other != old {
            #expect([.rootMismatch, .wrongLength].contains(code(proof.path, old: other)), "from \(other)")
        }
    }

    @Test func namesWhatIsWrongWithSizes() throws {
        let nodes = MerkleNodes(leaves: ProofReference.leaves(8))
        let root = try nodes.treeRoot(size: 8)
        #expect(proofCode { _ = try ConsistencyProof.build(from: 5, to: 4, nodes: nodes) } == .backwards)
        #expect(proofCode { _ = try ConsistencyProof.build(from: 5, to: 9, nodes: nodes) } == .beyondTree)
        #expect(proofCode { _ = try ConsistencyProof.build(from: 5, to: .max, nodes: nodes) } == .beyondTree)
        func code(
            _ old: UInt64,
            _ new: UInt64,
            _ path: [Digest],
            _ oldRoot: Digest,
            _ newRoot: Digest
        ) -> ProofError.Code? {
            proofCode {
                try ConsistencyProof(oldSize: old, newSize: new, path: path).verify(oldRoot: oldRoot, newRoot: newRoot)
            }
        }
        // Everything continues the empty tree, with an empty proof and its own root.
        #expect(try ConsistencyProof.build(from: 0, to: 8, nodes: nodes).path.isEmpty)
        #expect(code(0, 8, [], LedgerHash.emptyRoot, root) == nil)
        #expect(code(0, 8, [.zero], LedgerHash.emptyRoot, root) == .wrongLength)
        #expect(code(0, 8, [], .zero, root) == .rootMismatch)
        #expect(code(0, 0, [], LedgerHash.emptyRoot, root) == .rootMismatch)
        #expect(code(0, 0, [], LedgerHash.emptyRoot, LedgerHash.emptyRoot) == nil)
        #expect(code(8, 8, [], root, root) == nil)
        #expect(code(8, 8, [.zero], root, root) == .wrongLength)
        #expect(code(8, 8, [], root, .zero) == .rootMismatch)
        #expect(code(3, .max, [], root, root) == .beyondTree)
        let (old, new) = (TreeHead(size: 6, root: try nodes.treeRoot(size: 6)), TreeHead(size: 8, root: root))
        let other = try ConsistencyProof.build(from: 5, to: 8, nodes: nodes)
        #expect(proofCode { try other.verify(from: old, to: new) } == .otherTree)
        try ConsistencyProof.build(from: 6, to: 8, nodes: nodes).verify(from: old, to: new)
    }

    @Test func textHasOneSpelling() throws {
        let nodes = MerkleNodes(leaves: ProofReference.leaves(8))
        let proof = try ConsistencyProof.build(from: 6, to: 8, nodes: nodes)
        #expect(try ConsistencyProof(parsing: proof.encoded) == proof)
        let text = text(proof.encoded)
        #expect(text.hasPrefix("flasktrack/consistency-proof@v1\nold 6\nnew 8\n"))
        func code(_ changed: String) -> NoteError.Code? { noteCode { _ = try ConsistencyProof(parsing: changed.utf8) } }
        #expect(code(text.replacing("old 6", with: "old 06")) == .malformedNumber)
        #expect(code(text.replacing("old 6", with: "old +6")) == .malformedNumber)
        #expect(code(text.replacing("old 6", with: "size 6")) == .malformedLine)
        #expect(code(text.replacing("new 8", with: "new 9223372036854775808")) == .numberTooLarge)
        #expect(code(text.replacing("@v1", with: "@v2")) == .malformedLine)
        #expect(code(String(text.dropLast())) == .truncated)
        #expect(code(text + "AAAA\n") == .malformedHash)
        #expect(code(text + "\n") == .malformedHash)
        #expect(code(text + "*\n") == .nonCanonicalBase64)
        let line = String(decoding: Base64.encode(Digest.zero.bytes), as: UTF8.self) + "\n"
        #expect(code(text + String(repeating: line, count: 65)) == .tooLarge)
        #expect(code(text + String(repeating: line, count: 1000)) == .tooLarge)
    }
}
