internal import Columnar
internal import Primitives
internal import QueryRouter
internal import Testing

@testable internal import NodeRuntime

@Suite("How texts are folded for their index", .timeLimit(.minutes(10)))
struct TextFoldingTests {
    private static func folded(_ text: String) -> [Int] {
        var bytes = TextFolding.Bytes(Array(text.utf8))
        var folded: [Int] = []
        while let byte = bytes.next() { folded.append(byte) }
        return folded
    }

    /// The engine's `lower()` decides what a search finds: of every character there is, exactly those become ASCII that do here,
    /// and become the same; and each becomes one.
    @Test func theEngineFoldsEveryCharacterAlike() async throws {
        let threads = ColumnarThreads()
        let store = try await ColumnarStore.open(.memory, threads: threads)
        var wrong: [String] = []
        var count = 0
        let statement = """
            SELECT i, lower(chr(i::INTEGER)) FROM range(1, 1114112) t(i) WHERE i NOT BETWEEN 55296 AND 57343
            """
        for batch in try await store.query(statement).collect() {
            for row in 0..<batch.rowCount {
                guard let number = batch.int64(row: row, column: 0), let lower = batch.string(row: row, column: 1),
                    let scalar = Unicode.Scalar(UInt32(number))
                else {
                    wrong.append("row \(row)")
                    continue
                }
                count += 1
                let scalars = Array(lower.unicodeScalars)
                let theirs = scalars.map { $0.isASCII ? Int($0.value) : -1 }
                if theirs.count != 1 || theirs != Self.folded(String(Character(scalar))) {
                    wrong.append("U+\(String(number, radix: 16)) \(theirs)")
                }
            }
        }
        await store.close()
        await threads.shutdown()
        #expect(count == 1_114_112 - 1 - 2048)
        #expect(wrong.isEmpty, "\(wrong.prefix(5))")
    }

    @Test func charactersThatAreNotKnownEndAGram() {
        #expect(Self.folded("aÄb") == [0x61, -1, 0x62])
        #expect(Self.folded("K\u{212A}\u{130}🧪z") == [0x6B, 0x6B, 0x69, -1, 0x7A])
        #expect(TextNeed(.contains(.reason, "abÄcd")) == .anything)
        #expect(TextNeed(.contains(.reason, "abÄcdE")) == TextNeed(.contains(.reason, "CDe")))
    }

    @Test func shortAndUnknownTextsSayNothing() {
        for text in ["", "a", "ab", "äöü", "a\u{FFFD}b"] {
            #expect(TextNeed(.contains(.after, text)) == .anything, "\(text)")
        }
        #expect(TextNeed(.contains(.entityID, "sample")) == .anything)
        #expect(TextNeed(.any([.contains(.reason, "abc"), .anything])) == .anything)
        #expect(TextNeed(.all([.anything, .contains(.reason, "abc")])) == TextNeed(.contains(.reason, "abc")))
        #expect(TextNeed(.any([])) == .any([]))
    }

    @Test func aQuotedTextIsLookedUpAsAWhole() {
        guard case .keys(let keys) = TextNeed(.contains(.after, "\"Sample-35\"")) else {
            Issue.record("nothing is looked up")
            return
        }
        #expect(keys.map { $0 >> 16 } == [TextKey(TextField.afterParts.rawValue)])
        // Beside a part that ends within the text, its grams say more.
        guard case .keys(let more) = TextNeed(.contains(.after, "\"id\":\"sam")) else {
            Issue.record("nothing is looked up")
            return
        }
        #expect(
            Set(more.map { $0 >> 16 }) == [TextKey(TextField.after.rawValue), TextKey(TextField.afterParts.rawValue)]
        )
    }

    @Test func aLongTextIsLookedUpInABoundedNumberOfPlaces() {
        let text = (0..<400).map { "word\($0)" }.joined(separator: " ")
        guard case .keys(let keys) = TextNeed(.contains(.reason, text)) else {
            Issue.record("nothing is looked up")
            return
        }
        #expect(keys.count <= TextNeed.gramsMax && keys.count > TextNeed.gramsMax / 2)
        let many = (0..<TextNeed.keysMax + 1).map { TextSearch.Condition.equals(.entityID, "s-\($0)") }
        #expect(TextNeed(.any(many + many)) == .anything)
    }

    @Test(arguments: [
        TextSearch(.anything), TextSearch(.contains(.reason, "ä\u{0}\""), first: 7.sequence),
        TextSearch(
            .all([.any([]), .equals(.entityID, ""), .any([.all([.contains(.before, "x")])])]),
            last: 9.sequence
        ),
    ])
    func searchesComeOutAsTheyWentIn(_ search: TextSearch) throws {
        #expect(try TextSearch(encoded: search.encoded()) == search)
        for count in search.encoded().indices {
            #expect(throws: MalformedBytes.self, "\(count) bytes") {
                try TextSearch(encoded: Array(search.encoded().prefix(count)))
            }
        }
    }

    @Test func searchesOfAnotherKindAreRefused() {
        let deep = (0..<20).reduce(TextSearch.Condition.anything) { condition, _ in .all([condition]) }
        #expect(throws: MalformedBytes.self) { try TextSearch(encoded: TextSearch(deep).encoded()) }
        for bytes: [UInt8] in [[9], [1, 99, 0, 0, 0, 0], [3, 255, 255, 255, 255]] {
            #expect(throws: MalformedBytes.self) {
                try TextSearch(encoded: bytes + [UInt8](repeating: 0, count: 16))
            }
        }
    }
}

extension Int {
    fileprivate var sequence: SequenceNumber { SequenceNumber(UInt64(self)) }
}
