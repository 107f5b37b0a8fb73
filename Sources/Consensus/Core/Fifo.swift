/// A first-in, first-out queue over an array whose used front is cut off now and then.
struct Fifo<Element> {
    private var items: [Element] = []
    private var head = 0

    /// Used places at the front before they are cut off.
    private static var unusedMax: Int { 64 }

    var count: Int { self.items.count - self.head }
    var isEmpty: Bool { self.head == self.items.count }
    var first: Element? { self.isEmpty ? nil : self.items[self.head] }
    var last: Element? { self.isEmpty ? nil : self.items[self.items.count - 1] }
    /// The elements, first in first.
    var elements: ArraySlice<Element> { self.items[self.head...] }

    mutating func append(_ element: Element) { self.items.append(element) }

    mutating func removeFirst() {
        precondition(!self.isEmpty, "the queue is empty")
        self.head += 1
        if self.head == self.items.count {
            self.items.removeAll(keepingCapacity: true)
            self.head = 0
        } else if self.head >= Self.unusedMax, self.head * 2 >= self.items.count {
            self.items.removeFirst(self.head)
            self.head = 0
        }
    }

    mutating func removeLast() {
        precondition(!self.isEmpty, "the queue is empty")
        self.items.removeLast()
    }

    mutating func removeAll() {
        self.items.removeAll()
        self.head = 0
    }

    /// Changes every element, first in first.
    mutating func update(_ change: (inout Element) -> Void) {
        for place in self.head..<self.items.count { change(&self.items[place]) }
    }
}

extension Fifo: Sendable where Element: Sendable {}
