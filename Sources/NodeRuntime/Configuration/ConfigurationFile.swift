internal import Foundation
internal import Yams

/// A configuration file as texts with line numbers; knows YAML, and of the keys only which ones exist.
struct ConfigurationFile {
    /// A scalar of the file.
    struct Entry: Equatable {
        var text: String
        var line: Int
        /// True when it was quoted, and so is a text whatever it looks like.
        var isQuoted: Bool
    }

    /// One element of `cluster.nodes` or `witnesses`.
    struct NodeEntry: Equatable {
        var line: Int
        var members: [String: Entry]
    }

    /// The largest file that is read.
    static let bytesMax = 1 << 20
    /// The most nodes a file may name.
    static let nodesMax = 64

    let path: String
    private(set) var entries: [String: Entry] = [:]
    private(set) var nodes: [NodeEntry] = []
    private(set) var witnesses: [NodeEntry] = []
    /// The line of `cluster.nodes`, when it is given.
    private(set) var nodesLine: Int?
    private(set) var problems: [ConfigurationProblem] = []

    /// Reads the file at `path`; what is wrong ends up in `problems`.
    init(path: String) {
        self.path = path
        let bytes: Data
        do {
            bytes = try Data(contentsOf: URL(fileURLWithPath: path))
        } catch {
            self.problems = [
                ConfigurationProblem(.unreadableFile, place: path, "cannot be read: \(FileProblem.reason(error))")
            ]
            return
        }
        guard bytes.count <= Self.bytesMax, let text = String(validating: bytes, as: UTF8.self) else {
            self.problems = [
                ConfigurationProblem(
                    .malformedFile,
                    place: path,
                    "must be UTF-8 text of at most \(Self.bytesMax) bytes"
                )
            ]
            return
        }
        self.parse(text)
    }

    /// Takes `text` as the content of a file at `path`.
    init(path: String, text: String) {
        self.path = path
        self.parse(text)
    }

    private func place(_ line: Int) -> String { "\(self.path):\(line)" }

    private mutating func parse(_ text: String) {
        let root: Yams.Node?
        do {
            root = try Yams.compose(yaml: text)
        } catch {
            let fault = Self.fault(of: error)
            self.problems.append(
                ConfigurationProblem(
                    .malformedFile,
                    place: fault.line.map { self.place($0) } ?? self.path,
                    fault.message
                )
            )
            return
        }
        guard let root else {
            self.problems.append(ConfigurationProblem(.malformedFile, place: self.path, "is empty"))
            return
        }
        guard case .mapping(let sections) = root else {
            self.problems.append(
                ConfigurationProblem(
                    .malformedFile,
                    place: self.place(root.mark?.line ?? 1),
                    "must be a mapping of sections"
                )
            )
            return
        }
        for (name, value) in sections { self.readSection(name, value) }
    }

    private mutating func readSection(_ nameNode: Yams.Node, _ value: Yams.Node) {
        let line = nameNode.mark?.line ?? 1
        let section = nameNode.scalar?.string ?? ""
        if section == ConfigurationKey.witnessesName {
            self.witnesses = self.readList(value, line: line, section, ConfigurationKey.witnessMembers)
            return
        }
        guard ConfigurationKey.sections.contains(section) else {
            self.refuseUnknown(
                section,
                line: line,
                among: ConfigurationKey.sections + [ConfigurationKey.witnessesName]
            )
            return
        }
        guard case .mapping(let members) = value else {
            self.problems.append(
                ConfigurationProblem(
                    .wrongType,
                    key: section,
                    place: self.place(line),
                    "is a section: must be a mapping of "
                        + ConfigurationKey.all.filter { $0.section == section }
                        .map { String($0.name.dropFirst(section.count + 1)) }.joined(separator: ", ")
                )
            )
            return
        }
        for (memberNode, member) in members {
            let memberLine = memberNode.mark?.line ?? line
            let key = section + "." + (memberNode.scalar?.string ?? "")
            if key == ConfigurationKey.nodesName {
                self.readNodes(member, line: memberLine)
            } else if ConfigurationKey.byName[key] != nil {
                self.entries[key] = self.entry(member, key: key, line: memberLine)
            } else {
                self.refuseUnknown(
                    key,
                    line: memberLine,
                    among: Array(ConfigurationKey.byName.keys.sorted()) + [ConfigurationKey.nodesName]
                )
            }
        }
    }

    private mutating func readNodes(_ value: Yams.Node, line: Int) {
        self.nodesLine = line
        self.nodes += self.readList(value, line: line, ConfigurationKey.nodesName, ConfigurationKey.nodeMembers)
    }

