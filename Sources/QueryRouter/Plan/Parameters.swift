internal import Columnar

/// Parameters of a statement in its tree.
enum Parameters {
    /// The tree with the parameters in `open` (from 0) cast to text.
    static func castingToText(_ node: SyntaxNode, open: Set<Int>) -> SyntaxNode {
        node.mapping { node in
            guard node.text("class") == "PARAMETER", let number = Int(node.text("identifier")),
                open.contains(number - 1)
            else { return nil }
            let alias = node.text("alias").isEmpty ? "$\(number)" : node.text("alias")
            return SyntaxNode.cast(node.setting("alias", .string("")), to: "VARCHAR", alias: alias)
        }
    }
}
