import NIOCore
import Testing

@testable import Transport

@Suite struct FrameBurstTests {
    private static func taken(_ burst: inout FrameBurst) -> [ByteBuffer] {
        var parts: [ByteBuffer] = []
        burst.takeParts { parts.append($0) }
        return parts
    }

    private static func write(_ bytes: [UInt8], to burst: inout FrameBurst) {
        bytes.withUnsafeBytes { burst.write(copying: $0) }
    }

    private static func address(_ buffer: ByteBuffer) -> UInt? {
        buffer.withUnsafeReadableBytes { $0.baseAddress.map { UInt(bitPattern: $0) } }
    }

    @Test func longPartsOfBodiesStayWhereTheyAre() {
        var burst = FrameBurst()
        let long = ByteBuffer(repeating: 7, count: FrameBurst.sharedBytesMin)
        Self.write([1, 2], to: &burst)
        burst.write(long)
        Self.write([3], to: &burst)
        #expect(burst.byteCount == long.readableBytes + 3)
        #expect(burst.hasManyParts)
        let parts = Self.taken(&burst)
        #expect(parts.map(\.readableBytes) == [2, long.readableBytes, 1])
        #expect(Self.address(parts[1]) == Self.address(long), "nothing is copied")
        #expect(Array(parts[0].readableBytesView) == [1, 2] && Array(parts[2].readableBytesView) == [3])
    }

    @Test func shortPartsShareOneWithWhatStandsAroundThem() {
        var burst = FrameBurst()
        Self.write([1], to: &burst)
        burst.write(ByteBuffer(repeating: 7, count: FrameBurst.sharedBytesMin - 1))
        Self.write([2], to: &burst)
        #expect(!burst.hasManyParts)
        let parts = Self.taken(&burst)
        #expect(parts.map(\.readableBytes) == [FrameBurst.sharedBytesMin + 1])
        #expect(parts.first?.readableBytesView.first == 1 && parts.first?.readableBytesView.last == 2)
    }

    @Test func whatWasTakenDoesNotComeAgain() {
        var burst = FrameBurst()
        #expect(Self.taken(&burst).isEmpty)
        burst.write(ByteBuffer(repeating: 7, count: FrameBurst.sharedBytesMin))
        Self.write([9], to: &burst)
        let first = Self.taken(&burst)
        #expect(burst.byteCount == 0 && !burst.hasManyParts && Self.taken(&burst).isEmpty)
        Self.write([8, 8], to: &burst)
        #expect(Self.taken(&burst).map { Array($0.readableBytesView) } == [[8, 8]])
        // Writing again has not changed what somebody still holds.
        #expect(first.last.map { Array($0.readableBytesView) } == [9])
    }

    @Test(arguments: 1...20 as ClosedRange<UInt64>)
    func theBytesAreThoseThatWereWrittenInTheirOrder(seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        var burst = FrameBurst()
        for _ in 0..<4 {
            var wanted: [UInt8] = []
            for _ in 0..<Int.random(in: 0...12, using: &generator) {
                let count = Int.random(in: 0...2 * FrameBurst.sharedBytesMin, using: &generator)
                let bytes = [UInt8](repeating: UInt8.random(in: 0...255, using: &generator), count: count)
                wanted += bytes
                if Bool.random(using: &generator) {
                    Self.write(bytes, to: &burst)
                } else {
                    burst.write(ByteBuffer(bytes: bytes))
                }
            }
            #expect(burst.byteCount == wanted.count, "seed \(seed)")
            #expect(Self.taken(&burst).flatMap { Array($0.readableBytesView) } == wanted, "seed \(seed)")
        }
    }
}