    /// The entries of a list of mappings.
    private mutating func readList(
        _ value: Yams.Node,
        line: Int,
        _ name: String,
        _ known: [String]
    ) -> [NodeEntry] {
        let names = known.prefix(3).joined(separator: ", ")
        guard case .sequence(let items) = value, (1...Self.nodesMax).contains(items.count) else {
            self.problems.append(
                ConfigurationProblem(
                    .wrongType,
                    key: name,
                    place: self.place(line),
                    "must be a list of 1 to \(Self.nodesMax) mappings of \(names)"
                )
            )
            return []
        }
        var entries: [NodeEntry] = []
        for (index, item) in items.enumerated() {
            let itemLine = item.mark?.line ?? line
            let prefix = "\(name)[\(index)]"
            guard case .mapping(let members) = item else {
                self.problems.append(
                    ConfigurationProblem(
                        .wrongType,
                        key: prefix,
                        place: self.place(itemLine),
                        "must be a mapping of \(names)"
                    )
                )
                continue
            }
            var entry = NodeEntry(line: itemLine, members: [:])
            for (memberNode, member) in members {
                let name = memberNode.scalar?.string ?? ""
                let memberLine = memberNode.mark?.line ?? itemLine
                guard known.contains(name) else {
                    self.refuseUnknown("\(prefix).\(name)", line: memberLine, among: known.map { "\(prefix).\($0)" })
                    continue
                }
                entry.members[name] = self.entry(member, key: "\(prefix).\(name)", line: memberLine)
            }
            entries.append(entry)
        }
        return entries
    }

    private mutating func entry(_ node: Yams.Node, key: String, line: Int) -> Entry? {
        guard case .scalar(let scalar) = node else {
            self.problems.append(
                ConfigurationProblem(.wrongType, key: key, place: self.place(line), "must be a single value")
            )
            return nil
        }
        let isQuoted = scalar.style == .singleQuoted || scalar.style == .doubleQuoted
        guard isQuoted || !["", "~", "null", "Null", "NULL"].contains(scalar.string) else {
            self.problems.append(
                ConfigurationProblem(.wrongType, key: key, place: self.place(line), "has no value")
            )
            return nil
        }
        return Entry(text: scalar.string, line: scalar.mark?.line ?? line, isQuoted: isQuoted)
    }

    private mutating func refuseUnknown(_ key: String, line: Int, among known: [String]) {
        self.problems.append(
            ConfigurationProblem(
                .unknownKey,
                place: self.place(line),
                ConfigurationFile.unknownKeyMessage(key, among: known)
            )
        )
    }

    static func unknownKeyMessage(_ key: String, among known: [String]) -> String {
        let hint = ConfigurationRules.nearest(to: key, among: known).map { "; did you mean \"\($0)\"?" } ?? ""
        return "unknown key \"\(key)\"\(hint)"
    }

    /// The parser's words in one line, and the line that they speak of.
    private static func fault(of error: any Error) -> (line: Int?, message: String) {
        switch error {
        case YamlError.scanner(_, let problem, let mark, _), YamlError.parser(_, let problem, let mark, _),
            YamlError.composer(_, let problem, let mark, _):
            (mark.line, "is not YAML: \(problem), column \(mark.column)")
        case YamlError.duplicatedKeysInMapping(let duplicates, let context):
            (context.mark.line, "has a key twice: \(duplicates.sorted().joined(separator: ", "))")
        case YamlError.reader(let problem, _, _, _):
            (nil, "is not YAML: \(problem)")
        default:
            (nil, "is not YAML")
        }
    }
}

/// What a file operation failed with, in words an operator knows.
enum FileProblem {
    static func reason(_ error: any Error) -> String {
        let underlying = (error as NSError).userInfo[NSUnderlyingErrorKey] as? NSError
        for candidate in [error as NSError, underlying].compactMap({ $0 }) where candidate.domain == NSPOSIXErrorDomain
        {
            return String(cString: strerror(Int32(candidate.code))).lowercased()
        }
        return switch (error as NSError).code {
        case CocoaError.fileReadNoSuchFile.rawValue, CocoaError.fileNoSuchFile.rawValue: "no such file or directory"
        case CocoaError.fileReadNoPermission.rawValue, CocoaError.fileWriteNoPermission.rawValue: "permission denied"
        case CocoaError.fileWriteOutOfSpace.rawValue: "no space left on device"
        default: "input/output error"
        }
    }
}
