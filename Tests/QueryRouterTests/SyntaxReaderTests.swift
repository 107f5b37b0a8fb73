import Primitives
import Testing

@testable import QueryRouter

struct SyntaxReaderTests {
    @Test("reads back what it writes")
    func roundTrips() throws {
        let text = #"{"a":[1,-2.5e3,18446744073709551615,true,false,null],"b":{"é":"q\"\\\n\u0001線"},"c":[],"d":{}}"#
        let node = try SyntaxReader.read(text)
        #expect(try SyntaxReader.read(node.json) == node)
        #expect(node.list("a").count == 6)
        #expect(node["b"]?["é"]?.text == "q\"\\\n\u{1}線")
        #expect(try SyntaxReader.read(#""\ud83d\ude00""#) == .string("😀"))
    }

    @Test(
        "refuses what is malformed",
        arguments: [
            "", "{", "[1,", "{\"a\"}", "{\"a\":}", "\"x", "tru", "[1]]", "\"\\x\"", "\"\\u12\"", "\"\\ud83d\"", "{a:1}",
            "]",
        ]
    )
    func refusesMalformed(text: String) {
        #expect(throws: SyntaxReader.Failure.self) { try SyntaxReader.read(text) }
    }

    @Test("refuses nesting that would exhaust the stack")
    func refusesDepth() throws {
        let deep = SyntaxReader.depthMax
        _ = try SyntaxReader.read(String(repeating: "[", count: deep) + String(repeating: "]", count: deep))
        #expect(throws: SyntaxReader.Failure.self) { try SyntaxReader.read(String(repeating: "[", count: 100_000)) }
    }

    @Test("never crashes on damaged trees")
    func survivesDamage() throws {
        let seed: UInt64 = 99
        var random = SeededGenerator(seed: seed)
        let bytes = Array(#"{"error":false,"statements":[{"node":{"type":"SELECT_NODE","x":[1,"\u00e9"]}}]}"#.utf8)
        for _ in 0..<2_000 {
            var damaged = bytes
            damaged[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
            damaged.removeLast(Int.random(in: 0..<4, using: &random))
            if let node = try? SyntaxReader.read(String(decoding: damaged, as: UTF8.self)) {
                #expect(try SyntaxReader.read(node.json) == node, "seed \(seed)")
            }
        }
    }
}
