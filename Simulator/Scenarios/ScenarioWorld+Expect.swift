internal import Consensus
internal import Primitives

// What `expect` compares.
extension ScenarioWorld {
    /// - Returns: What is otherwise than expected.
    mutating func unmet(_ expectation: ScenarioExpectation) -> [String] {
        switch expectation.form {
        case .node(let id, let properties):
            guard let place = self.place(of: id) else { return ["there is no node \(id.rawValue)"] }
            return properties.compactMap { self.unmet($0, of: self.nodes[place]) }
        case .leaderCount(let expected):
            let found = self.nodes.count { $0.core.role == .leader }
            return found == expected ? [] : ["\(found) nodes lead, not \(expected)"]
        case .inFlight(let filter, let expected):
            let found = self.matching(filter).count
            if let expected = expected { return found == expected ? [] : ["\(found) such messages, not \(expected)"] }
            return found > 0 ? [] : ["no such message"]
        case .read(let context, let node, let least):
            let found = self.answers(context, of: node)
            if found.isEmpty { return ["the read \"\(context)\" has no answer"] }
            return found.contains { $0 >= least }
                ? [] : ["the read \"\(context)\" was answered with \(found.map(\.rawValue)), below \(least)"]
        case .noRead(let context, let node):
            let found = self.answers(context, of: node)
            return found.isEmpty ? [] : ["the read \"\(context)\" was answered with \(found.map(\.rawValue))"]
        case .lastError(let expected):
            self.unseenRefusal = nil
            return self.lastError == expected ? [] : ["the last error is \(self.lastError), not \(expected)"]
        }
    }

    private func answers(_ context: String, of node: NodeID?) -> [LogIndex] {
        self.reads.compactMap { read in
            guard read.context == context, node == nil || node == read.node else { return nil }
            return read.index
        }
    }

    private func unmet(_ property: ScenarioExpectation.Property, of node: VirtualNode) -> String? {
        let (isEqual, found) = self.compare(property, node)
        if isEqual != property.isNegated { return nil }
        let sign = property.isNegated ? "which it should not be" : "not \(property.value)"
        return "\(self.name(of: property.key)) of \(node.id.rawValue) is \(found), \(sign)"
    }

    private func name(of key: ScenarioExpectation.Key) -> String {
        switch key {
        case .entry(let index): return "entry \(index.rawValue)"
        case .entryType(let index): return "type of entry \(index.rawValue)"
        case .match(let node): return "match\(node.rawValue)"
        case .progress(let node): return "progress\(node.rawValue)"
        case .text: return "sm"
        case .learnersNext: return "learners-next"
        case .autoLeave: return "auto-leave"
        default: return "\(key)"
        }
    }

    private func compare(_ property: ScenarioExpectation.Property, _ node: VirtualNode) -> (Bool, String) {
        let core = node.core
        let value = property.value
        func number(_ found: UInt64) -> (Bool, String) { (UInt64(value) == found, "\(found)") }
        func peer(_ found: NodeID?) -> (Bool, String) {
            (ExpectedValue.node(value) == (found ?? NodeID(0)), "\(found?.rawValue ?? 0)")
        }
        func list(_ found: [NodeID]) -> (Bool, String) {
            (ExpectedValue.nodes(value) == found.sorted(), found.isEmpty ? "none" : ScenarioTrace.list(found))
        }
        switch property.key {
        case .role: return (ExpectedValue.role(value) == core.role, ScenarioTrace.name(of: core.role))
        case .term: return number(core.term.rawValue)
        case .vote: return peer(core.hardState.vote)
        case .lead: return peer(core.leader)
        case .commit: return number(core.commit.rawValue)
        case .applied: return number(node.machine.applied.rawValue)
        case .first: return number(core.firstIndex.rawValue)
        case .last: return number(core.lastIndex.rawValue)
        case .text: return (value == node.machine.newest.text, "\"\(node.machine.newest.text)\"")
        case .voters: return list(core.membership.voters)
        case .outgoing: return list(core.membership.outgoing)
        case .learners: return list(core.membership.learners)
        case .learnersNext: return list(core.membership.learnersNext)
        case .autoLeave:
            let isAuto = core.membership.isJoint && core.membership.autoLeave
            return (isAuto == (value == "true"), "\(isAuto)")
        case .transferee: return peer(core.transferee)
        case .asleep: return (core.isAsleep == (value == "true"), "\(core.isAsleep)")
        case .entry(let index): return self.compareEntry(value, node.entry(at: index))
        case .entryType(let index): return self.compareType(value, node.entry(at: index))
        case .match(let other):
            guard let found = node.progress(of: other) else { return (value == "none", "none") }
            return number(found.match.rawValue)
        case .progress(let other):
            guard let found = node.progress(of: other) else { return (value == "none", "none") }
            return ("\(found.state)" == value, "\(found.state)")
        }
    }

    private func compareEntry(_ value: String, _ entry: LogEntry?) -> (Bool, String) {
        guard let entry = entry else { return (value == "none", "none") }
        let data = ScenarioData.text(of: entry)
        let found = "\(entry.term.rawValue)/\(data)"
        guard value != "none", let expected = ExpectedValue.entry(value), expected.term == entry.term else {
            return (false, found)
        }
        guard let wanted = expected.data else { return (true, found) }
        if entry.kind != .membership { return (wanted == data || (data.isEmpty && wanted == "none"), found) }
        // A change may be written with spaces, or left out: what it is shows in the type.
        let isSame = wanted.split { $0 == "," || $0 == " " } == data.split(separator: ",")
        return (wanted.isEmpty || isSame, found)
    }

    private func compareType(_ value: String, _ entry: LogEntry?) -> (Bool, String) {
        guard let entry = entry else { return (value == "none", "none") }
        let isSame = ExpectedValue.entryKinds(value)?.contains(entry.kind) ?? false
        return (isSame, entry.kind == .membership ? "conf-change" : "normal")
    }
}
