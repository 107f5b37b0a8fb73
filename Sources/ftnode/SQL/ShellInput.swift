/// Gathers typed lines into statements and commands of the shell.
///
/// A statement ends with a semicolon outside of quotes and comments; a command begins with a backslash where a statement could begin, and
/// is one line.
struct ShellInput {
    /// What is complete.
    enum Item: Equatable, Sendable {
        case statement(String)
        /// Without the backslash: its word and what follows, split at spaces.
        case command(String, [String])
    }

    /// What the text so far is in the middle of.
    enum Middle: Equatable, Sendable {
        case nothing
        case statement
        case text
        case name
        case comment
        case dollars
    }

    private var text = ""

    /// What the lines so far leave open; the prompt shows it.
    var middle: Middle { Self.scan(self.text).middle }

    /// What was typed and has not ended yet.
    var pending: String { self.text }

    /// Forgets what has not ended.
    mutating func clear() { self.text = "" }

    /// Takes one line, without its line feed; returns what it completes.
    mutating func add(_ line: String) -> [Item] {
        if Self.isBlank(self.text) {
            let trimmed = line.drop { $0 == " " || $0 == "\t" }
            if trimmed.first == "\\" {
                self.text = ""
                let words = trimmed.dropFirst().split(whereSeparator: { $0 == " " || $0 == "\t" }).map(String.init)
                return [.command(words.first ?? "", Array(words.dropFirst()))]
            }
        }
        self.text += self.text.isEmpty ? line : "\n" + line
        let scan = Self.scan(self.text)
        guard let last = scan.ends.last else {
            if Self.isBlank(self.text) { self.text = "" }
            return []
        }
        var items: [Item] = []
        var start = self.text.startIndex
        for end in scan.ends {
            let statement = Self.trimmed(self.text[start..<end])
            if !Self.isBlank(String(statement)) { items.append(.statement(String(statement))) }
            start = self.text.index(after: end)
        }
        self.text = String(Self.trimmed(self.text[self.text.index(after: last)...]))
        return items
    }

    /// What is left at the end of the input, if it is a statement: the last one needs no semicolon there.
    mutating func finish() -> Item? {
        defer { self.text = "" }
        let rest = String(Self.trimmed(self.text[...]))
        return Self.isBlank(rest) ? nil : .statement(rest)
    }

    private static func trimmed(_ text: Substring) -> Substring {
        var text = text.drop { $0.isWhitespace }
        while text.last?.isWhitespace == true { text.removeLast() }
        return text
    }

    /// Whether there is nothing but spaces and comments.
    private static func isBlank(_ text: String) -> Bool {
        let scan = self.scan(text)
        return scan.middle == .nothing && scan.ends.isEmpty
    }

    /// The semicolons that end statements, and what the end of `text` is in the middle of.
    private static func scan(_ text: String) -> (ends: [String.Index], middle: Middle) {
        var ends: [String.Index] = []
        var hasWords = false
        var place = text.startIndex
        while place < text.endIndex {
            let rest = text[place...]
            if rest.hasPrefix("--") {
                guard let line = rest.firstIndex(of: "\n") else { return (ends, hasWords ? .statement : .nothing) }
                place = line
                continue
            }
            if rest.hasPrefix("/*") {
                guard let after = Self.end(of: "*/", in: rest.dropFirst(2)) else { return (ends, .comment) }
                place = after
                continue
            }
            switch rest.first {
            case ";":
                ends.append(place)
                hasWords = false
                place = text.index(after: place)
                continue
            case "'", "\"":
                let quote = rest.first == "'" ? "'" : "\""
                guard let after = Self.end(of: quote, in: rest.dropFirst()) else {
                    return (ends, quote == "'" ? .text : .name)
                }
                hasWords = true
                place = after
                continue
            case "$":
                if let tag = Self.dollarTag(rest) {
                    guard let after = Self.end(of: tag, in: rest.dropFirst(tag.count)) else { return (ends, .dollars) }
                    hasWords = true
                    place = after
                    continue
                }
            default: break
            }
            if rest.first?.isWhitespace == false { hasWords = true }
            place = text.index(after: place)
        }
        return (ends, hasWords ? .statement : .nothing)
    }

    /// The place after the next `mark`; nil when there is none. A doubled quote ends a text and begins the next, which
    /// is as good.
    private static func end(of mark: String, in text: Substring) -> String.Index? {
        text.firstRange(of: mark)?.upperBound
    }

    /// `$$` or `$word$` at the beginning.
    private static func dollarTag(_ text: Substring) -> String? {
        guard let close = text.dropFirst().firstIndex(of: "$") else { return nil }
        let word = text[text.index(after: text.startIndex)..<close]
        guard word.allSatisfy({ $0.isLetter || $0.isNumber || $0 == "_" }), word.first?.isNumber != true else {
            return nil
        }
        return String(text[...close])
    }
}
