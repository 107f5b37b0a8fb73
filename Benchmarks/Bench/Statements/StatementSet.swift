internal import Foundation

/// A named statement of a file.
struct NamedStatement: Sendable, Equatable {
    /// The file without its ending.
    var set: String
    var name: String
    var sql: String

    /// The statements of the folder's `.sql` files: `-- name: …`, then the statement up to a semicolon at the end of a line.
    static func read(folder: String) throws -> [NamedStatement] {
        let files = try FileManager.default.contentsOfDirectory(atPath: folder).filter { $0.hasSuffix(".sql") }.sorted()
        var statements: [NamedStatement] = []
        for file in files {
            let text = try String(contentsOfFile: folder + "/" + file, encoding: .utf8)
            statements += try self.parse(text, set: String(file.dropLast(".sql".count)))
        }
        guard !statements.isEmpty else { throw BenchError(.badInput, "no statements in \(folder)") }
        return statements
    }

    static func parse(_ text: String, set: String) throws -> [NamedStatement] {
        var statements: [NamedStatement] = []
        var name: String?
        var lines: [Substring] = []
        for line in text.split(separator: "\n") {
            if line.hasPrefix("-- name: ") {
                name = String(line.dropFirst("-- name: ".count))
            } else if !line.hasPrefix("--") {
                lines.append(line)
                guard line.hasSuffix(";") else { continue }
                guard let named = name else {
                    throw BenchError(.badInput, "a statement of \(set) has no name: \(line)")
                }
                statements.append(
                    NamedStatement(set: set, name: named, sql: String(lines.joined(separator: "\n").dropLast()))
                )
                (name, lines) = (nil, [])
            }
        }
        guard name == nil, lines.isEmpty else { throw BenchError(.badInput, "the end of \(set) is missing") }
        return statements
    }
}

/// The rows of an answer as CSV, for comparison in any order.
struct AnswerRows: Sendable {
    private let header: String
    private let rows: [[String]]

    init(csv: some Collection<UInt8>) {
        let lines = String(decoding: csv, as: UTF8.self).split(whereSeparator: \.isNewline).map(String.init)
        self.header = lines.first ?? ""
        self.rows = lines.dropFirst().map { line in
            line.split(separator: ",", omittingEmptySubsequences: false).map(String.init)
        }.sorted { Self.key($0).lexicographicallyPrecedes(Self.key($1)) }
    }

    var count: Int { self.rows.count }

    /// The first place where the answers part, nil when they are equal. Numbers may part in the tenth digit.
    func difference(from other: AnswerRows) -> String? {
        if self.header != other.header { return "columns '\(self.header)' against '\(other.header)'" }
        if self.rows.count != other.rows.count { return "\(self.rows.count) rows against \(other.rows.count)" }
        for (left, right) in zip(self.rows, other.rows) {
            let isSame = left.count == right.count && zip(left, right).allSatisfy(Self.isSame)
            if !isSame { return "'\(left.joined(separator: ","))' against '\(right.joined(separator: ","))'" }
        }
        return nil
    }

    private static func isSame(_ left: String, _ right: String) -> Bool {
        if left == right { return true }
        guard let one = Double(left), let other = Double(right) else { return false }
        return abs(one - other) <= 1e-9 * max(1, abs(one), abs(other))
    }

    /// Sums of doubles hang on their order: rows are sorted by what does not.
    private static func key(_ row: [String]) -> [String] {
        row.map { cell in
            guard cell.contains("."), let number = Double(cell) else { return cell }
            return String(format: "%.5e", number)
        }
    }
}
