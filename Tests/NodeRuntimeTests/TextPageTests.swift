internal import Columnar
internal import Primitives
internal import QueryRouter
internal import Testing

@testable internal import NodeRuntime

@Suite("Pages of the index of texts, and what is read by them")
struct TextPageTests {
    /// Slices of a block in which each key stands in the granules that are given.
    private static func slices(_ sets: [TextKey: Set<Int>]) -> [TextSlice] {
        (0..<TextGeometry.slicesOfBlock).map { slice in
            var words: [TextKey: UInt64] = [:]
            for (key, granules) in sets {
                for granule in granules where granule / 64 == slice {
                    words[key, default: 0] |= 1 << UInt64(granule % 64)
                }
            }
            let keys = words.keys.sorted()
            return TextSlice(keys: keys, words: keys.map { words[$0] ?? 0 })
        }
    }

    private static func granules(_ set: GranuleSet) -> Set<Int> {
        Set((0..<TextGeometry.granulesOfBlock).filter { set.words[$0 / 64] & 1 << UInt64($0 % 64) != 0 })
    }

    @Test(arguments: [1, 2, 3, 4] as [UInt64])
    func everySetComesOutAsItWentIn(_ seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        var sets: [TextKey: Set<Int>] = [:]
        for _ in 0..<600 {
            let key = TextKey.random(in: 0..<TextKey(TextField.allCases.count) << 16, using: &generator)
            let count = [1, 2, 5, 60, 130, 200, 256, 257, 500, 512].randomElement(using: &generator) ?? 1
            sets[key] = Set((0..<512).shuffled(using: &generator).prefix(count))
        }
        // Neighbours, and both ends of a page.
        for key: TextKey in [0, 1, 255, 256, 0x9FFFF] { sets[key] = [0, 511] }
        let pages = TextPage.pages(of: Self.slices(sets))
        #expect(pages.map(\.number) == pages.map(\.number).sorted())
        #expect(Set(pages.map(\.number)).count == pages.count)
        for (key, granules) in sets {
            let page = try #require(pages.first { $0.number == TextPage.number(of: key) })
            let set = try #require(try TextPage.granules(of: UInt8(truncatingIfNeeded: key), in: page.text))
            let expected = granules.count > TextPage.granulesMax ? Set(0..<512) : granules
            #expect(Self.granules(set) == expected, "seed \(seed), key \(key)")
        }
        for page in pages {
            for bucket in UInt8.min...UInt8.max where sets[TextKey(page.number) << 8 | TextKey(bucket)] == nil {
                #expect(try TextPage.granules(of: bucket, in: page.text) == nil)
            }
            #expect(page.text.allSatisfy { $0 >= 0x30 && $0 < 0x70 })
        }
    }

    @Test func theFormOfAPageStays() {
        let pages = TextPage.pages(of: Self.slices([3: [0, 40], 5: Set(0..<300), 0x203: [511]]))
        #expect(pages.map(\.number) == [0, 2])
        #expect(pages.map { String(decoding: $0.text, as: UTF8.self) } == ["330W110", "32o?"])
        let dense = TextPage.pages(of: Self.slices([0: Set(stride(from: 0, to: 512, by: 3))]))
        #expect(dense[0].text.count == 88 && dense[0].text.prefix(4) == [0x30, 0x31, 0x39, 0x39])
    }

    @Test func textsThatNoPageHasAreRefused() {
        for text in ["3", "33", "33o", "0~", "01999", "0oooo0", "0o1", "02oo0", "0\u{2}"] {
            #expect(throws: ColumnarError.self, "\(text)") {
                try TextPage.granules(of: 255, in: Array(text.utf8))
            }
        }
    }

    // MARK: What is read

    private static let geometry = TextGeometry(granuleShift: 2)

    private static func candidates(
        _ granules: [UInt64],
        first: UInt64? = nil,
        last: UInt64? = nil,
        position: UInt64
    ) -> String? {
        TextCandidates(
            granules: granules,
            TextSearch(.anything, first: first.map { SequenceNumber($0) }, last: last.map { SequenceNumber($0) }),
            self.geometry,
            position: SequenceNumber(position)
        )?.condition
    }

    @Test func onlyCandidatesAndWhatIsNotIndexedAreRead() throws {
        let text = try #require(Self.candidates([0b101, 0], position: 520))
        let bits = "101" + String(repeating: "0", count: 125) + String(repeating: "1", count: 128)
        #expect(
            text == "sequence BETWEEN 1 AND 520 AND get_bit('\(bits)'::BIT, (sequence >> 2 & 255)::INTEGER) = 1"
        )
    }

    @Test func aCursorNarrowsTheCandidates() throws {
        let text = try #require(Self.candidates([0b101_0101, 0], first: 9, last: 200, position: 520))
        let bits = "0010101" + String(repeating: "0", count: 249)
        #expect(
            text == "sequence BETWEEN 9 AND 27 AND get_bit('\(bits)'::BIT, (sequence >> 2 & 255)::INTEGER) = 1"
        )
        #expect(Self.candidates([0b101, 0], first: 100, last: 400, position: 520) == "false")
        // Where nothing is indexed, all is read.
        #expect(Self.candidates([0b101, 0], first: 515, position: 520) == nil)
        #expect(Self.candidates([0b101, 0], first: 9_000, position: 520) == nil)
    }

    @Test func manyCandidatesAreNoReasonToReadPieceByPiece() {
        #expect(Self.candidates([.max >> 1, 0, 0, 0], last: 1023, position: 5_000) != nil)
        #expect(Self.candidates([.max, 0, 0, 0], last: 1023, position: 5_000) == nil)
    }

    @Test func tooManyGranulesShareABit() throws {
        var granules = [UInt64](repeating: 0, count: TextCandidates.bitsMax * 4 / 64)
        granules[1] = 0b10
        granules[granules.count - 1] = 1 << 63
        let position = UInt64(granules.count * 64) << 2
        let text = try #require(Self.candidates(granules, last: position - 1, position: position))
        #expect(text.contains("(sequence >> 5 & 131071)::INTEGER"))
        let bits = try #require(text.split(separator: "'").dropFirst().first)
        #expect(bits.count == TextCandidates.bitsMax)
        #expect(bits.enumerated().filter { $0.element == "1" }.map(\.offset) == [8, 65_535])
    }
}
