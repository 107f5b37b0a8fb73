import AuditLedger
import Primitives
import Testing

/// Random values and random damage.
struct JSONFuzzTests {
    static func value(_ generator: inout SeededGenerator, depth: Int) -> JSONValue {
        switch UInt8.random(in: 0..<(depth > 0 ? 8 : 5), using: &generator) {
        case 0: .null
        case 1: .bool(Bool.random(using: &generator))
        case 2:
            .number(JSONNumber(Int64.random(in: -9_007_199_254_740_991...9_007_199_254_740_991, using: &generator))!)
        case 3: .number(JSONNumber(double: Self.fraction(&generator))!)
        case 4: .string(Self.text(&generator))
        case 5:
            .array((0..<Int.random(in: 0..<5, using: &generator)).map { _ in self.value(&generator, depth: depth - 1) })
        default: .object(Self.members(&generator, depth: depth))
        }
    }

    static func fraction(_ generator: inout SeededGenerator) -> Double {
        let value = Double(bitPattern: generator.next())
        return value.isFinite && value.rounded() != value ? value : 0.5
    }

    static func text(_ generator: inout SeededGenerator) -> [UInt8] {
        var text = ""
        for _ in 0..<Int.random(in: 0..<6, using: &generator) {
            let tops: [UInt32] = [0x20, 0x80, 0x800, 0x1_0000, 0x11_0000]
            let top = tops.randomElement(using: &generator) ?? 0x80
            text.unicodeScalars.append(Unicode.Scalar(UInt32.random(in: 0..<top, using: &generator)) ?? "x")
        }
        return Array(text.utf8)
    }

    static func members(_ generator: inout SeededGenerator, depth: Int) -> [JSONMember] {
        var members: [JSONMember] = []
        for _ in 0..<Int.random(in: 0..<6, using: &generator) {
            let key = Self.text(&generator)
            guard !members.contains(where: { $0.key == key }) else { continue }
            members.append(JSONMember(key: key, value: self.value(&generator, depth: depth - 1)))
        }
        return members
    }

    @Test(arguments: UInt64(1)...20)
    func theSameValueHasOneText(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        for _ in 0..<100 {
            let value = Self.value(&generator, depth: 4)
            let canonical = CanonicalJSON.encode(value)
            #expect(CanonicalJSON.isCanonical(canonical), "seed \(seed): \(canonical)")
            #expect(try CanonicalJSON.canonicalize(canonical) == canonical, "seed \(seed)")
            #expect(CanonicalJSON.encode(try JSONParser.parse(canonical)) == canonical, "seed \(seed)")
        }
    }

    @Test(arguments: UInt64(1)...20)
    func damageNeverTrapsAndBothReadersAgree(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        for _ in 0..<200 {
            var input = CanonicalJSON.encode(Self.value(&generator, depth: 4))
            for _ in 0..<Int.random(in: 1..<4, using: &generator) where !input.isEmpty {
                let place = Int.random(in: 0..<input.count, using: &generator)
                switch UInt8.random(in: 0..<3, using: &generator) {
                case 0: input[place] = UInt8.random(in: 0...255, using: &generator)
                case 1: input.remove(at: place)
                default: input.insert(bytes("\"\\{}[],:0-.eu")[Int.random(in: 0..<13, using: &generator)], at: place)
                }
            }
            let canonical = try? CanonicalJSON.canonicalize(input)
            #expect(CanonicalJSON.isCanonical(input) == (canonical == input), "seed \(seed): \(input)")
            _ = try? JSONParser.parse(input)
            _ = try? EventDraft.parse(input, defaults: LedgerFixture.context)
            _ = try? RecordFields(scanning: input)
        }
    }
}
