internal import NodeRuntime
internal import Primitives

/// A small made-up history of three laboratories; the same every time.
enum DemoEvents {
    static let organizations = [
        (key: "greenhouse-north", name: "Greenhouse North"), (key: "mycology-lab", name: "Mycology Laboratory"),
        (key: "fermentation-works", name: "Fermentation Works"),
    ]
    static let batchesPerOrganization = 24

    private static let species = [
        ["Solanum tuberosum", "Musa acuminata", "Vanilla planifolia"],
        ["Pleurotus ostreatus", "Hericium erinaceus", "Ganoderma lucidum"],
        ["Saccharomyces cerevisiae", "Lactobacillus plantarum", "Aspergillus oryzae"],
    ]
    private static let states = [
        ["received", "sterilized", "initiated", "multiplying", "rooting", "hardened"],
        ["received", "inoculated", "colonizing", "colonized", "fruiting", "harvested"],
        ["seed", "growing", "induced", "harvested", "processed"],
    ]
    private static let people = ["a.keller", "m.okafor", "s.lindqvist", "t.nakamura", "r.alvarez"]

    /// Newline-delimited JSON as `ftnode import` takes it, in time order.
    static func ndjson() -> String {
        var generator = SeededGenerator(seed: 20_260_131)
        var events: [(time: Int64, line: String)] = []
        for (index, organization) in self.organizations.enumerated() {
            for number in 1...self.batchesPerOrganization {
                self.appendBatch(number, of: organization.key, index, &generator, &events)
            }
        }
        return events.sorted { ($0.time, $0.line) < ($1.time, $1.line) }.map { $0.line + "\n" }.joined()
    }

    private static func appendBatch(
        _ number: Int,
        of organization: String,
        _ index: Int,
        _ generator: inout SeededGenerator,
        _ events: inout [(time: Int64, line: String)]
    ) {
        let day = Int64(86_400_000_000)
        let origin = Int64(1_767_254_400_000_000)
        var time = origin + Int64.random(in: 0..<(60 * day), using: &generator)  // ambient-ok: seeded
        let batch = "B-\(2600 + index * 100 + number)"
        let species = self.species[index][Int.random(in: 0..<3, using: &generator)]  // ambient-ok: seeded
        var before: String?
        for state in self.states[index] {
            let person = self.people[Int.random(in: 0..<self.people.count, using: &generator)]  // ambient-ok: seeded
            let isLost = before != nil && Int.random(in: 0..<25, using: &generator) == 0  // ambient-ok: seeded
            let shown = isLost ? "contaminated" : state
            let count = 20 + Int.random(in: 0..<60, using: &generator)  // ambient-ok: seeded
            let after = "{\"species\":\(JSONText.quoted(species)),\"state\":\"\(shown)\",\"samples\":\(count)}"
            let reason = isLost ? ",\"reason\":\"growth outside of the protocol\",\"severity\":\"warning\"" : ""
            events.append(
                (
                    time,
                    "{\"organization\":\"\(organization)\",\"occurred_at\":\"\(Timestamp(microseconds: time))\","
                        + "\"actor\":\"\(person)\",\"action\":\"batch.\(shown)\",\"entity_type\":\"batch\","
                        + "\"entity_id\":\"\(batch)\",\"before\":\(before ?? "null"),\"after\":\(after)\(reason)}"
                )
            )
            if isLost { return }
            before = after
            time += day / 4 + Int64.random(in: 0..<(6 * day), using: &generator)  // ambient-ok: seeded
        }
    }
}
