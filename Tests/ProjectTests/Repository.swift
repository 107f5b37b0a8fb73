internal import Foundation

/// The checkout that these tests belong to.
enum Repository {
    static let root = URL(fileURLWithPath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

    static func text(_ path: String) throws -> String {
        try String(contentsOf: Self.root.appendingPathComponent(path), encoding: .utf8)
    }

    static func exists(_ path: String) -> Bool {
        FileManager.default.fileExists(atPath: Self.root.appendingPathComponent(path).path)
    }

    /// Files below `folder` with a name that ends so, as paths from the root, sorted.
    static func files(below folder: String, ending suffix: String) throws -> [String] {
        try FileManager.default.subpathsOfDirectory(atPath: Self.root.appendingPathComponent(folder).path)
            .filter { $0.hasSuffix(suffix) && !$0.contains(".build/") }
            .map { folder + "/" + $0 }
            .sorted()
    }

    /// All documents for people.
    static func documents() throws -> [String] {
        try ["README.md", "CONTRIBUTING.md"] + self.files(below: "Documentation", ending: ".md")
            + self.files(below: "cluster-configs", ending: ".md")
    }
}

extension String {
    /// What the group of `pattern` matched, everywhere in this text.
    func matches(_ pattern: String) throws -> [String] {
        let expression = try NSRegularExpression(pattern: pattern, options: [.anchorsMatchLines])
        let whole = NSRange(self.startIndex..., in: self)
        return expression.matches(in: self, range: whole).compactMap { match in
            Range(match.range(at: 1), in: self).map { String(self[$0]) }
        }
    }
}
