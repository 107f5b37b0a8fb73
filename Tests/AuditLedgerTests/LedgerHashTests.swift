import Crypto
import Primitives
import Testing

@testable import AuditLedger

/// The hash by the processor's instructions is SHA-256, alone and in pairs.
struct LedgerHashTests {
    /// Texts whose ends fall everywhere in a block, and some that are much longer.
    static let counts = Array(0...260) + [511, 512, 513, 4_095, 60_000]

    static func text(_ count: Int, seed: UInt64) -> [UInt8] {
        var generator = SeededGenerator(seed: seed)
        return (0..<count).map { _ in UInt8(truncatingIfNeeded: generator.next()) }
    }

    static func reference(_ text: [UInt8]) -> [UInt8] { Array(SHA256.hash(data: text)) }

    static func single(_ text: [UInt8]) -> [UInt8] {
        var digest = [UInt8](repeating: 0, count: Digest.byteCount)
        text.withUnsafeBytes { text in digest.withUnsafeMutableBytes { LedgerHash.hash(text, into: $0) } }
        return digest
    }

    static func pair(_ one: [UInt8], _ other: [UInt8]) -> ([UInt8], [UInt8]) {
        var digest = [UInt8](repeating: 0, count: Digest.byteCount)
        var otherDigest = digest
        one.withUnsafeBytes { one in
            other.withUnsafeBytes { other in
                digest.withUnsafeMutableBytes { digest in
                    otherDigest.withUnsafeMutableBytes { otherDigest in
                        LedgerHash.hash(one, into: digest, and: other, into: otherDigest)
                    }
                }
            }
        }
        return (digest, otherDigest)
    }

    /// The vectors «abc» and «abcdbcde…nopq» of FIPS 180-4, as published with its examples.
    @Test func givesThePublishedDigests() throws {
        let vectors = [
            ("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
            (
                "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
                "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
            ),
        ]
        for (text, digest) in vectors { #expect(Hex.encode(Self.single(Array(text.utf8))) == digest) }
    }

    @Test func agreesWithTheReferenceAtEveryLength() {
        for count in Self.counts {
            let text = Self.text(count, seed: UInt64(count) + 1)
            #expect(Self.single(text) == Self.reference(text), "\(count) bytes")
        }
    }

    @Test func pairsDoNotDisturbEachOther() {
        for (place, count) in Self.counts.enumerated() {
            let one = Self.text(count, seed: 7)
            for otherCount in [0, 1, 55, 56, 64, 119, 120, Self.counts[Self.counts.count - 1 - place]] {
                let other = Self.text(otherCount, seed: 8)
                let digests = Self.pair(one, other)
                #expect(digests.0 == Self.reference(one), "\(count) bytes beside \(otherCount)")
                #expect(digests.1 == Self.reference(other), "\(otherCount) bytes beside \(count)")
            }
        }
    }

    @Test func seesEveryBit() {
        let text = Self.text(150, seed: 3)
        let whole = Self.single(text)
        for bit in 0..<text.count * 8 {
            var changed = text
            changed[bit / 8] ^= 1 << UInt8(bit % 8)
            #expect(Self.single(changed) != whole)
            #expect(Self.pair(changed, text) == (Self.reference(changed), whole))
        }
    }

    @Test func leavesAndNodesBeginDifferently() {
        let text = Self.text(64, seed: 5)
        let (left, right) = (Digest(bytes: text[..<32])!, Digest(bytes: text[32...])!)
        #expect(LedgerHash.leaf(text).bytes == Self.reference([0] + text))
        #expect(LedgerHash.leaf((text + [9])[1..<64]).bytes == Self.reference([0] + text[1...]))
        #expect(LedgerHash.node(left, right).bytes == Self.reference([1] + text))
        #expect(LedgerHash.node(left, right) != LedgerHash.leaf(text))
    }

    @Test(arguments: [1, 2, 3, 7, 8]) func parentsOfARowAreItsNodes(pairs: Int) throws {
        let row = Self.text(pairs * 64, seed: 11)
        let parents = DigestRow.parents(of: row[...])
        for pair in 0..<pairs {
            let node = LedgerHash.node(DigestRow.digest(row, at: 2 * pair), DigestRow.digest(row, at: 2 * pair + 1))
            #expect(DigestRow.digest(parents, at: pair) == node)
        }
    }
}
