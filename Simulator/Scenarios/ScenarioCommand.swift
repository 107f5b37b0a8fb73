internal import ArgumentParser
internal import Consensus
internal import Foundation
internal import Primitives

/// `simulator scenario PATH…`: runs scenarios on the consensus core.
struct ScenarioCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "scenario",
        abstract: "Runs scenarios of the line language on the consensus core.",
        discussion: "Exits 0 only if every expectation held and no safety rule broke."
    )

    @Argument(help: "Scenario files, or folders of them.")
    var paths: [String] = []

    @Flag(name: .long, help: "Print one JSON line after each command; TRACE=1 in the environment does the same.")
    var trace = false

    @Option(name: .long, help: "Put a deliberate fault into the core (for tests of the scenarios).")
    var coreFault: String?

    @Flag(name: .long, help: "Put each deliberate fault into the core in turn: each must fail a scenario.")
    var everyFault = false

    func validate() throws {
        if self.paths.isEmpty { throw ValidationError("Name a scenario file or a folder of them.") }
    }

    func run() throws {
        let files = try self.paths.flatMap { try ScenarioFiles.all(at: $0) }
        if self.everyFault { return try self.findFaults(files) }
        var faults: CoreFaults = []
        if let name = self.coreFault {
            let known = CoreFaults.all + CoreFaults.further
            guard let fault = known.first(where: { $0.name == name })?.fault else {
                let known = known.map(\.name).joined(separator: ", ")
                throw ValidationError("There is no fault \"\(name)\"; there are \(known).")
            }
            faults = fault
        }
        var failed = 0
        var expectations = 0
        for file in files {
            let report = self.report(file, faults: faults)
            expectations += report.expectations
            if !report.isGood { failed += 1 }
            for finding in report.findings { self.say("\(finding)") }
        }
        self.say("\(files.count - failed) of \(files.count) scenarios held, \(expectations) expectations")
        if failed > 0 { throw ExitCode.failure }
    }

    /// Runs one file; a file that is no scenario has one finding.
    private func report(_ file: String, faults: CoreFaults) -> ScenarioRunner.Report {
        var runner = ScenarioRunner(file: file, faults: faults)
        if self.trace || ProcessInfo.processInfo.environment["TRACE"] == "1" { runner.trace = { print($0) } }
        do {
            return try runner.run(try ScenarioFiles.read(file))
        } catch {
            var report = ScenarioRunner.Report(file: file)
            let line = (error as? ScenarioError)?.line ?? 0
            let message = (error as? ScenarioError)?.message ?? "\(error)"
            let finding = ScenarioRunner.Finding(file: file, line: line, text: "scenario", message: message, rule: nil)
            report.findings.append(finding)
            return report
        }
    }

    /// Shows for each fault which scenario finds it.
    private func findFaults(_ files: [String]) throws {
        var missed: [String] = []
        // Only what holds without a fault can show one.
        let files = files.filter { self.report($0, faults: []).isGood }
        for (name, fault) in CoreFaults.all {
            let finder = files.lazy.compactMap { self.report($0, faults: fault).findings.first }.first
            if let finder = finder {
                self.say("\(name): \(finder)")
            } else {
                missed.append(name)
                self.say("\(name): not found")
            }
        }
        if !missed.isEmpty { throw ExitCode.failure }
    }

    /// Findings go where a trace does not disturb them.
    private func say(_ text: String) {
        let isTraced = self.trace || ProcessInfo.processInfo.environment["TRACE"] == "1"
        if isTraced { FileHandle.standardError.write(Data((text + "\n").utf8)) } else { print(text) }
    }
}
