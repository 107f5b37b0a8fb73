internal import Consensus
internal import Foundation
internal import Primitives

/// Runs one scenario from its text to its verdict.
struct ScenarioRunner {
    /// Something that was not as the scenario or the safety rules say.
    struct Finding: Sendable, Hashable, CustomStringConvertible {
        let file: String
        let line: Int
        /// The command.
        let text: String
        let message: String
        /// Set when a safety rule broke, whatever the scenario expects.
        let rule: SafetyRules.Rule?

        var description: String { "\(self.file):\(self.line): \(self.text): \(self.message)" }
    }

    /// The verdict on one scenario.
    struct Report: Sendable {
        let file: String
        var findings: [Finding] = []
        var expectations = 0
        var commands = 0

        var isGood: Bool { self.findings.isEmpty }
    }

    let file: String
    var faults: CoreFaults = []
    /// Takes a line of trace after each command.
    var trace: ((String) -> Void)?

    /// - Throws: ``ScenarioError`` when the text is not a scenario, or means something that does not exist.
    func run(_ text: String) throws -> Report {
        let steps = try ScenarioParser(file: self.file).parse(text)
        var report = Report(file: self.file)
        var world = ScenarioWorld(file: self.file, faults: self.faults)
        world.isTraced = self.trace != nil
        for step in steps {
            world.sent = []
            let refusal = world.unseenRefusal
            let failures = try world.run(step)
            report.commands += 1
            if step.command == .expect { report.expectations += 1 }
            if let line = refusal, world.unseenRefusal != nil, step.command.isProposal {
                self.note(refused: line, steps, &report)
                if world.unseenRefusal == line { world.unseenRefusal = nil }
            }
            if !step.mayFail {
                for failure in failures { report.findings.append(self.finding(step, failure, rule: nil)) }
            }
            let breaches = world.checkSafety()
            for breach in breaches { report.findings.append(self.finding(step, "\(breach)", rule: breach.rule)) }
            if let trace = self.trace {
                trace(try ScenarioTrace(step, failures: failures + breaches.map(\.description), world).text())
            }
            // Every later command would only repeat it.
            if !breaches.isEmpty { return report }
        }
        if let line = world.unseenRefusal { self.note(refused: line, steps, &report) }
        report.findings.sort { $0.line < $1.line }
        return report
    }

    private func finding(_ step: ScenarioStep, _ message: String, rule: SafetyRules.Rule?) -> Finding {
        Finding(file: self.file, line: step.line, text: step.text, message: message, rule: rule)
    }

    private func note(refused line: Int, _ steps: [ScenarioStep], _ report: inout Report) {
        guard let step = steps.first(where: { $0.line == line }) else { return }
        report.findings.append(self.finding(step, "the node refused", rule: nil))
    }
}

extension ScenarioVerb {
    /// Whether the command can be refused by the node.
    var isProposal: Bool { self == .propose || self == .proposeConfChange }
}

/// Finds scenario files.
enum ScenarioFiles {
    /// What a scenario's name ends with.
    static let suffixes = [".scenario", ".txt"]

    /// - Returns: The file itself, or the scenario files below a folder in the order of their paths.
    /// - Throws: ``ScenarioError`` `.unreadable` when there is none.
    static func all(at path: String) throws -> [String] {
        var isFolder: ObjCBool = false
        guard FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) else {
            throw ScenarioError(code: .unreadable, file: path, line: 0, message: "there is no such file or folder")
        }
        guard isFolder.boolValue else { return [path] }
        let names = FileManager.default.enumerator(atPath: path)?.compactMap { $0 as? String } ?? []
        let found = names.filter { name in Self.suffixes.contains { name.hasSuffix($0) } }
        guard !found.isEmpty else {
            throw ScenarioError(code: .unreadable, file: path, line: 0, message: "the folder holds no scenario")
        }
        return found.sorted().map { path.hasSuffix("/") ? path + $0 : path + "/" + $0 }
    }

    static func read(_ path: String) throws -> String {
        guard let data = FileManager.default.contents(atPath: path) else {
            throw ScenarioError(code: .unreadable, file: path, line: 0, message: "the file cannot be read")
        }
        return String(decoding: data, as: UTF8.self)
    }
}
