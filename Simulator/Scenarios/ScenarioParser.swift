/// Reads the text of a scenario.
///
/// One command a line; `#` starts a comment at the start of a line or after a space; words are separated by spaces and
/// may be put in double quotes.
struct ScenarioParser {
    let file: String

    func parse(_ text: String) throws -> [ScenarioStep] {
        var steps: [ScenarioStep] = []
        var number = 0
        for raw in text.split(separator: "\n", omittingEmptySubsequences: false) {
            number += 1
            let tokens = try self.tokens(of: raw.last == "\r" ? raw.dropLast() : raw, line: number)
            guard let first = tokens.first else { continue }
            guard steps.count < ScenarioLimits.linesMax else {
                throw self.error(.tooLarge, number, "more than \(ScenarioLimits.linesMax) commands")
            }
            guard let command = ScenarioVerb(rawValue: first) else {
                throw self.error(.unknownCommand, number, "unknown command \"\(first)\"")
            }
            steps.append(try self.step(command, tokens: Array(tokens.dropFirst()), line: number))
        }
        return steps
    }

    private func error(_ code: ScenarioError.Code, _ line: Int, _ message: String) -> ScenarioError {
        ScenarioError(code: code, file: self.file, line: line, message: message)
    }

    /// The words of a line without its comment.
    private func tokens(of line: Substring, line number: Int) throws -> [String] {
        var tokens: [String] = []
        var current: String?
        var isQuoted = false
        for character in line {
            if isQuoted {
                if character == "\"" { isQuoted = false } else { current = (current ?? "") + String(character) }
            } else if character == "\"" {
                isQuoted = true
                current = current ?? ""
            } else if character == " " || character == "\t" {
                if let done = current { tokens.append(done) }
                current = nil
            } else if character == "#", current == nil {
                break
            } else {
                current = (current ?? "") + String(character)
            }
        }
        if isQuoted { throw self.error(.badArgument, number, "a quote is not closed") }
        if let done = current { tokens.append(done) }
        guard tokens.count <= ScenarioLimits.wordsMax else {
            throw self.error(.tooLarge, number, "more than \(ScenarioLimits.wordsMax) words")
        }
        return tokens
    }

    private func step(_ command: ScenarioVerb, tokens: [String], line: Int) throws -> ScenarioStep {
        let form = command.form
        var words: [String] = []
        var options: [ScenarioStep.Option] = []
        for token in tokens {
            guard let option = self.option(token),
                !(form.takesData && !words.isEmpty && option.key != "may-fail")
            else {
                words.append(token)
                continue
            }
            try self.check(option, of: command, form: form, line: line)
            options.append(option)
        }
        guard form.words.contains(words.count) else {
            let least = form.words.lowerBound
            let what = words.count < least ? "needs \(least) word\(least == 1 ? "" : "s")" : "has too many words"
            throw self.error(.badArgument, line, "\"\(command.rawValue)\" \(what)")
        }
        for key in form.required.sorted() where !options.contains(where: { $0.key == key }) {
            throw self.error(.badArgument, line, "\"\(command.rawValue)\" needs \(key)=")
        }
        let text = ([command.rawValue] + tokens).joined(separator: " ")
        let step = ScenarioStep(line: line, text: text, command: command, words: words, options: options)
        if command == .expect { _ = try ScenarioExpectation(step, file: self.file) }
        return step
    }

    private func option(_ token: String) -> ScenarioStep.Option? {
        guard let place = token.firstIndex(of: "="), place != token.startIndex else { return nil }
        return ScenarioStep.Option(
            key: String(token[..<place]),
            value: String(token[token.index(after: place)...])
        )
    }

    private func check(
        _ option: ScenarioStep.Option,
        of command: ScenarioVerb,
        form: ScenarioVerb.Form,
        line: Int
    )
        throws
    {
        if option.key == "may-fail" {
            guard option.value == "true" || option.value == "false" else {
                throw self.error(.badArgument, line, "may-fail is true or false, not \"\(option.value)\"")
            }
            return
        }
        guard command == .expect || form.options.contains(option.key) else {
            throw self.error(.unknownArgument, line, "\"\(command.rawValue)\" has no argument \"\(option.key)\"")
        }
    }
}
