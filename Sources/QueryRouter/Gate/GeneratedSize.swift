internal import Foundation

/// Bounds what a statement can make out of nothing, as far as its literals tell.
///
/// The engine does not count the memory of single values (DuckDB 2.0.0: a list of 10^9 numbers is built
/// whatever the memory limit says), so lists and texts that a literal makes too long are refused beforehand. Sizes
/// that depend on data are left to the engine's limits.
enum GeneratedSize {
    /// The longest list or text that one call may make.
    static let elementsMax: Double = 1_000_000
    /// The most rows that a table function may make.
    static let rowsMax: Double = 100_000_000
    /// Nested calls multiply; together they may make this many elements.
    static let nestedElementsMax: Double = 10_000_000

    static func checkTable(_ function: SyntaxNode, name: String, at position: Int?) throws {
        guard let count = Self.elements(function, name: name), count > Self.rowsMax else { return }
        throw Self.tooLarge(name, count, Self.rowsMax, at: position)
    }

    static func checkScalar(_ function: SyntaxNode, name: String) throws {
        guard let count = Self.elements(function, name: name) else { return }
        guard count <= Self.elementsMax else {
            throw Self.tooLarge(name, count, Self.elementsMax, at: function.location)
        }
        let product = Self.product(function, depth: 0)
        guard product <= Self.nestedElementsMax else {
            throw Self.tooLarge(name, product, Self.nestedElementsMax, at: function.location)
        }
    }

    private static func tooLarge(_ name: String, _ count: Double, _ limit: Double, at position: Int?) -> QueryError {
        let shown = count < 1e15 ? String(Int(count)) : "\(count)"
        return QueryError(
            .tooLarge,
            "\(name) would make \(shown) elements; \(Int(limit)) are allowed",
            position: position,
            names: [name]
        )
    }

    /// The elements that a call makes if its literals tell; nil when it is not a maker or when they do not.
    private static func elements(_ function: SyntaxNode, name: String) -> Double? {
        let arguments = function.list("arguments").compactMap { $0.node("expression") }
        switch name {
        case "range", "generate_series":
            guard let first = arguments.first.flatMap(Self.number) else { return nil }
            guard arguments.count > 1 else { return max(0, first) }
            guard let last = Self.number(arguments[1]) else { return nil }
            let step = arguments.count > 2 ? Self.number(arguments[2]) : 1
            guard let step, step != 0 else { return nil }
            return max(0, ((last - first) / step).rounded(.up))
        case "repeat", "lpad", "rpad", "list_resize", "array_resize":
            return arguments.count > 1 ? Self.number(arguments[1]).map { max(0, $0) } : nil
        default: return nil
        }
    }

    /// The elements of a call times those of the calls in its arguments, along the worst path.
    private static func product(_ node: SyntaxNode, depth: Int) -> Double {
        guard depth < StatementGate.depthMax, node.text("class") == "FUNCTION" else { return 1 }
        let own = max(1, Self.elements(node, name: node.text("function_name").lowercased()) ?? 1)
        let inner = node.list("arguments").map { argument in
            argument.node("expression").map { Self.product($0, depth: depth + 1) } ?? 1
        }
        return own * (inner.max() ?? 1)
    }

    /// The value of a number that the text gives: a literal, its negative, or plain arithmetic of such.
    private static func number(_ node: SyntaxNode) -> Double? { Self.number(node, depth: 0) }

    private static func number(_ node: SyntaxNode, depth: Int) -> Double? {
        guard depth < StatementGate.depthMax else { return nil }
        switch node.text("class") {
        case "CONSTANT":
            guard let literal = node.node("literal"), ["INTEGER", "NUMERIC"].contains(literal.text("kind")) else {
                return nil
            }
            return Double(literal.text("text"))
        case "CAST": return node.node("child").flatMap { Self.number($0, depth: depth + 1) }
        case "FUNCTION":
            let values = node.list("arguments").map { argument in
                argument.node("expression").flatMap { Self.number($0, depth: depth + 1) }
            }
            if values.count == 1, let value = values[0] { return Self.unary(node.text("function_name"), value) }
            guard values.count == 2, let left = values[0], let right = values[1] else { return nil }
            return Self.binary(node.text("function_name"), left, right)
        default: return nil
        }
    }

    private static func unary(_ name: String, _ value: Double) -> Double? {
        switch name {
        case "-": -value
        case "+", "trunc", "round", "floor", "ceil": value
        case "exp": exp(value)
        default: nil
        }
    }

    private static func binary(_ name: String, _ left: Double, _ right: Double) -> Double? {
        switch name {
        case "+": left + right
        case "-": left - right
        case "*": left * right
        case "/", "//": right == 0 ? nil : left / right
        case "**", "^", "pow", "power": pow(left, right)
        case "<<": left * pow(2, right)
        default: nil
        }
    }
}
