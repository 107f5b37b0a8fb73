import AuditLedger
import Primitives
import Storage
import Testing

import struct Crypto.SHA256

/// The incremental tree against the recursive definition of RFC 6962 section 2.1.
struct MerkleTreeTests {
    static func leaf(_ number: UInt64) -> Digest { LedgerHash.leaf(bytes("leaf \(number)")) }

    /// MTH of already hashed leaves, by the book.
    static func recursiveRoot(_ leaves: ArraySlice<Digest>) -> Digest {
        guard leaves.count > 1 else { return leaves.first ?? LedgerHash.emptyRoot }
        var split = 1
        while split * 2 < leaves.count { split *= 2 }
        let middle = leaves.startIndex + split
        let left = Self.recursiveRoot(leaves[..<middle])
        let right = Self.recursiveRoot(leaves[middle...])
        let joined = [0x01] + left.bytes + right.bytes
        return Digest(bytes: SHA256.hash(data: joined).map { $0 })!
    }

    /// The leaves and roots of the test vectors that RFC 6962's first implementation carries.
    @Test func givesThePublishedRoots() {
        let inputs = [
            "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
        ]
        let roots = [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ]
        var tree = MerkleTree()
        #expect(tree.root.hex == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
        for (input, root) in zip(inputs, roots) {
            var leaf: [UInt8] = []
            var digits = input[...]
            while !digits.isEmpty {
                leaf.append(UInt8(digits.prefix(2), radix: 16)!)
                digits = digits.dropFirst(2)
            }
            tree.push(LedgerHash.leaf(leaf))
            #expect(tree.root.hex == root)
        }
    }

    @Test func agreesWithTheDefinitionForAllSizesTo1024() {
        let leaves = (0..<UInt64(1024)).map(Self.leaf)
        var tree = MerkleTree()
        for size in 0...1024 {
            #expect(tree.root == Self.recursiveRoot(leaves[..<size]), "size \(size)")
            #expect(tree.frontier.count == size.nonzeroBitCount)
            #expect(MerkleTree.peaks(size: UInt64(size)).count == size.nonzeroBitCount)
            if size < 1024 { tree.push(leaves[size]) }
        }
    }

    @Test(arguments: UInt64(1)...3) func agreesWithTheDefinitionForLargeSizes(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        let size = Int.random(in: 1025...100_000, using: &generator)
        let leaves = (0..<UInt64(size)).map { Digest(words: (seed, $0, 0, 0)) }
        var nodes: [TreePosition: Digest] = [:]
        var tree = MerkleTree()
        for leaf in leaves { tree.push(leaf) { nodes[$0] = $1 } }
        #expect(tree.root == Self.recursiveRoot(leaves[...]), "seed \(seed), size \(size)")
        #expect(nodes.count == 2 * size - size.nonzeroBitCount)
        for _ in 0..<5 {
            let past = Int.random(in: 1...size, using: &generator)
            let peaks = try MerkleTree.peaks(size: UInt64(past)).map { try #require(nodes[$0]) }
            #expect(
                MerkleTree.root(ofPeaks: peaks) == Self.recursiveRoot(leaves[..<past]),
                "seed \(seed), size \(past)"
            )
        }
    }

    @Test func doesNotTakeAnotherNumberOfPeaks() {
        #expect(MerkleTree(size: 3, frontier: [.zero]) == nil)
        #expect(MerkleTree(size: 3, frontier: [.zero, .zero]) != nil)
    }

    @Test func readsRootsOfEverySizeFromTheStore() throws {
        let fixture = try LedgerFixture(records: 130)
        let reader = try fixture.reader()
        let leaves = fixture.appended.map(\.checksum)
        for size in 0...130 { #expect(try reader.root(at: UInt64(size)) == Self.recursiveRoot(leaves[..<size])) }
        for (offset, leaf) in leaves.enumerated() {
            #expect(try reader.checksum(at: SequenceNumber(UInt64(offset + 1))) == leaf)
        }
        #expect(#expect(throws: LedgerError.self) { try reader.root(at: 131) }?.code == .outOfRange)
        #expect(#expect(throws: LedgerError.self) { try reader.checksum(at: SequenceNumber(131)) }?.code == .outOfRange)
        #expect(#expect(throws: LedgerError.self) { try reader.checksum(at: .zero) }?.code == .outOfRange)
    }
}
