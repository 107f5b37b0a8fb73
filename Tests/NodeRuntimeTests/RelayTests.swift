import Synchronization
import Testing

@testable import NodeRuntime

@Suite struct RelayTests {
    @Test func passingOnStaysCheapHoweverOftenItIsDone() {
        let relay = Relay<Int>()
        let sum = Atomic<Int>(0)
        relay.receive { _ = sum.wrappingAdd($0, ordering: .relaxed) }
        // A receiver that is wrapped once more by each call makes these take minutes instead of milliseconds.
        let calls = 100_000
        for _ in 0..<calls { relay.send(1) }
        #expect(sum.load(ordering: .relaxed) == calls)
    }

    @Test func withoutAReceiverValuesAreDropped() {
        let relay = Relay<Int>()
        relay.send(1)
        let sum = Atomic<Int>(0)
        relay.receive { _ = sum.wrappingAdd($0, ordering: .relaxed) }
        relay.send(2)
        #expect(sum.load(ordering: .relaxed) == 2)
    }
}
