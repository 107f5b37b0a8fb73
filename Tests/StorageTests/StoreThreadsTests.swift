import Dispatch
import Storage
import StorageTestKit
import Synchronization
import Testing

private final class Tally: Sendable {
    private let state = Mutex(0)

    var count: Int { self.state.withLock { $0 } }

    func add() { self.state.withLock { $0 += 1 } }
}

@Suite(.timeLimit(.minutes(10))) struct StoreThreadsTests {
    @Test func runsAllCallsAndReturnsTheirValues() async throws {
        let threads = try StoreThreads(name: "test", count: 3, queuedMax: 1000)
        let sum = try await withThrowingTaskGroup(of: Int.self) { group in
            for number in 0..<500 { group.addTask { try await threads.run { number } } }
            var sum = 0
            for try await number in group { sum += number }
            return sum
        }
        #expect(sum == 500 * 499 / 2)
        threads.shutdown()
    }

    @Test func refusesWhenTheQueueIsFull() async throws {
        let threads = try StoreThreads(name: "test", count: 1, queuedMax: 2)
        let gate = DispatchSemaphore(value: 0)
        let (started, start) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingOldest(1))
        try await withThrowingTaskGroup(of: StorageError.Code?.self) { group in
            group.addTask {
                try await threads.run {
                    start.yield()
                    gate.wait()
                }
                return nil
            }
            for await _ in started { break }
            // The only thread waits at the gate, so that of six calls two find a place and four do not.
            for _ in 0..<6 {
                group.addTask {
                    do {
                        try await threads.run {}
                        return nil
                    } catch let error as StorageError {
                        return error.code
                    }
                }
            }
            for _ in 0..<4 {
                let answer = try await group.next()
                #expect(answer == .some(.busy))
            }
            #expect(threads.waitingCount == 2)
            gate.signal()
            for _ in 0..<3 {
                let answer = try await group.next()
                #expect(answer == .some(nil))
            }
        }
        threads.shutdown()
    }

    @Test func blockingCallsRunSideBySide() async throws {
        let threads = try StoreThreads(name: "test", count: 2, queuedMax: 10)
        let first = DispatchSemaphore(value: 0)
        let second = DispatchSemaphore(value: 0)
        async let one: Void = threads.run {
            first.signal()
            second.wait()
        }
        async let two: Void = threads.run {
            second.signal()
            first.wait()
        }
        _ = try await (one, two)
        threads.shutdown()
    }

    @Test func refusesAfterShutdownAndDrainsBefore() async throws {
        let threads = try StoreThreads(name: "test", count: 1, queuedMax: 100)
        let ran = Tally()
        try await withThrowingDiscardingTaskGroup { group in
            for _ in 0..<50 {
                group.addTask { try await threads.run { ran.add() } }
            }
        }
        threads.shutdown()
        threads.shutdown()
        #expect(ran.count == 50)
        do {
            try await threads.run { ran.add() }
            Issue.record("did not refuse")
        } catch let error as StorageError {
            #expect(error.code == .closed)
        }
        #expect(ran.count == 50)
    }

    @Test func passesOnWhatTheBodyThrows() async throws {
        struct Refusal: Error {}
        let threads = try StoreThreads(name: "test", count: 1, queuedMax: 1)
        await #expect(throws: Refusal.self) { try await threads.run { () throws in throw Refusal() } }
        threads.shutdown()
    }
}
