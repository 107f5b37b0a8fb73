internal import Primitives

/// Reads the arguments of one step in the form that its command wants.
struct ScenarioReader {
    let step: ScenarioStep
    let file: String

    func error(_ code: ScenarioError.Code, _ message: String) -> ScenarioError {
        ScenarioError(code: code, file: self.file, line: self.step.line, message: message)
    }

    /// Refuses options that are not in `keys`.
    func allow(_ keys: Set<String>) throws {
        for option in self.step.options where option.key != "may-fail" && !keys.contains(option.key) {
            throw self.error(.unknownArgument, "\"\(self.step.command.rawValue)\" has no argument \"\(option.key)\"")
        }
    }

    func text(_ key: String) throws -> String {
        guard let value = self.step.option(key) else {
            throw self.error(.badArgument, "\"\(self.step.command.rawValue)\" needs \(key)=")
        }
        return value
    }

    /// A number from zero to the limit of what one command may ask for.
    func count(_ key: String) throws -> Int? {
        guard let value = self.step.option(key) else { return nil }
        guard let count = Int(value), count >= 0, count <= ScenarioLimits.countMax else {
            throw self.error(.badArgument, "\(key) is a number, not \"\(value)\"")
        }
        return count
    }

    func truth(_ key: String) throws -> Bool? {
        guard let value = self.step.option(key) else { return nil }
        guard value == "true" || value == "false" else {
            throw self.error(.badArgument, "\(key) is true or false, not \"\(value)\"")
        }
        return value == "true"
    }

    func node(_ key: String) throws -> NodeID? {
        guard let value = self.step.option(key) else { return nil }
        return try self.node(text: value)
    }

    func node(text: String) throws -> NodeID {
        guard let value = UInt64(text), value > 0 else {
            throw self.error(.badArgument, "a node is a number from 1, not \"\(text)\"")
        }
        return NodeID(value)
    }

    func nodes(_ key: String) throws -> [NodeID]? {
        guard let value = self.step.option(key) else { return nil }
        guard let nodes = ExpectedValue.nodes(value) else {
            throw self.error(.badArgument, "\(key) is a list of nodes, not \"\(value)\"")
        }
        guard nodes.count <= ScenarioLimits.nodesMax, Set(nodes).count == nodes.count else {
            throw self.error(.badArgument, "\(key) names a node twice or too many")
        }
        return nodes
    }

    func index(text: String) throws -> LogIndex {
        guard let value = UInt64(text) else {
            throw self.error(.badArgument, "an index is a number, not \"\(text)\"")
        }
        return LogIndex(value)
    }

    /// The messages that `from`, `to`, `type`, `term`, `reject`, `count` and `local` mean.
    func filter() throws -> FlightFilter {
        var filter = FlightFilter()
        filter.from = try self.nodes("from").map { Set($0) }
        filter.to = try self.nodes("to").map { Set($0) }
        if let value = self.step.option("type") {
            var kinds: Set<FlightKind> = []
            for name in value.split(separator: ",") {
                guard let kind = FlightKind(named: String(name)) else {
                    throw self.error(.badArgument, "unknown message type \"\(name)\"")
                }
                kinds.insert(kind)
            }
            filter.kinds = kinds
        }
        filter.term = try self.count("term").map { Term(UInt64($0)) }
        filter.isRejection = try self.truth("reject")
        filter.count = try self.count("count")
        filter.isLocalIncluded = try self.truth("local") ?? false
        return filter
    }
}
