internal import Primitives

/// All chance of a simulation: numbers drawn from one seeded generator.
///
/// Parts that must not disturb each other's draws get a generator of their own by ``split()``.
struct Dice: RandomNumberGenerator {
    private var generator: SeededGenerator

    init(seed: UInt64) { self.generator = SeededGenerator(seed: seed) }

    mutating func next() -> UInt64 { self.generator.next() }

    /// - Returns: A number below `sides`, which is at least 1.
    mutating func roll(_ sides: Int) -> Int {
        precondition(sides > 0, "a die has a side")
        return Int(self.generator.next() % UInt64(sides))
    }

    mutating func draw(_ range: ClosedRange<Int>) -> Int { range.lowerBound + self.roll(range.count) }

    mutating func draw(_ range: ClosedRange<Int64>) -> Int64 {
        range.lowerBound + Int64(self.generator.next() % UInt64(range.upperBound - range.lowerBound + 1))
    }

    /// - Returns: True in `percent` of 100 cases.
    mutating func chance(_ percent: Int) -> Bool { self.roll(100) < percent }

    /// - Returns: True in `count` of 1,000 cases.
    mutating func chance(perMille count: Int) -> Bool { self.roll(1_000) < count }

    mutating func pick<Element>(_ elements: [Element]) -> Element { elements[self.roll(elements.count)] }

    /// - Returns: `count` different elements in the order in which they stand.
    mutating func subset<Element>(_ elements: [Element], count: Int) -> [Element] {
        var left = elements.count
        var wanted = min(count, left)
        var chosen: [Element] = []
        for element in elements {
            if wanted > 0, self.roll(left) < wanted {
                chosen.append(element)
                wanted -= 1
            }
            left -= 1
        }
        return chosen
    }

    mutating func split() -> Dice { Dice(seed: self.next()) }
}
