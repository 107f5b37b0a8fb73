internal import Testing

@testable internal import simulator

@Suite struct EventQueueTests {
    @Test func givesEventsByTimeAndThenByPlan() {
        var dice = Dice(seed: 5)
        var queue = EventQueue()
        var planned: [(time: VirtualTime, number: Int)] = []
        var seen: [Int] = []
        for number in 0..<500 {
            let time = dice.draw(0...40 as ClosedRange<Int64>)
            planned.append((time, number))
            queue.add(at: time) { seen.append(number) }
        }
        while let action = queue.next(until: 100) { action() }
        let expected = planned.sorted { ($0.time, $0.number) < ($1.time, $1.number) }.map(\.number)
        #expect(seen == expected)
        #expect(queue.now == 100)
    }

    @Test func keepsWhatLiesAfterTheEnd() {
        var queue = EventQueue()
        queue.add(at: 10) {}
        #expect(queue.next(until: 9) == nil)
        #expect(queue.now == 9 && queue.count == 1)
        #expect(queue.next(until: 10) != nil)
    }
}
