/// Decides whether a history is linearizable (Wing and Gong 1993, with the memory of Lowe 2017, as Porcupine does).
///
/// Depth-first search over the operations that could come next (those called before the first return among the
/// operations left), never twice through the same set of done operations with the same state.
package enum LinearizabilityChecker {
    /// Steps after which the search gives up.
    package static let stepsMaxDefault = 50_000_000

    /// Checks one history of one object; histories of independent objects are checked one by one.
    package static func check<Model: SequentialModel>(
        _ history: [ClientOperation<Model>],
        of model: Model.Type,
        stepsMax: Int = stepsMaxDefault
    ) -> Verdict {
        var search = Search<Model>(history, stepsMax: stepsMax)
        return search.run()
    }
}

/// The state of one search.
private struct Search<Model: SequentialModel> {
    private struct Event {
        var operation: Int
        var isReturn: Bool
    }

    private struct Visited: Hashable {
        var done: DoneSet
        var state: Model.State
    }

    private struct Choice {
        var call: Int
        var state: Model.State
    }

    private let history: [ClientOperation<Model>]
    private let stepsMax: Int
    /// Calls and returns by time, doubly linked so that operations can be lifted out and put back.
    private var events: [Event] = []
    private var next: [Int] = []
    private var previous: [Int] = []
    /// The place of each operation's return among the events.
    private var returnPlace: [Int]

    init(_ history: [ClientOperation<Model>], stepsMax: Int) {
        self.history = history
        self.stepsMax = stepsMax
        self.returnPlace = Array(repeating: 0, count: history.count)
        var times: [(time: UInt64, isReturn: Bool, operation: Int)] = []
        for (place, operation) in history.enumerated() {
            times.append((operation.calledAt, false, place))
            times.append((operation.output == nil ? .max : operation.returnedAt, true, place))
        }
        // At the same time calls come first: such operations overlap.
        times.sort { left, right in
            if left.time != right.time { return left.time < right.time }
            if left.isReturn != right.isReturn { return !left.isReturn }
            return left.operation < right.operation
        }
        // Place 0 is the head of the list.
        self.events.append(Event(operation: -1, isReturn: false))
        for item in times {
            if item.isReturn { self.returnPlace[item.operation] = self.events.count }
            self.events.append(Event(operation: item.operation, isReturn: item.isReturn))
        }
        self.next = (0..<self.events.count).map { $0 + 1 }
        self.previous = (0..<self.events.count).map { $0 - 1 }
        self.next[self.events.count - 1] = 0
    }

    mutating func run() -> Verdict {
        var state = Model.initial
        var done = DoneSet(count: self.history.count)
        var doneCount = 0
        var visited: Set<Visited> = []
        var choices: [Choice] = []
        var best = (count: -1, stuckAt: [Int]())
        var steps = 0
        var place = self.next[0]
        while place != 0 {
            steps += 1
            if steps > self.stepsMax { return .undecided(steps: steps) }
            let event = self.events[place]
            if !event.isReturn {
                let operation = self.history[event.operation]
                var after = done
                after.insert(event.operation)
                if let following = Model.step(state, operation.input, operation.output),
                    visited.insert(Visited(done: after, state: following)).inserted
                {
                    choices.append(Choice(call: place, state: state))
                    state = following
                    done = after
                    doneCount += 1
                    self.lift(place)
                    place = self.next[0]
                } else {
                    place = self.next[place]
                }
                continue
            }
            // An operation that has returned must have taken effect before: none of the calls so far can come next.
            if doneCount > best.count { best = (doneCount, self.candidates(before: place)) }
            guard let last = choices.popLast() else {
                return .violation(longestPrefix: best.count, stuckAt: best.stuckAt)
            }
            self.putBack(last.call)
            done.remove(self.events[last.call].operation)
            doneCount -= 1
            state = last.state
            place = self.next[last.call]
        }
        return .linearizable
    }

    private func candidates(before end: Int) -> [Int] {
        var found: [Int] = []
        var place = self.next[0]
        while place != end, place != 0 {
            found.append(self.events[place].operation)
            place = self.next[place]
        }
        return found
    }

    private mutating func unlink(_ place: Int) {
        let (before, after) = (self.previous[place], self.next[place])
        self.next[before] = after
        if after != 0 { self.previous[after] = before }
    }

    private mutating func relink(_ place: Int) {
        let (before, after) = (self.previous[place], self.next[place])
        self.next[before] = place
        if after != 0 { self.previous[after] = place }
    }

    /// Takes a call and its return out of the list.
    private mutating func lift(_ call: Int) {
        self.unlink(call)
        self.unlink(self.returnPlace[self.events[call].operation])
    }

    /// Undoes ``lift(_:)``; in the opposite order.
    private mutating func putBack(_ call: Int) {
        self.relink(self.returnPlace[self.events[call].operation])
        self.relink(call)
    }
}

/// Which operations are done, one bit each.
private struct DoneSet: Hashable {
    private var words: [UInt64]

    init(count: Int) { self.words = Array(repeating: 0, count: (count + 63) / 64) }

    mutating func insert(_ place: Int) { self.words[place / 64] |= 1 << UInt64(place % 64) }

    mutating func remove(_ place: Int) { self.words[place / 64] &= ~(1 << UInt64(place % 64)) }
}
