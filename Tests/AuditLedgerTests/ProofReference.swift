import AuditLedger
import Primitives
import Testing

import struct Crypto.SHA256

/// The recursive definitions of RFC 6962 section 2.1, written as they stand there, over leaves that are already hashed.
final class ProofReference {
    private struct Part: Hashable {
        let start: Int
        let end: Int
    }

    let leaves: [Digest]
    private var known: [Part: Digest] = [:]

    init(leaves: [Digest]) { self.leaves = leaves }

    static func leaves(_ count: Int, seed: UInt64 = 0) -> [Digest] {
        (0..<UInt64(count)).map { Digest(words: (seed, $0, 7, 9)) }
    }

    /// MTH(D[start:end]).
    func root(_ start: Int, _ end: Int) -> Digest {
        if start == end { return Digest(bytes: Array(SHA256.hash(data: [UInt8]())))! }
        if end - start == 1 { return self.leaves[start] }
        if let digest = self.known[Part(start: start, end: end)] { return digest }
        let middle = start + Self.split(end - start)
        let joined = [0x01] + self.root(start, middle).bytes + self.root(middle, end).bytes
        let digest = Digest(bytes: Array(SHA256.hash(data: joined)))!
        self.known[Part(start: start, end: end)] = digest
        return digest
    }

    /// PATH(m, D[start:end]).
    func path(_ index: Int, _ start: Int, _ end: Int) -> [Digest] {
        guard end - start > 1 else { return [] }
        let middle = start + Self.split(end - start)
        return index < middle
            ? self.path(index, start, middle) + [self.root(middle, end)]
            : self.path(index, middle, end) + [self.root(start, middle)]
    }

    /// SUBPROOF(m, D[start:end], b), m counted from the beginning of the tree.
    func subproof(_ size: Int, _ start: Int, _ end: Int, _ isKnown: Bool = true) -> [Digest] {
        if size == end { return isKnown ? [] : [self.root(start, end)] }
        let middle = start + Self.split(end - start)
        return size <= middle
            ? self.subproof(size, start, middle, isKnown) + [self.root(middle, end)]
            : self.subproof(size, middle, end, false) + [self.root(start, middle)]
    }

    private static func split(_ width: Int) -> Int {
        var split = 1
        while split * 2 < width { split *= 2 }
        return split
    }
}

/// The tree of eight leaves whose roots and proofs the first implementation of RFC 6962 carries as vectors.
enum PublishedTree {
    static let leaves = [
        "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
    ].map { LedgerHash.leaf(hexBytes($0)) }

    static let roots = [
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ].map { Digest(hex: $0)! }

    static let inclusions: [(index: UInt64, size: UInt64, path: [String])] = [
        (0, 1, []),
        (
            0, 8,
            [
                "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
            ]
        ),
        (
            5, 8,
            [
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
                "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            ]
        ),
        (2, 3, ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"]),
        (
            1, 5,
            [
                "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            ]
        ),
    ]

    static let consistencies: [(old: UInt64, new: UInt64, path: [String])] = [
        (1, 1, []),
        (
            1, 8,
            [
                "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
            ]
        ),
        (
            6, 8,
            [
                "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
                "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            ]
        ),
        (
            2, 5,
            [
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            ]
        ),
    ]
}

/// A tree of a million leaves, made once.
enum LargeTree {
    static let size = UInt64(1_000_000)
    static let nodes = MerkleNodes(leaves: ProofReference.leaves(Int(Self.size)))
    static func leaf(_ index: UInt64) -> Digest { Digest(words: (0, index, 7, 9)) }
}

func hexBytes(_ text: String) -> [UInt8] {
    let digits = text.utf8.map { Hex.value(of: $0)! }
    return stride(from: 0, to: digits.count, by: 2).map { digits[$0] << 4 | digits[$0 + 1] }
}

/// The digest with one bit changed.
func flipped(_ digest: Digest, byte: Int) -> Digest {
    var bytes = digest.bytes
    bytes[byte] ^= 1 << (byte % 8)
    return Digest(bytes: bytes)!
}

/// What `body` throws as a ``ProofError``; nil when it does not throw.
func proofCode(_ body: () throws -> Void) -> ProofError.Code? {
    do {
        try body()
        return nil
    } catch {
        #expect(error is ProofError, "\(error)")
        return (error as? ProofError)?.code
    }
}

/// What `body` throws as a ``NoteError``; nil when it does not throw.
func noteCode(_ body: () throws -> Void) -> NoteError.Code? {
    do {
        try body()
        return nil
    } catch {
        #expect(error is NoteError, "\(error)")
        return (error as? NoteError)?.code
    }
}
