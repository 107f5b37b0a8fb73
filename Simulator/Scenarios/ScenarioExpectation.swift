internal import Consensus
internal import Primitives

/// One `expect` line in checked form.
struct ScenarioExpectation: Sendable {
    /// A property of a node and what it should be, or with `isNegated` should not be.
    struct Property: Sendable, Hashable {
        let key: Key
        let value: String
        let isNegated: Bool
    }

    /// What can be asked of a node.
    enum Key: Sendable, Hashable {
        case role
        case term
        case vote
        case lead
        case commit
        case applied
        case first
        case last
        case text
        case voters
        case outgoing
        case learners
        case learnersNext
        case autoLeave
        case transferee
        case asleep
        /// `TERM/DATA` of the entry, or `none`.
        case entry(LogIndex)
        case entryType(LogIndex)
        /// What the leader knows of a replica.
        case match(NodeID)
        case progress(NodeID)
    }

    /// What is expected.
    enum Form: Sendable {
        case node(NodeID, [Property])
        case leaderCount(Int)
        /// Without a number: at least one.
        case inFlight(FlightFilter, count: Int?)
        case read(context: String, node: NodeID?, least: LogIndex)
        case noRead(context: String, node: NodeID?)
        case lastError(String)
    }

    let form: Form

    init(_ step: ScenarioStep, file: String) throws {
        let reader = ScenarioReader(step: step, file: file)
        switch step.words.first {
        case nil: self.form = try Self.node(reader)
        case "leader-count":
            try reader.allow(["n"])
            self.form = .leaderCount(try reader.count("n") ?? 1)
        case "in-flight":
            try reader.allow(["type", "from", "to", "term", "reject", "n", "local"])
            var filter = try reader.filter()
            // Asking for what a node sends itself is clear enough.
            if let from = filter.from, from == filter.to, from.count == 1 { filter.isLocalIncluded = true }
            self.form = .inFlight(filter, count: try reader.count("n"))
        case "read":
            try reader.allow(["ctx", "min", "node"])
            let least = LogIndex(UInt64(try reader.count("min") ?? 0))
            self.form = .read(context: try reader.text("ctx"), node: try reader.node("node"), least: least)
        case "no-read":
            try reader.allow(["ctx", "node"])
            self.form = .noRead(context: try reader.text("ctx"), node: try reader.node("node"))
        case "last-error":
            try reader.allow([])
            guard step.words.count == 2, ["none", "dropped"].contains(step.words[1]) else {
                throw reader.error(.badArgument, "\"expect last-error\" needs none or dropped")
            }
            self.form = .lastError(step.words[1])
        case .some(let word):
            throw reader.error(.unknownArgument, "unknown expectation \"\(word)\"")
        }
        if step.words.count > 1, step.words[0] != "last-error" {
            throw reader.error(.badArgument, "\"expect \(step.words[0])\" has too many words")
        }
    }

    private static func node(_ reader: ScenarioReader) throws -> Form {
        guard let node = try reader.node("node") else { throw reader.error(.badArgument, "\"expect\" needs node=") }
        var properties: [Property] = []
        for option in reader.step.options where option.key != "node" && option.key != "may-fail" {
            guard let key = Self.key(option.key) else {
                throw reader.error(.unknownArgument, "\"expect node=\" has no argument \"\(option.key)\"")
            }
            let isNegated = option.value.hasPrefix("!")
            let value = isNegated ? String(option.value.dropFirst()) : option.value
            try Self.check(value, of: key, option: option.key, reader)
            properties.append(Property(key: key, value: value, isNegated: isNegated))
        }
        if properties.isEmpty { throw reader.error(.badArgument, "\"expect node=\" says nothing of the node") }
        return .node(node, properties)
    }

    private static let keys: [String: Key] = [
        "role": .role, "term": .term, "vote": .vote, "lead": .lead, "commit": .commit, "applied": .applied,
        "first": .first, "last": .last, "sm": .text, "voters": .voters, "outgoing": .outgoing, "learners": .learners,
        "learners-next": .learnersNext, "auto-leave": .autoLeave, "transferee": .transferee, "asleep": .asleep,
    ]

