/// A table for a terminal: aligned columns, a heading, no lines drawn.
package struct TextTable: Sendable {
    /// On which side of its column a cell stands.
    package enum Alignment: Sendable {
        case left
        case right
    }

    private let columns: [String]
    private let alignments: [Alignment]
    private var rows: [[String]] = []

    /// - Parameter right: The columns, by index, whose cells stand at the right.
    package init(columns: [String], right: Set<Int> = []) {
        self.columns = columns
        self.alignments = columns.indices.map { right.contains($0) ? .right : .left }
    }

    package var isEmpty: Bool { self.rows.isEmpty }

    /// Adds a row; missing cells are empty, control characters are made visible.
    package mutating func append(_ cells: [String]) {
        self.rows.append(self.columns.indices.map { $0 < cells.count ? Self.printable(cells[$0]) : "" })
    }

    /// The lines, each ended by a line feed, without spaces at their ends.
    package func rendered() -> String {
        let headings = self.columns.map { $0.uppercased() }
        let widths = self.columns.indices.map { column in
            ([headings] + self.rows).reduce(0) { max($0, $1[column].count) }
        }
        var text = ""
        for row in [headings] + self.rows {
            var line = ""
            for (column, cell) in row.enumerated() {
                let padding = String(repeating: " ", count: widths[column] - cell.count)
                if column > 0 { line += "  " }
                line += self.alignments[column] == .right ? padding + cell : cell + padding
            }
            while line.last == " " { line.removeLast() }
            text += line + "\n"
        }
        return text
    }

    /// `text` with control characters as escapes, so that data cannot move a terminal's cursor.
    package static func printable(_ text: String) -> String {
        guard text.unicodeScalars.contains(where: Self.isControl) else { return text }
        var result = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\n": result += "\\n"
            case "\r": result += "\\r"
            case "\t": result += "\\t"
            case _ where Self.isControl(scalar):
                let digits = String(scalar.value, radix: 16)
                result += "\\u" + String(repeating: "0", count: max(0, 4 - digits.count)) + digits
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result
    }

    private static func isControl(_ scalar: Unicode.Scalar) -> Bool {
        scalar.value < 0x20 || (0x7F...0x9F).contains(scalar.value)
            || (0x202A...0x202E).contains(scalar.value) || (0x2066...0x2069).contains(scalar.value)
    }
}
