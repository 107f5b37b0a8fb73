import Dispatch
import Foundation
import Storage
import Synchronization
import Testing

/// An actor that lives on a thread of its own.
private actor Counter {
    nonisolated let thread: SerialThread
    private(set) var value = 0

    init(_ thread: SerialThread) { self.thread = thread }

    nonisolated var unownedExecutor: UnownedSerialExecutor { self.thread.asUnownedSerialExecutor() }

    func increment() -> Bool {
        self.value += 1
        return self.thread.isCurrent
    }

    nonisolated func incrementFromTheThread() {
        self.assumeIsolated { $0.value += 1 }
    }
}

@Suite(.timeLimit(.minutes(10))) struct SerialThreadTests {
    @Test func runsClosuresInOrder() async throws {
        let thread = try SerialThread(name: "test-order")
        let seen = Mutex<[Int]>([])
        for number in 0..<10_000 { thread.enqueue { seen.withLock { $0.append(number) } } }
        let count = try await thread.run { seen.withLock { $0.count } }
        #expect(count == 10_000)
        #expect(seen.withLock { $0 } == Array(0..<10_000))
        thread.shutdown()
    }

    @Test func anActorRunsOnTheThread() async throws {
        let thread = try SerialThread(name: "test-actor")
        let counter = Counter(thread)
        await withTaskGroup { group in
            for _ in 0..<8 {
                group.addTask {
                    for _ in 0..<500 { #expect(await counter.increment()) }
                }
            }
        }
        #expect(await counter.value == 4000)
        #expect(!thread.isCurrent)
        #expect(thread.isIsolatingCurrentContext() == false)
        thread.shutdown()
    }

    @Test func closuresMayAssumeTheActorsIsolation() async throws {
        let thread = try SerialThread(name: "test-assume")
        let counter = Counter(thread)
        for _ in 0..<100 { thread.enqueue { counter.incrementFromTheThread() } }
        #expect(await counter.value == 100)
        thread.shutdown()
    }

    @Test func otherThreadsMayNotAssumeTheActorsIsolation() async {
        await #expect(processExitsWith: .failure) {
            let thread = try SerialThread(name: "test-outside")
            Counter(thread).incrementFromTheThread()
        }
    }

    @Test func hasItsNameAndNiceness() async throws {
        let thread = try SerialThread(name: "test-a-name-that-is-long", niceness: 5)
        let (name, niceness) = try await thread.run {
            (
                try String(contentsOfFile: "/proc/thread-self/comm", encoding: .utf8),
                getpriority(__priority_which_t(PRIO_PROCESS.rawValue), 0)
            )
        }
        #expect(name == "test-a-name-tha\n")
        #expect(niceness == 5)
        thread.shutdown()
    }

    @Test func runReturnsWhatTheBodyThrows() async throws {
        let thread = try SerialThread(name: "test-throw")
        await #expect(throws: StorageError.self) {
            try await thread.run { () throws in throw StorageError(code: .io, message: "of a test") }
        }
        thread.shutdown()
    }

    @Test func shutdownDrainsAndLateWorkStillRuns() async throws {
        let thread = try SerialThread(name: "test-drain")
        let counter = Counter(thread)
        let gate = DispatchSemaphore(value: 0)
        let ran = Mutex(0)
        thread.enqueue { gate.wait() }
        for _ in 0..<1000 { thread.enqueue { ran.withLock { $0 += 1 } } }
        gate.signal()
        thread.shutdown()
        #expect(ran.withLock { $0 } == 1000)
        thread.shutdown()
        thread.enqueue {
            ran.withLock { $0 += 1 }
            thread.enqueue { ran.withLock { $0 += 1 } }
        }
        #expect(ran.withLock { $0 } == 1002)
        #expect(await counter.increment())
        #expect(await counter.value == 1)
    }

    /// Tries until the thread has gone to sleep.
    private func runHere(_ thread: SerialThread, _ work: () -> Void) -> Bool {
        for _ in 0..<10_000_000 where thread.runHere(work) { return true }
        return false
    }

    @Test func anIdleThreadLendsItsPlace() async throws {
        let thread = try SerialThread(name: "test-lend")
        let counter = Counter(thread)
        let seen = Mutex<[String]>([])
        let didRun = self.runHere(thread) {
            #expect(thread.isCurrent)
            counter.incrementFromTheThread()
            thread.enqueue { seen.withLock { $0.append("after") } }
            #expect(!thread.runHere {}, "one at a time")
            seen.withLock { $0.append("here") }
        }
        #expect(didRun)
        #expect(!thread.isCurrent)
        #expect(await counter.value == 1)
        #expect(seen.withLock { $0 } == ["here", "after"])
        thread.shutdown()
        #expect(!thread.runHere {}, "it has ended")
    }

    @Test func aBusyThreadDoesNotLendItsPlace() throws {
        let thread = try SerialThread(name: "test-busy")
        let (began, gate) = (DispatchSemaphore(value: 0), DispatchSemaphore(value: 0))
        thread.enqueue {
            began.signal()
            gate.wait()
        }
        began.wait()
        #expect(!thread.runHere { Issue.record("two at once") })
        gate.signal()
        thread.shutdown()
    }

    @Test func endsAfterTheWorkThatRunsInItsPlace() throws {
        let thread = try SerialThread(name: "test-end")
        let seen = Mutex<[String]>([])
        let ended = DispatchSemaphore(value: 0)
        let other = try SerialThread(name: "test-other")
        let didRun = self.runHere(thread) {
            other.enqueue {
                thread.shutdown()
                seen.withLock { $0.append("end") }
                ended.signal()
            }
            for number in 0..<1_000 { thread.enqueue { seen.withLock { $0.append("\(number)") } } }
            seen.withLock { $0.append("here") }
        }
        #expect(didRun)
        ended.wait()
        other.shutdown()
        #expect(seen.withLock { $0.first } == "here")
        #expect(seen.withLock { $0.last } == "end")
        #expect(seen.withLock { $0.count } == 1_002)
    }

    @Test func endsWhenItsOwnerLetsItGoAfterShutdown() throws {
        weak var released: SerialThread?
        do {
            let thread = try SerialThread(name: "test-release")
            released = thread
            thread.shutdown()
        }
        #expect(released == nil)
    }
}
