/// One value of the syntax tree that DuckDB's parser prints as JSON; the order of members is kept.
///
/// The format is DuckDB's own and changes with its version (2.0.0 here): only ``StatementGate`` and the
/// planner know it.
enum SyntaxNode: Sendable, Hashable {
    struct Member: Sendable, Hashable {
        var key: String
        var value: SyntaxNode
    }

    case null
    case bool(Bool)
    /// The digits as printed: locations reach 2^64 - 1.
    case number(String)
    case string(String)
    case array([SyntaxNode])
    case object([Member])

    /// The member called `key`, or nil; of several, the first.
    subscript(key: String) -> SyntaxNode? {
        guard case .object(let members) = self else { return nil }
        for member in members where member.key == key { return member.value }
        return nil
    }

    var text: String? {
        if case .string(let text) = self { text } else { nil }
    }

    /// The elements of an array, and none for anything else.
    var elements: [SyntaxNode] {
        if case .array(let elements) = self { elements } else { [] }
    }

    var isTrue: Bool { self == .bool(true) }

    /// The text of a string member; empty when it is missing.
    func text(_ key: String) -> String { self[key]?.text ?? "" }

    /// The elements of an array member.
    func list(_ key: String) -> [SyntaxNode] { self[key]?.elements ?? [] }

    /// An object member, or nil when it is missing or null.
    func node(_ key: String) -> SyntaxNode? {
        if let value = self[key], case .object = value { value } else { nil }
    }

    /// UTF-8 offset in the statement; nil for nodes that the parser made up.
    var location: Int? {
        guard case .number(let digits)? = self["query_location"] else { return nil }
        return Int(digits)
    }

    /// The node with the member `key` set to `value`.
    func setting(_ key: String, _ value: SyntaxNode) -> SyntaxNode {
        guard case .object(var members) = self else { return self }
        if let index = members.firstIndex(where: { $0.key == key }) {
            members[index].value = value
        } else {
            members.append(Member(key: key, value: value))
        }
        return .object(members)
    }

    static func object(_ members: KeyValuePairs<String, SyntaxNode>) -> SyntaxNode {
        .object(members.map { Member(key: $0.key, value: $0.value) })
    }
}

extension SyntaxNode {
    /// The tree as JSON, for DuckDB to turn into SQL again.
    var json: String {
        var bytes: [UInt8] = []
        self.appendJSON(to: &bytes)
        return String(decoding: bytes, as: UTF8.self)
    }

    private func appendJSON(to bytes: inout [UInt8]) {
        switch self {
        case .null: bytes.append(contentsOf: "null".utf8)
        case .bool(let value): bytes.append(contentsOf: (value ? "true" : "false").utf8)
        case .number(let digits): bytes.append(contentsOf: digits.utf8)
        case .string(let text): Self.appendJSON(text, to: &bytes)
        case .array(let elements):
            bytes.append(UInt8(ascii: "["))
            for (index, element) in elements.enumerated() {
                if index > 0 { bytes.append(UInt8(ascii: ",")) }
                element.appendJSON(to: &bytes)
            }
            bytes.append(UInt8(ascii: "]"))
        case .object(let members):
            bytes.append(UInt8(ascii: "{"))
            for (index, member) in members.enumerated() {
                if index > 0 { bytes.append(UInt8(ascii: ",")) }
                Self.appendJSON(member.key, to: &bytes)
                bytes.append(UInt8(ascii: ":"))
                member.value.appendJSON(to: &bytes)
            }
            bytes.append(UInt8(ascii: "}"))
        }
    }

    private static func appendJSON(_ text: String, to bytes: inout [UInt8]) {
        let digits = Array("0123456789abcdef".utf8)
        bytes.append(UInt8(ascii: "\""))
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "\""), UInt8(ascii: "\\"):
                bytes.append(UInt8(ascii: "\\"))
                bytes.append(byte)
            case 0..<0x20:
                bytes.append(contentsOf: "\\u00".utf8)
                bytes.append(digits[Int(byte >> 4)])
                bytes.append(digits[Int(byte & 0x0F)])
            default: bytes.append(byte)
            }
        }
        bytes.append(UInt8(ascii: "\""))
    }
}
