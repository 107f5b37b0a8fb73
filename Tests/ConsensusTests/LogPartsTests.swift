internal import Consensus
internal import Primitives
internal import Testing

@Suite struct LogPartsTests {
    @Test func keepsTermsAsRuns() {
        var terms = TermRuns()
        for term in [1, 1, 1, 4, 4, 9] as [UInt64] { terms.append(Term(term)) }
        #expect((0...7).map { terms.term(at: LogIndex($0))?.rawValue } == [0, 1, 1, 1, 4, 4, 9, nil])
        #expect(terms.lastIndex(atOrBefore: LogIndex(9), termAtMost: Term(8)) == LogIndex(5))
        #expect(terms.lastIndex(atOrBefore: LogIndex(4), termAtMost: Term(3)) == LogIndex(3))
        #expect(terms.lastIndex(atOrBefore: LogIndex(6), termAtMost: Term(0)) == .zero)
        terms.truncate(from: LogIndex(5))
        #expect(terms.last == LogIndex(4) && terms.lastTerm == Term(4))
        terms.truncate(from: LogIndex(1))
        #expect(terms.last == .zero && terms.lastTerm == .zero)
    }

    @Test func agreesWithAPlainArrayOfTerms() {
        for seed in 1...50 as ClosedRange<UInt64> {
            var generator = SeededGenerator(seed: seed)
            var runs = TermRuns()
            var plain: [Term] = []
            for _ in 0..<80 {
                if generator.next() % 5 == 0, !plain.isEmpty {
                    let from = 1 + Int(generator.next() % UInt64(plain.count))
                    runs.truncate(from: LogIndex(UInt64(from)))
                    plain.removeSubrange((from - 1)...)
                } else {
                    let term = Term((plain.last?.rawValue ?? 1) + (generator.next() % 4 == 0 ? 1 : 0))
                    runs.append(term)
                    plain.append(term)
                }
                for (offset, term) in plain.enumerated() {
                    #expect(runs.term(at: LogIndex(UInt64(offset) + 1)) == term, "seed \(seed)")
                }
                let index = Int(generator.next() % 90)
                let bound = Term(generator.next() % 10)
                let expected = plain.prefix(index).lastIndex { $0 <= bound }.map { $0 + 1 } ?? 0
                let found = runs.lastIndex(atOrBefore: LogIndex(UInt64(index)), termAtMost: bound)
                #expect(found == LogIndex(UInt64(expected)), "seed \(seed)")
            }
        }
    }

    @Test func carriesCommandsInOneEntry() throws {
        let batches: [[[UInt8]]] = [[], [[]], [[1]], [[1, 2, 3], [], [4]], [Array(repeating: 7, count: 5_000), [1]]]
        for batch in batches {
            #expect(try CommandBatch.decode(CommandBatch.encode(batch)).map { Array($0) } == batch)
        }
    }

    @Test func refusesMalformedBatches() {
        let whole = CommandBatch.encode([[1, 2, 3], [4]])
        for count in 0..<whole.count {
            #expect(throws: MalformedBytes.self) { try CommandBatch.decode(Array(whole.prefix(count))) }
        }
        #expect(throws: MalformedBytes.self) { try CommandBatch.decode(whole + [0]) }
        #expect(throws: MalformedBytes.self) { try CommandBatch.decode([255, 255, 255, 255, 0, 0, 0, 0]) }
    }
}
