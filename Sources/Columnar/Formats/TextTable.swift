/// Lays rows out in columns for a terminal.
///
/// The widths follow the first rows; later rows are fitted to them. Control characters become visible signs, so that
/// stored text cannot steer the terminal.
struct TextTable: Sendable {
    /// What is drawn around the cells.
    enum Look: Sendable {
        /// A line below the names.
        case plain
        /// A frame.
        case box
        /// Pipes, for Markdown; cells are never cut.
        case markdown
    }

    /// Rows that decide the widths.
    private static let sampleRowsMax = 1_000

    private let schema: ArrowSchema
    private let cellWidthMax: Int
    private let look: Look
    private var sample: [[String]] = []
    private var widths: [Int]?
    private var rows = 0

    init(schema: ArrowSchema, cellWidthMax: Int, look: Look = .plain) {
        self.schema = schema
        self.cellWidthMax = look == .markdown ? Int.max : max(4, cellWidthMax)
        self.look = look
    }

    mutating func encode(_ batch: ArrowRecordBatch) -> [UInt8] {
        var text = ""
        for row in 0..<batch.rowCount {
            self.rows += 1
            let cells = batch.columns.map { column -> String in
                guard !column.isNull(row) else { return "NULL" }
                var bytes: [UInt8] = []
                column.appendPlain(row, to: &bytes)
                return self.cell(String(decoding: bytes, as: UTF8.self))
            }
            if let widths = self.widths {
                text += self.line(cells, widths)
            } else {
                self.sample.append(cells)
                if self.sample.count >= Self.sampleRowsMax { text += self.flushSample() }
            }
        }
        return Array(text.utf8)
    }

    mutating func finish() -> [UInt8] {
        var text = self.widths == nil ? self.flushSample() : ""
        if self.look == .box, let widths = self.widths { text += Self.rule(widths, "└", "┴", "┘") }
        if self.look == .markdown { return Array(text.utf8) }
        text += "(\(self.rows) row\(self.rows == 1 ? "" : "s"))\n"
        return Array(text.utf8)
    }

    private mutating func flushSample() -> String {
        let names = self.schema.fields.map { self.cell($0.name) }
        var widths = names.map { min(self.cellWidthMax, displayWidth($0)) }
        for cells in self.sample {
            for (index, cell) in cells.enumerated() {
                widths[index] = max(widths[index], min(self.cellWidthMax, displayWidth(cell)))
            }
        }
        self.widths = widths
        var text = self.look == .box ? Self.rule(widths, "┌", "┬", "┐") : ""
        text += self.line(names, widths, isHeader: true)
        switch self.look {
        case .plain: text += Self.rule(widths, "", "┼", "")
        case .box: text += Self.rule(widths, "├", "┼", "┤")
        case .markdown:
            let marks = self.schema.fields.map { $0.type.isNumber ? " ---: " : " --- " }
            text += "|" + marks.joined(separator: "|") + "|\n"
        }
        for cells in self.sample { text += self.line(cells, widths) }
        self.sample = []
        return text
    }

    private static func rule(_ widths: [Int], _ left: String, _ middle: String, _ right: String) -> String {
        left + widths.map { String(repeating: "─", count: $0 + 2) }.joined(separator: middle) + right + "\n"
    }

    /// A text as it stands in a cell.
    private func cell(_ text: String) -> String {
        let shown = visible(text)
        return self.look == .markdown ? shown.replacing("\\", with: "\\\\").replacing("|", with: "\\|") : shown
    }

    private func line(_ cells: [String], _ widths: [Int], isHeader: Bool = false) -> String {
        if self.look == .markdown { return "| " + cells.joined(separator: " | ") + " |\n" }
        var parts: [String] = []
        for (index, cell) in cells.enumerated() {
            let fitted = fit(cell, widths[index])
            let padding = String(repeating: " ", count: widths[index] - displayWidth(fitted))
            let isRight = self.schema.fields[index].type.isNumber && !isHeader
            parts.append(isRight ? " " + padding + fitted + " " : " " + fitted + padding + " ")
        }
        var line = parts.joined(separator: "│")
        if self.look == .box { return "│" + line + "│\n" }
        while line.hasSuffix(" ") { line.removeLast() }
        return line + "\n"
    }
}

extension ArrowType {
    var isNumber: Bool {
        switch self {
        case .int8, .int16, .int32, .int64, .uint8, .uint16, .uint32, .uint64, .float32, .float64, .decimal128: true
        default: false
        }
    }
}

/// Replaces control characters by the signs that depict them.
private func visible(_ text: String) -> String {
    guard text.unicodeScalars.contains(where: { isControl($0) }) else { return text }
    var result = String.UnicodeScalarView()
    for scalar in text.unicodeScalars {
        if !isControl(scalar) {
            result.append(scalar)
        } else if scalar.value < 0x20, let sign = Unicode.Scalar(0x2400 + scalar.value) {
            result.append(sign)
        } else {
            result.append("\u{FFFD}")
        }
    }
    return String(result)
}

/// C0, C1, delete, and the characters that reverse the direction of what follows.
private func isControl(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.value {
    case 0..<0x20, 0x7F..<0xA0, 0x200E...0x200F, 0x2028...0x202E, 0x2066...0x2069: true
    default: false
    }
}

/// Cuts a text to a width; a cut one ends with an ellipsis.
private func fit(_ text: String, _ width: Int) -> String {
    guard displayWidth(text) > width else { return text }
    var result = ""
    var used = 0
    for character in text {
        let next = characterWidth(character)
        if used + next > width - 1 { break }
        result.append(character)
        used += next
    }
    return result + "…"
}

/// Columns of a terminal that a text takes.
func displayWidth(_ text: String) -> Int {
    text.reduce(0) { $0 + characterWidth($1) }
}

/// 0 for marks that join the character before, 2 for wide East Asian characters and emoji, otherwise 1.
private func characterWidth(_ character: Character) -> Int {
    guard let first = character.unicodeScalars.first else { return 0 }
    switch first.properties.generalCategory {
    case .nonspacingMark, .enclosingMark, .format: return 0
    default: break
    }
    switch first.value {
    case 0x1100...0x115F, 0x2E80...0x303E, 0x3041...0xA4CF, 0xAC00...0xD7A3, 0xF900...0xFAFF, 0xFE30...0xFE6F,
        0xFF00...0xFF60, 0xFFE0...0xFFE6, 0x1F300...0x1F64F, 0x1F680...0x1F6FF, 0x1F900...0x1F9FF,
        0x20000...0x3FFFD:
        return 2
    default: return 1
    }
}
