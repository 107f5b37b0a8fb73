internal import Primitives
internal import QueryRouter

// How a search's texts travel between processes and nodes: the condition, then the first and the last sequence, 0 for none. A
// program that does not know the kind of a condition or a column refuses the bytes.
extension TextSearch {
    /// Deepest nesting of conditions.
    static let depthMax = 8
    /// Most parts of one condition.
    static let partsMax = 256

    private enum Kind: UInt8 {
        case anything = 0
        case contains = 1
        case equals = 2
        case all = 3
        case any = 4
    }

    func encoded() -> [UInt8] {
        var writer = ByteWriter()
        Self.write(self.condition, to: &writer)
        writer.write(self.first?.rawValue ?? 0)
        writer.write(self.last?.rawValue ?? 0)
        return writer.bytes
    }

    private static func write(_ condition: Condition, to writer: inout ByteWriter) {
        switch condition {
        case .anything: writer.write(Kind.anything.rawValue)
        case .contains(let column, let text):
            writer.write(Kind.contains.rawValue)
            writer.write(column.rawValue)
            writer.write(prefixed: text)
        case .equals(let column, let text):
            writer.write(Kind.equals.rawValue)
            writer.write(column.rawValue)
            writer.write(prefixed: text)
        case .all(let parts): self.write(.all, parts, to: &writer)
        case .any(let parts): self.write(.any, parts, to: &writer)
        }
    }

    private static func write(_ kind: Kind, _ parts: [Condition], to writer: inout ByteWriter) {
        writer.write(kind.rawValue)
        writer.write(UInt32(parts.count))
        for part in parts { self.write(part, to: &writer) }
    }

    /// - Throws: ``MalformedBytes``.
    init(encoded bytes: [UInt8]) throws(MalformedBytes) {
        var reader = ByteReader(bytes)
        let condition = try Self.read(&reader, depth: 0)
        let first = try reader.read(UInt64.self)
        let last = try reader.read(UInt64.self)
        try reader.finish("texts of a search")
        self.init(
            condition,
            first: first == 0 ? nil : SequenceNumber(first),
            last: last == 0 ? nil : SequenceNumber(last)
        )
    }

    private static func read(_ reader: inout ByteReader, depth: Int) throws(MalformedBytes) -> Condition {
        guard depth <= self.depthMax, let kind = Kind(rawValue: try reader.read(UInt8.self)) else {
            throw MalformedBytes(what: "condition", offset: reader.offset)
        }
        switch kind {
        case .anything: return .anything
        case .contains:
            let column = try self.column(&reader)
            return .contains(column, try reader.readPrefixedText())
        case .equals:
            let column = try self.column(&reader)
            return .equals(column, try reader.readPrefixedText())
        case .all, .any:
            let count = try reader.read(UInt32.self)
            guard count <= self.partsMax else { throw MalformedBytes(what: "condition", offset: reader.offset) }
            var parts: [Condition] = []
            for _ in 0..<count { parts.append(try self.read(&reader, depth: depth + 1)) }
            return kind == .all ? .all(parts) : .any(parts)
        }
    }

    private static func column(_ reader: inout ByteReader) throws(MalformedBytes) -> Column {
        guard let column = Column(rawValue: try reader.read(UInt8.self)) else {
            throw MalformedBytes(what: "column", offset: reader.offset)
        }
        return column
    }
}
