import Primitives
import Testing

@Suite struct ByteCodingTests {
    /// One value of each kind that can be written.
    private enum Item: Equatable {
        case byte(UInt8)
        case short(UInt16)
        case word(UInt32)
        case long(UInt64)
        case signed(Int64)
        case digest(Digest)
        case bytes([UInt8])
        case text(String)

        func write(to writer: inout ByteWriter) {
            switch self {
            case .byte(let value): writer.write(value)
            case .short(let value): writer.write(value)
            case .word(let value): writer.write(value)
            case .long(let value): writer.write(value)
            case .signed(let value): writer.write(value)
            case .digest(let value): writer.write(value)
            case .bytes(let value): writer.write(prefixed: value)
            case .text(let value): writer.write(prefixed: value)
            }
        }

        func readSame(from reader: inout ByteReader) throws(MalformedBytes) -> Item {
            switch self {
            case .byte: .byte(try reader.read())
            case .short: .short(try reader.read())
            case .word: .word(try reader.read())
            case .long: .long(try reader.read())
            case .signed: .signed(try reader.read())
            case .digest: .digest(try reader.readDigest())
            case .bytes: .bytes(Array(try reader.readPrefixed()))
            case .text: .text(try reader.readPrefixedText())
            }
        }

        static func random(_ generator: inout SeededGenerator) -> Item {
            switch Int.random(in: 0..<8, using: &generator) {
            case 0: .byte(UInt8.random(in: .min ... .max, using: &generator))
            case 1: .short(UInt16.random(in: .min ... .max, using: &generator))
            case 2: .word(UInt32.random(in: .min ... .max, using: &generator))
            case 3: .long(UInt64.random(in: .min ... .max, using: &generator))
            case 4: .signed(Int64.random(in: .min ... .max, using: &generator))
            case 5: .digest(Digest(words: (generator.next(), generator.next(), generator.next(), generator.next())))
            case 6: .bytes((0..<Int.random(in: 0...9, using: &generator)).map { UInt8($0) })
            default: .text(["", "a", "flask", "ä€😀", "\0"].randomElement(using: &generator) ?? "")
            }
        }
    }

    @Test(arguments: UInt64(1)...30) func comesBackWholeAndNeverFromLess(_ seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        let items = (0..<12).map { _ in Item.random(&generator) }
        var writer = ByteWriter()
        for item in items { item.write(to: &writer) }
        var reader = ByteReader(writer.bytes)
        for item in items { #expect(try item.readSame(from: &reader) == item, "seed \(seed)") }
        try reader.finish("items")
        #expect(reader.offset == writer.count)
        for count in 0..<writer.count {
            var short = ByteReader(writer.bytes[..<count])
            #expect(throws: MalformedBytes.self, "seed \(seed), \(count) bytes") {
                for item in items { _ = try item.readSame(from: &short) }
            }
        }
        var long = ByteReader(writer.bytes + [0])
        for item in items { _ = try item.readSame(from: &long) }
        #expect(throws: MalformedBytes.self) { try long.finish("items") }
    }

    @Test func writesBigEndian() {
        var writer = ByteWriter(capacity: 16)
        writer.write(UInt16(0x0102))
        writer.write(UInt32(0x0304_0506))
        writer.write(Int64(-2))
        writer.write(raw: [9, 8])
        writer.write(prefixed: "é")
        #expect(
            writer.bytes == [
                1, 2, 3, 4, 5, 6, 255, 255, 255, 255, 255, 255, 255, 254, 9, 8, 0, 0, 0, 2, 0xC3, 0xA9,
            ]
        )
    }

    @Test func keysOrderAsTheirNumbersDo() {
        var generator = SeededGenerator(seed: 7)
        for _ in 0..<500 {
            let left = generator.next() >> UInt64.random(in: 0..<64, using: &generator)
            let right = generator.next() >> UInt64.random(in: 0..<64, using: &generator)
            var first = ByteWriter()
            first.write(left)
            var second = ByteWriter()
            second.write(right)
            #expect((left < right) == first.bytes.lexicographicallyPrecedes(second.bytes), "\(left) \(right)")
        }
    }

    @Test func readsFromTheMiddleOfAnArray() throws {
        var reader = ByteReader([9, 9, 0, 1, 7][2...])
        #expect(try reader.read(UInt16.self) == 1)
        #expect(reader.offset == 2)
        #expect(reader.remaining == 1)
        #expect(Array(reader.readRest()) == [7])
        #expect(reader.isAtEnd)
    }

    @Test func refusesALengthBeyondTheEnd() {
        for bytes in [[255, 255, 255, 255, 1], [0, 0, 0, 2, 1], [0, 0, 0]] as [[UInt8]] {
            var reader = ByteReader(bytes)
            #expect(throws: MalformedBytes.self) { _ = try reader.readPrefixed() }
        }
        var reader = ByteReader([1, 2])
        #expect(throws: MalformedBytes.self) { _ = try reader.read(count: -1) }
    }

    @Test(arguments: [[0xFF], [0xC3], [0xC0, 0x80], [0xED, 0xA0, 0x80], [0xF5, 0x80, 0x80, 0x80]] as [[UInt8]])
    func refusesTextThatIsNotUTF8(_ bytes: [UInt8]) {
        var writer = ByteWriter()
        writer.write(prefixed: bytes)
        var reader = ByteReader(writer.bytes)
        #expect(throws: MalformedBytes.self) { _ = try reader.readPrefixedText() }
    }
}
