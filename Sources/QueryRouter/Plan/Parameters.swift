internal import Columnar

/// Parameters of a statement in its tree.
enum Parameters {
    /// The tree with parameters (from 0) cast to types of the engine.
    static func casting(_ node: SyntaxNode, to types: [Int: String]) -> SyntaxNode {
        node.mapping { node in
            guard let place = self.place(node), let type = types[place] else { return nil }
            let alias = node.text("alias").isEmpty ? "$\(place + 1)" : node.text("alias")
            return SyntaxNode.cast(node.setting("alias", .string("")), to: type, alias: alias)
        }
    }

    /// Which parameters (from 0) a statement has, ascending.
    static func places(in node: SyntaxNode) -> [Int] {
        var places: Set<Int> = []
        _ = node.mapping { node in
            if let place = self.place(node) { places.insert(place) }
            return nil
        }
        return places.sorted()
    }

    /// The tree with values of known types in place of parameters; nil when a value has no such form.
    static func substituting(_ values: [ArrowValue], in node: SyntaxNode) -> SyntaxNode? {
        var isComplete = true
        let result = node.mapping { node in
            guard let place = self.place(node) else { return nil }
            guard place < values.count, let literal = self.literal(values[place]) else {
                isComplete = false
                return node
            }
            return literal.setting("alias", .string(node.text("alias")))
        }
        return isComplete ? result : nil
    }

    /// Whether a column of the result has its name from an expression with a parameter in it.
    static func name(_ query: SyntaxNode) -> Bool {
        query.list("select_list").contains { item in
            item.text("alias").isEmpty && item.contains { self.place($0) != nil }
        }
    }

    private static func place(_ node: SyntaxNode) -> Int? {
        guard node.text("class") == "PARAMETER", let number = Int(node.text("identifier")), number > 0 else {
            return nil
        }
        return number - 1
    }

    /// An expression with exactly the value and the type that binding gives.
    private static func literal(_ value: ArrowValue) -> SyntaxNode? {
        switch value {
        case .null: return .nullConstant
        case .bool(let bit): return .cast(.text(bit ? "true" : "false"), to: "BOOLEAN")
        case .int(let number): return .cast(.text(String(number)), to: "BIGINT")
        case .uint(let number): return .cast(.text(String(number)), to: "UBIGINT")
        case .double(let number): return .cast(.text(String(number)), to: "DOUBLE")
        case .string(let text): return .cast(.text(text), to: "VARCHAR")
        case .date(let days):
            let micros = Int64(days) * 86_400_000_000
            return .cast(.call("make_timestamp", [.cast(.text(String(micros)), to: "BIGINT")]), to: "DATE")
        case .timestamp(let time, .microsecond, nil):
            return .call("make_timestamp", [.cast(.text(String(time)), to: "BIGINT")])
        case .decimal, .bytes, .time, .timestamp, .interval, .list, .structure, .map, .union: return nil
        }
    }
}
