import Primitives
import Testing

@Suite struct IdentifiersTests {
    @Test(arguments: ["a", "0", "lab-7", "a-b", "a--b", "9z", String(repeating: "k", count: 63)])
    func acceptsAnOrganizationKey(_ text: String) {
        #expect(OrganizationKey(text)?.rawValue == text)
        #expect(OrganizationKey(text)?.description == text)
    }

    @Test(arguments: [
        "", "-", "-a", "a-", "A", "a_b", "a.b", "a b", "a/b", "ä", "a\0", "ａ", "a\n", "../a",
        String(repeating: "k", count: 64),
    ]) func rejectsAnOrganizationKey(_ text: String) {
        #expect(OrganizationKey(text) == nil)
    }

    @Test func organizationKeysOrderAsBytes() throws {
        var generator = SeededGenerator(seed: 1)
        let keys = try ["0", "a", "a-b", "a0", "ab", "b"].map { try #require(OrganizationKey($0)) }
        #expect(keys.shuffled(using: &generator).sorted() == keys)
    }

    @Test func numbersFollowEachOther() {
        #expect(Term.zero.next == Term(1))
        #expect(LogIndex(7).next.rawValue == 8)
        #expect(SequenceNumber.zero.next.description == "1")
        #expect(GroupID.system.rawValue == 0)
        #expect(NodeID(2) < NodeID(10))
        #expect(OrganizationID(2) < OrganizationID(10))
    }

    @Test func anErrorChainNamesEveryCauseOnce() {
        struct Layer: CausedError, CustomStringConvertible {
            let description: String
            let cause: (any Error)?
        }
        let inner = Layer(description: "disk", cause: MalformedBytes(what: "entry", offset: 3))
        #expect(errorChain(Layer(description: "apply", cause: inner)) == "apply: disk: malformed entry at byte 3")
        var deep: any Error = inner
        for _ in 0..<100 { deep = Layer(description: "again", cause: deep) }
        #expect(errorChain(deep).split(separator: ":").count == 16)
    }

    @Test func aSeedGivesTheSameNumbersEverywhere() {
        var generator = SeededGenerator(seed: 1_234_567)
        #expect(generator.next() == 6_457_827_717_110_365_317)
        #expect(generator.next() == 3_203_168_211_198_807_973)
        #expect(generator.next() == 9_817_491_932_198_370_423)
    }
}
