internal import Columnar

/// Pieces of the router's own statements.
enum SQLText {
    /// An identifier, whatever characters it holds.
    static func quoted(_ name: String) -> String { self.doubling(UInt8(ascii: "\""), in: name) }

    /// A text as a literal, whatever characters it holds.
    static func literal(_ text: String) -> String { self.doubling(UInt8(ascii: "'"), in: text) }

    /// By bytes: a quote and an accent behind it are one character for Swift, and two for the engine.
    private static func doubling(_ quote: UInt8, in text: String) -> String {
        var bytes: [UInt8] = [quote]
        for byte in text.utf8 {
            if byte == quote { bytes.append(quote) }
            bytes.append(byte)
        }
        bytes.append(quote)
        return String(decoding: bytes, as: UTF8.self)
    }

    /// An organization's columns in the shape of the catalog's.
    static func adapted(_ columns: [ColumnDefinition], from own: TableSchema) -> String {
        let types = Dictionary(
            own.columns.map { ($0.name.lowercased(), $0.type) },
            uniquingKeysWith: { first, _ in first }
        )
        return columns.map { column in
            let name = self.quoted(column.name)
            switch types[column.name.lowercased()] {
            case column.type?: return name
            case .some: return "CAST(\(name) AS \(column.type.sqlName)) AS \(name)"
            case nil: return "CAST(NULL AS \(column.type.sqlName)) AS \(name)"
            }
        }.joined(separator: ", ")
    }
}
