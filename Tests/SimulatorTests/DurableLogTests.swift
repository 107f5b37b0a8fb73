internal import Consensus
internal import Primitives
internal import Testing

@testable internal import simulator

@Suite struct DurableLogTests {
    private static func log(_ terms: [UInt64]) -> DurableLog {
        var log = DurableLog()
        for term in terms { log.append(Term(term)) }
        return log
    }

    @Test func knowsWhatItHolds() {
        let log = Self.log([1, 1, 2])
        #expect(log.last == LogIndex(3))
        #expect(log.holds(LogIndex(3), Term(2)) && !log.holds(LogIndex(3), Term(1)) && !log.holds(LogIndex(4), Term(2)))
    }

    @Test func forgetsATail() {
        var log = Self.log([1, 1, 2])
        log.truncate(from: LogIndex(2))
        #expect(log.last == LogIndex(1) && log.term(at: LogIndex(2)) == nil)
    }

    @Test func holdsWhatLiesBehindItsBase() {
        var log = Self.log([1, 1, 2])
        log.compact(through: LogIndex(2))
        #expect(log.last == LogIndex(3) && log.term(at: LogIndex(2)) == Term(1))
        #expect(log.holds(LogIndex(1), Term(7)))
        log.reset(to: LogIndex(9), term: Term(4))
        #expect(log.last == LogIndex(9) && log.holds(LogIndex(9), Term(4)) && !log.holds(LogIndex(10), Term(4)))
    }
}
