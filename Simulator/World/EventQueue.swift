/// Virtual time: microseconds since the simulation began.
typealias VirtualTime = Int64

/// What will happen, by virtual time; what happens at the same time happens in the order in which it was planned.
struct EventQueue {
    private struct Item {
        let time: VirtualTime
        let number: UInt64
        let action: () -> Void

        static func isBefore(_ left: Item, _ right: Item) -> Bool {
            left.time != right.time ? left.time < right.time : left.number < right.number
        }
    }

    /// A binary heap: every item comes before its two children at 2i + 1 and 2i + 2.
    private var heap: [Item] = []
    private var nextNumber: UInt64 = 0
    private(set) var now: VirtualTime = 0

    var count: Int { self.heap.count }

    /// Plans `action`; a time that has passed counts as now.
    mutating func add(at time: VirtualTime, _ action: @escaping () -> Void) {
        self.heap.append(Item(time: max(time, self.now), number: self.nextNumber, action: action))
        self.nextNumber += 1
        var place = self.heap.count - 1
        while place > 0 {
            let parent = (place - 1) / 2
            guard Item.isBefore(self.heap[place], self.heap[parent]) else { break }
            self.heap.swapAt(place, parent)
            place = parent
        }
    }

    /// Moves time to the next event, unless that lies after `end`.
    /// - Returns: What happens, or nil when nothing does until `end`.
    mutating func next(until end: VirtualTime) -> (() -> Void)? {
        guard let first = self.heap.first, first.time <= end else {
            self.now = max(self.now, end)
            return nil
        }
        let last = self.heap.removeLast()
        if !self.heap.isEmpty {
            self.heap[0] = last
            self.sink()
        }
        self.now = first.time
        return first.action
    }

    private mutating func sink() {
        var place = 0
        while true {
            var least = place
            for child in [place * 2 + 1, place * 2 + 2]
            where child < self.heap.count && Item.isBefore(self.heap[child], self.heap[least]) {
                least = child
            }
            if least == place { return }
            self.heap.swapAt(place, least)
            place = least
        }
    }

    mutating func removeAll() { self.heap.removeAll() }
}
