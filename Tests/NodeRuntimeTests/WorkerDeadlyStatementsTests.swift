internal import Columnar
internal import Foundation
internal import Primitives
internal import QueryRouter
internal import Shards
internal import Synchronization
internal import Testing

@testable internal import NodeRuntime

@Suite("Statements that end their worker", .timeLimit(.minutes(10)))
struct WorkerDeadlyStatementsTests {
    private typealias Memory = DeadlyStatements<ContinuousClock.Instant>

    private static let start = ContinuousClock.Instant.now  // ambient-ok: any instant serves as zero
    private static func at(_ seconds: Int) -> ContinuousClock.Instant { self.start + .seconds(seconds) }
    private static func statement(_ number: Int) -> Digest { sha256(Array("\(number)".utf8)) }

    @Test func theSecondEndAloneRefusesForAMinute() {
        var memory = Memory()
        let bad = Self.statement(1)
        memory.ended(with: [bad], at: Self.at(0))
        #expect(memory.refusal(of: bad, at: Self.at(1)) == nil)
        memory.ended(with: [bad], at: Self.at(10))
        #expect(memory.refusal(of: bad, at: Self.at(10)) == .seconds(60))
        #expect(memory.refusal(of: bad, at: Self.at(69)) == .seconds(1))
        #expect(memory.refusal(of: bad, at: Self.at(70)) == nil)
        #expect(memory.refusal(of: Self.statement(2), at: Self.at(11)) == nil)
        // It may try again, once.
        memory.ended(with: [bad], at: Self.at(71))
        #expect(memory.refusal(of: bad, at: Self.at(72)) == .seconds(59))
    }

    @Test func whoRanBesideOthersIsSuspectedLess() {
        var memory = Memory()
        let both: Set = [Self.statement(1), Self.statement(2)]
        for number in 0..<3 { memory.ended(with: both, at: Self.at(number * 10)) }
        #expect(memory.refusal(of: Self.statement(1), at: Self.at(21)) == nil)
        // The innocent one comes to its end in between.
        memory.clear(Self.statement(2))
        memory.ended(with: both, at: Self.at(30))
        #expect(memory.refusal(of: Self.statement(1), at: Self.at(31)) != nil)
        #expect(memory.refusal(of: Self.statement(2), at: Self.at(31)) == nil)
    }

    @Test func endsAtTheSameTimeAreOne() {
        var memory = Memory()
        let wide = Self.statement(1)
        for _ in 0..<8 { memory.ended(with: [wide], at: Self.at(0)) }
        memory.ended(with: [wide], at: Self.at(1))
        #expect(memory.refusal(of: wide, at: Self.at(1)) == nil)
        // Who repeats it all the time is refused all the same.
        memory.ended(with: [wide], at: Self.at(2))
        #expect(memory.refusal(of: wide, at: Self.at(2)) != nil)
    }

    @Test func suspicionEnds() {
        var memory = Memory()
        let statement = Self.statement(1)
        memory.ended(with: [statement], at: Self.at(0))
        memory.ended(with: [statement], at: Self.at(600))
        #expect(memory.refusal(of: statement, at: Self.at(601)) == nil)
    }

    @Test func theMemoryIsBounded() {
        var memory = Memory()
        for number in 0..<Memory.entriesMax * 2 {
            for turn in 0..<2 { memory.ended(with: [Self.statement(number)], at: Self.at(number + turn * 2)) }
        }
        #expect(memory.count == Memory.entriesMax)
        let last = Memory.entriesMax * 2 - 1
        #expect(memory.refusal(of: Self.statement(last), at: Self.at(last)) != nil)
        #expect(memory.refusal(of: Self.statement(0), at: Self.at(last)) == nil)
    }

    /// Has a link ask a process that ends as soon as it is asked.
    private static func die(_ memory: StatementMemory, of statement: Digest) async throws {
        let (ours, theirs) = try #require(FramePipe.pair())
        let link = WorkerLink(socket: ours, memory: memory)
        let ending = Thread {
            var byte: UInt8 = 0
            _ = read(theirs, &byte, 1)
            close(theirs)
        }
        ending.start()
        let running = Thread { _ = link.run { true } }
        running.start()
        _ = try await link.open([1, 2, 3], limit: .seconds(30), statement: statement)
    }

    @Test func aLinkRefusesWhatEndedItsProcessTwice() async throws {
        let shared = Shared(now: Self.start)
        let memory = StatementMemory { shared.now }
        let bad = Self.statement(1)
        for _ in 0..<2 {
            shared.pass(.seconds(5))
            await #expect(throws: WorkerGone.self) { try await Self.die(memory, of: bad) }
        }
        let refusal = await #expect(throws: QueryError.self) { try await Self.die(memory, of: bad) }
        #expect(refusal?.code == .quarantined)
        #expect(refusal?.isRetriable == false)
        #expect(refusal.map(ReplicaFailover.mayGoElsewhere) == false)
        // Another one is not refused; and that one only for a while.
        await #expect(throws: WorkerGone.self) { try await Self.die(memory, of: Self.statement(2)) }
        shared.pass(.seconds(60))
        await #expect(throws: WorkerGone.self) { try await Self.die(memory, of: bad) }
    }

    private final class Shared: Sendable {
        private let state: Mutex<ContinuousClock.Instant>
        init(now: ContinuousClock.Instant) { self.state = Mutex(now) }
        var now: ContinuousClock.Instant { self.state.withLock { $0 } }
        func pass(_ time: Duration) { self.state.withLock { $0 += time } }
    }

    @Test func theSameTextWithOtherValuesIsAnotherStatement() {
        let one = ShardStatement(sql: "select ?", parameters: [.int(1)])
        #expect(one.digest != nil)
        #expect(one.digest == ShardStatement(sql: "select ?", parameters: [.int(1)]).digest)
        #expect(one.digest != ShardStatement(sql: "select ?", parameters: [.int(2)]).digest)
        #expect(one.digest != ShardStatement(sql: "select ?").digest)
    }
}
