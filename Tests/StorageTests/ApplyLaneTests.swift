internal import Storage
internal import Synchronization
internal import Testing

private actor Counted {
    nonisolated let lane: any ApplyLane
    private var count = 0

    init(lane: any ApplyLane) { self.lane = lane }

    nonisolated var unownedExecutor: UnownedSerialExecutor { self.lane.asUnownedSerialExecutor() }

    func add() -> Int {
        self.count += 1
        return self.count
    }
}

private final class Order: Sendable {
    private let numbers = Mutex<[Int]>([])
    var list: [Int] { self.numbers.withLock { $0 } }
    func add(_ number: Int) { self.numbers.withLock { $0.append(number) } }
}

@Suite("Lanes", .timeLimit(.minutes(10)))
struct ApplyLaneTests {
    @Test func anInlineLaneRunsNothingUntilItIsTold() {
        let lane = InlineLane()
        let order = Order()
        for number in 1...3 { lane.enqueue { order.add(number) } }
        #expect(order.list.isEmpty)
        #expect(lane.waitingCount == 3)
        #expect(lane.runNext())
        #expect(order.list == [1])
        #expect(lane.drain() == 2)
        #expect(order.list == [1, 2, 3])
        #expect(!lane.runNext())
    }

    @Test func workThatWorkBringsWaitsItsTurn() {
        let lane = InlineLane()
        let order = Order()
        lane.enqueue {
            lane.enqueue { order.add(3) }
            order.add(1)
        }
        lane.enqueue { order.add(2) }
        #expect(lane.drain(itemsMax: 2) == 2)
        #expect(order.list == [1, 2])
        lane.drain()
        #expect(order.list == [1, 2, 3])
    }

    @Test func aCrashForgetsWhatWaits() {
        let lane = InlineLane()
        let order = Order()
        lane.enqueue { order.add(1) }
        lane.abandon()
        #expect(lane.drain() == 0)
        #expect(order.list.isEmpty)
    }

    private func add(to actor: Counted) -> Int { actor.assumeIsolated { $0.add() } }

    @Test func anActorsCodeIsIsolatedOnItsLane() async throws {
        let inline = Counted(lane: InlineLane())
        #expect(self.add(to: inline) == 1)
        let thread = try SerialThread(name: "lane")
        defer { thread.shutdown() }
        let lane: any ApplyLane = thread
        let actor = Counted(lane: lane)
        #expect(try await lane.run { self.add(to: actor) } == 1)
        #expect(await actor.add() == 2)
        #expect(!lane.isCurrent)
    }
}
