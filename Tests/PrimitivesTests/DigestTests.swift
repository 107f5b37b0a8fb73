import Primitives
import Testing

@Suite struct DigestTests {
    private func random(_ generator: inout SeededGenerator) -> [UInt8] {
        (0..<Digest.byteCount).map { _ in UInt8.random(in: 0...255, using: &generator) }
    }

    @Test(arguments: UInt64(1)...10) func bytesAndHexComeBack(_ seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        for _ in 0..<100 {
            let bytes = self.random(&generator)
            let digest = try #require(Digest(bytes: bytes))
            let hex = bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
            #expect(digest.bytes == bytes, "seed \(seed)")
            #expect(digest.hex == hex, "seed \(seed)")
            #expect(digest.description == hex)
            #expect(Hex.encode(bytes) == hex)
            #expect(Digest(hex: hex) == digest)
            #expect(Digest(hex: hex.uppercased()) == digest)
            var appended: [UInt8] = [7]
            digest.appendHex(to: &appended)
            #expect(appended == [7] + Array(hex.utf8))
        }
    }

    @Test(arguments: UInt64(1)...10) func orderIsThatOfTheBytes(_ seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        for _ in 0..<200 {
            let first = self.random(&generator)
            var second = first
            second[Int.random(in: 0..<32, using: &generator)] = UInt8.random(in: 0...255, using: &generator)
            let left = try #require(Digest(bytes: first))
            let right = try #require(Digest(bytes: second))
            #expect((left < right) == first.lexicographicallyPrecedes(second), "seed \(seed)")
            #expect((left == right) == (first == second), "seed \(seed)")
        }
    }

    @Test(arguments: [0, 1, 31, 33, 64]) func rejectsAnotherNumberOfBytes(_ count: Int) {
        #expect(Digest(bytes: [UInt8](repeating: 1, count: count)) == nil)
        #expect(Digest(hex: String(repeating: "01", count: count)) == nil)
    }

    @Test func rejectsWhatIsNotHex() {
        let good = String(repeating: "a", count: 64)
        #expect(Digest(hex: good) != nil)
        #expect(Digest(hex: good.dropLast()) == nil)
        for bad in ["g", " ", "-", "ä", "０"] { #expect(Digest(hex: good.dropLast() + bad) == nil, "\(bad)") }
    }

    @Test func zeroIsAllZeros() {
        #expect(Digest.zero.bytes == [UInt8](repeating: 0, count: 32))
        #expect(Digest.zero.hex == String(repeating: "0", count: 64))
    }
}
