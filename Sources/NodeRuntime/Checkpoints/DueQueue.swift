/// Keys by the time at which they are to be looked at; a heap, so that nobody is looked at before.
///
/// A key may be in it several times: whoever takes it out asks whether there is still something to do.
struct DueQueue<Key: Sendable>: Sendable {
    private struct Entry: Sendable {
        let time: Duration
        /// Keeps keys of one time in the order in which they came.
        let number: UInt64
        let key: Key

        func isBefore(_ other: Entry) -> Bool { (self.time, self.number) < (other.time, other.number) }
    }

    private var heap: [Entry] = []
    private var added: UInt64 = 0

    init() {}

    var count: Int { self.heap.count }

    /// The earliest time; nil when nothing is in the queue.
    var first: Duration? { self.heap.first?.time }

    mutating func push(_ key: Key, at time: Duration) {
        self.added += 1
        self.heap.append(Entry(time: time, number: self.added, key: key))
        var place = self.heap.count - 1
        while place > 0 {
            let parent = (place - 1) / 2
            guard self.heap[place].isBefore(self.heap[parent]) else { return }
            self.heap.swapAt(place, parent)
            place = parent
        }
    }

    /// The earliest key whose time has come.
    mutating func pop(at now: Duration) -> Key? {
        guard let first = self.heap.first, first.time <= now else { return nil }
        let last = self.heap.removeLast()
        guard !self.heap.isEmpty else { return first.key }
        self.heap[0] = last
        var place = 0
        while true {
            var smallest = place
            for child in [2 * place + 1, 2 * place + 2] where child < self.heap.count {
                if self.heap[child].isBefore(self.heap[smallest]) { smallest = child }
            }
            if smallest == place { return first.key }
            self.heap.swapAt(place, smallest)
            place = smallest
        }
    }
}
