internal import Foundation
internal import Primitives

/// A generated event log: cases that walk from organization to organization. The same seed gives the same log.
struct EventLog: Sendable {
    struct Event: Sendable {
        var organization: String
        var caseID: String
        var action: String
        /// Microseconds since 1970.
        var time: Int64
    }

    static let organizations = ["north", "south", "east", "west", "pole", "core"]
    /// In which about half of all events lie.
    static let largest = "north"
    static let actions = ["queued", "accepted", "assigned", "resolved", "closed"]

    let seed: UInt64
    let events: [Event]

    init(seed: UInt64, events count: Int) {
        self.seed = seed
        var random = SplitMix(state: seed)
        var events: [Event] = []
        var number = 0
        while events.count < count {
            number += 1
            let steps = min(count - events.count, 2 + random.below(8))
            var time = Int64(1_704_067_200_000_000) + Int64(random.below(200)) * 86_400_000_000
            for step in 0..<steps {
                let isLargest = random.below(2) == 0
                events.append(
                    Event(
                        organization: isLargest ? Self.largest : Self.organizations[random.below(6)],
                        caseID: "case-\(number)",
                        action: Self.actions[min(step, Self.actions.count - 1 - random.below(2))],
                        time: time
                    )
                )
                time += Int64(random.below(20 * 86_400)) * 1_000_000 + Int64(random.below(1_000_000))
            }
        }
        self.events = events
    }

    /// As `ftnode import` reads it.
    var ndjson: [UInt8] {
        var text = ""
        for (index, event) in self.events.enumerated() {
            text +=
                "{\"organization\":\"\(event.organization)\",\"action\":\"\(event.action)\",\"entity_type\":\"case\","
                + "\"entity_id\":\"\(event.caseID)\",\"actor\":\"person-\(index % 17)\","
                + "\"occurred_at\":\"\(Timestamp(microseconds: event.time))\","
                + "\"after\":{\"line\":\(index + 1),\"note\":\"\(String(repeating: "n", count: index % 60))\"}}\n"
        }
        return Array(text.utf8)
    }

    /// Events of each organization.
    var counts: [String: Int] {
        self.events.reduce(into: [:]) { $0[$1.organization, default: 0] += 1 }
    }

    /// The lines on which an organization's events stand, from 1, in their order.
    func lines(of organization: String) -> [Int] {
        self.events.indices.filter { self.events[$0].organization == organization }.map { $0 + 1 }
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014).
private struct SplitMix {
    var state: UInt64

    mutating func next() -> UInt64 {
        self.state &+= 0x9E37_79B9_7F4A_7C15
        var value = self.state
        value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
        value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
        return value ^ (value >> 31)
    }

    mutating func below(_ bound: Int) -> Int { Int(self.next() % UInt64(bound)) }
}