    private static func key(_ text: String) -> Key? {
        if let key = self.keys[text] { return key }
        func number(after prefix: String) -> UInt64? {
            text.hasPrefix(prefix) ? UInt64(text.dropFirst(prefix.count)) : nil
        }
        if let index = number(after: "at") { return .entry(LogIndex(index)) }
        if let index = number(after: "type") { return .entryType(LogIndex(index)) }
        if let node = number(after: "match") { return .match(NodeID(node)) }
        if let node = number(after: "progress") { return .progress(NodeID(node)) }
        return nil
    }

    /// Refuses a value that no state could ever equal: it would make `!x` true for ever.
    private static func check(_ value: String, of key: Key, option: String, _ reader: ScenarioReader) throws {
        let isGood: Bool
        switch key {
        case .role: isGood = ExpectedValue.role(value) != nil
        case .term, .commit, .applied, .first, .last: isGood = UInt64(value) != nil
        case .vote, .lead, .transferee: isGood = ExpectedValue.node(value) != nil
        case .voters, .outgoing, .learners, .learnersNext: isGood = ExpectedValue.nodes(value) != nil
        case .autoLeave, .asleep: isGood = value == "true" || value == "false"
        case .text: isGood = true
        case .entry: isGood = value == "none" || ExpectedValue.entry(value) != nil
        case .entryType: isGood = value == "none" || ExpectedValue.entryKinds(value) != nil
        case .match: isGood = value == "none" || UInt64(value) != nil
        case .progress: isGood = ["none", "probe", "replicate", "snapshot"].contains(value)
        }
        guard isGood else { throw reader.error(.badArgument, "\(option) cannot be \"\(value)\"") }
    }
}

/// The forms that values of expectations take.
enum ExpectedValue {
    static func role(_ text: String) -> RaftRole? {
        var name = text.lowercased().filter { $0 != "-" && $0 != "_" }
        if name.hasPrefix("state") { name.removeFirst(5) }
        switch name {
        case "follower", "learner": return .follower
        case "precandidate": return .preCandidate
        case "candidate": return .candidate
        case "leader": return .leader
        default: return nil
        }
    }

    /// A node, or zero for none.
    static func node(_ text: String) -> NodeID? {
        text == "none" ? NodeID(0) : UInt64(text).map { NodeID($0) }
    }

    static func nodes(_ text: String) -> [NodeID]? {
        let inner = text.filter { $0 != "(" && $0 != ")" && $0 != "[" && $0 != "]" }
        if inner.isEmpty || inner == "none" || inner == "0" { return [] }
        var nodes: [NodeID] = []
        for part in inner.split(separator: ",", omittingEmptySubsequences: false) {
            guard let value = UInt64(part), value > 0 else { return nil }
            nodes.append(NodeID(value))
        }
        return nodes.sorted()
    }

    /// `TERM/DATA`, or `TERM` when the data do not matter.
    static func entry(_ text: String) -> (term: Term, data: String?)? {
        guard let slash = text.firstIndex(of: "/") else { return UInt64(text).map { (Term($0), nil) } }
        guard let term = UInt64(text[..<slash]) else { return nil }
        return (Term(term), String(text[text.index(after: slash)...]))
    }

    static func entryKinds(_ text: String) -> Set<LogEntry.Kind>? {
        var name = text.lowercased().filter { $0 != "-" && $0 != "_" }
        if name.hasPrefix("entry") { name.removeFirst(5) }
        switch name {
        case "normal": return [.empty, .commands]
        case "empty": return [.empty]
        case "commands", "data": return [.commands]
        case "conf", "confchange", "confchangev1", "confchangev2", "confv1", "confv2", "conf1", "conf2", "v1", "v2",
            "membership":
            return [.membership]
        default: return nil
        }
    }
}
