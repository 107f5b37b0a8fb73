import Primitives
import Storage
import Testing

@Suite struct KeyAfterTests {
    @Test func isTheNextKeyAboveThePrefix() {
        #expect(keyAfter(prefix: [1]) == [2])
        #expect(keyAfter(prefix: [1, 0]) == [1, 1])
        #expect(keyAfter(prefix: [1, 255]) == [2])
        #expect(keyAfter(prefix: [1, 255, 255]) == [2])
        #expect(keyAfter(prefix: [254, 255]) == [255])
    }

    @Test func isNilWhenNothingCanBeAbove() {
        #expect(keyAfter(prefix: []) == nil)
        #expect(keyAfter(prefix: [255]) == nil)
        #expect(keyAfter(prefix: [255, 255]) == nil)
    }

    @Test(arguments: UInt64(1)...20) func dividesKeysAsThePrefixDoes(_ seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        func bytes(_ counts: ClosedRange<Int>) -> [UInt8] {
            (0..<Int.random(in: counts, using: &generator)).map { _ in
                [0, 1, 254, 255].randomElement(using: &generator) ?? 0
            }
        }
        for _ in 0..<300 {
            let prefix = bytes(0...3)
            let key = bytes(0...5)
            let isNotBelow = !key.lexicographicallyPrecedes(prefix)
            let isBelowEnd = keyAfter(prefix: prefix).map { key.lexicographicallyPrecedes($0) } ?? true
            #expect((isNotBelow && isBelowEnd) == key.starts(with: prefix), "seed \(seed): \(prefix) \(key)")
        }
    }
}
