internal import Primitives

/// One log line as bytes, without the line feed; pure.
struct LogLine {
    /// The longest value of one field, in characters; what is longer is cut.
    static let valueCharactersMax = 8192

    var time: Timestamp
    var level: String
    var message: String
    /// In the order in which they are written.
    var fields: [(key: String, value: String)]

    /// `TIME LEVEL MESSAGE KEY=VALUE …`; values with spaces, quotes or `=` are quoted as in JSON.
    func text() -> String {
        var line = "\(self.time) \(Self.padded(self.level)) \(Self.singleLine(self.message))"
        for (key, value) in self.fields { line += " \(key)=\(Self.quotedWhereNeeded(Self.cut(value)))" }
        return line
    }

    /// One JSON object: `time`, `level`, `message`, then the fields as texts; a field of those names gets a `_`.
    func json() -> String {
        var line = "{\"time\":\"\(self.time)\",\"level\":\"\(self.level)\",\"message\":"
        JSONText.append(self.message, to: &line)
        var used: Set<String> = ["time", "level", "message"]
        for (key, value) in self.fields {
            var name = key
            while !used.insert(name).inserted { name += "_" }
            line += ","
            JSONText.append(name, to: &line)
            line += ":"
            JSONText.append(Self.cut(value), to: &line)
        }
        return line + "}"
    }

    /// Levels stand in a column: the longest usual one has seven letters.
    private static func padded(_ level: String) -> String {
        level + String(repeating: " ", count: max(0, 7 - level.count))
    }

    private static func cut(_ value: String) -> String {
        value.count > self.valueCharactersMax ? value.prefix(self.valueCharactersMax) + "…" : value
    }

    private static func singleLine(_ text: String) -> String { TextTable.printable(text) }

    private static func quotedWhereNeeded(_ value: String) -> String {
        let isPlain =
            !value.isEmpty
            && value.unicodeScalars.allSatisfy {
                $0.value > 0x20 && $0 != "\"" && $0 != "=" && $0 != "\\" && !(0x7F...0x9F).contains($0.value)
            }
        if isPlain { return value }
        var quoted = ""
        JSONText.append(value, to: &quoted)
        return quoted
    }
}

/// Texts as JSON strings (RFC 8259, section 7).
package enum JSONText {
    /// Appends `text` in quotes; control characters are escaped, everything else stands as it is.
    package static func append(_ text: String, to output: inout String) {
        output += "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": output += "\\\""
            case "\\": output += "\\\\"
            case "\n": output += "\\n"
            case "\r": output += "\\r"
            case "\t": output += "\\t"
            case _
            where scalar.value < 0x20 || (0x7F...0x9F).contains(scalar.value) || scalar.value == 0x2028
                || scalar.value == 0x2029:
                let digits = String(scalar.value, radix: 16)
                output += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            default: output.unicodeScalars.append(scalar)
            }
        }
        output += "\""
    }

    /// `text` as a JSON string.
    package static func quoted(_ text: String) -> String {
        var output = ""
        self.append(text, to: &output)
        return output
    }
}
