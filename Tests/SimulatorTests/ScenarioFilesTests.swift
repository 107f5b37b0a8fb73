internal import Consensus
internal import Foundation
internal import Testing

@testable internal import simulator

/// All scenario files of the repository, as the quick gate runs them.
struct ScenarioFilesTests {
    /// The folder of the files, found from this source file.
    static let folder: String = {
        let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent()
        return root.appending(path: "Simulator/Scenarios/Files").path()
    }()

    static let files: [String] = (try? ScenarioFiles.all(at: folder)) ?? []

    static func name(_ path: String) -> String { String(path.dropFirst(folder.count)) }

    @Test func findsTheFiles() {
        #expect(Self.files.count >= 100, "the folder \(Self.folder) holds the scenarios")
    }

    @Test(arguments: files)
    func holds(_ file: String) throws {
        let report = try ScenarioRunner(file: Self.name(file)).run(try ScenarioFiles.read(file))
        #expect(report.findings.isEmpty, "\(report.findings.map(\.description).joined(separator: "\n"))")
        #expect(report.expectations > 0, "a scenario without an expectation shows nothing")
    }

    /// Each of the 21 deliberate faults of the core fails at least one scenario.
    @Test(arguments: CoreFaults.all.map(\.name))
    func showsTheFault(_ name: String) throws {
        let fault = try #require(CoreFaults.all.first { $0.name == name }).fault
        let isShown = try Self.files.contains { file in
            let runner = ScenarioRunner(file: Self.name(file), faults: fault)
            return try !runner.run(try ScenarioFiles.read(file)).isGood
        }
        #expect(isShown, "no scenario fails with \(name)")
    }

    /// A run leaves the same trace each time.
    @Test func isDeterministic() throws {
        for file in Self.files.prefix(20) {
            let text = try ScenarioFiles.read(file)
            let traces = try (0..<2).map { _ in
                var lines: [String] = []
                var runner = ScenarioRunner(file: file)
                runner.trace = { lines.append($0) }
                _ = try runner.run(text)
                return lines
            }
            #expect(traces[0] == traces[1], "\(Self.name(file))")
        }
    }
}
