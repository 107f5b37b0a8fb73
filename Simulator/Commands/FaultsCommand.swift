internal import ArgumentParser
internal import Foundation

/// Plants each deliberate mistake in turn and searches until it is found.
struct FaultsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "faults",
        abstract: "Show that the simulator finds every deliberate mistake: seed and seconds for each."
    )

    @Flag(help: "Only name the mistakes.")
    var list = false

    @Option(help: "Only this mistake.")
    var only: String?

    @Option(help: "Seeds that each mistake is given.")
    var seeds: UInt64 = 2_000

    @Option(help: "The first seed.")
    var first: UInt64 = 1

    @Option(help: "Simulated events that each mistake is given: the same on a busy machine.")
    var events = 60_000_000

    /// Of processor time; only a run that goes round in circles takes so long.
    private static let processorSecondsMax: UInt64 = 1_800

    func run() throws {
        let names = self.only.map { [$0] } ?? PlantedFaults.names
        if self.list { return print(names.joined(separator: "\n")) }
        print("\(pad("mistake", to: 40))\(pad("seed", to: 8))\(pad("seconds", to: 9))found by")
        var total = 0.0
        var isComplete = true
        for name in names {
            let start = ContinuousClock.now  // ambient-ok: how long the search took, for the user
            let (seed, rule) = try self.search(name)
            let seconds = (ContinuousClock.now - start) / .seconds(1)  // ambient-ok: as above
            total += seconds
            if seed == nil { isComplete = false }
            let shown = String(Double(Int(seconds * 10)) / 10)
            print("\(pad(name, to: 40))\(pad(seed ?? "-", to: 8))\(pad(shown, to: 9))\(rule)")
        }
        print("\(names.count) mistakes, \(Int(total)) seconds")
        if !isComplete { throw ExitCode.failure }
    }

    /// A process of its own, as an assertion of the code under test ends the process that meets it.
    private func search(_ name: String) throws -> (seed: String?, rule: String) {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
        process.arguments = [
            "run", "--quiet", "--fault", name, "--first", "\(self.first)", "--seeds", "\(self.seeds)", "--events",
            "\(self.events)",
            "--processor-seconds", "\(Self.processorSecondsMax)",
        ]
        let output = Pipe()
        process.standardOutput = output
        process.standardError = output
        try process.run()
        let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        let lines = text.split(separator: "\n").map(String.init)
        guard let place = lines.firstIndex(where: { $0.hasPrefix("seed ") || $0.hasPrefix(TrapReport.prefix) }) else {
            let hasEnded = process.terminationReason == .exit && process.terminationStatus == 0
            return (nil, hasEnded ? "not found" : "the search did not end")
        }
        let words = lines.last { $0.contains("--first ") }?.split(separator: " ").map(String.init) ?? []
        let seed = words.firstIndex(of: "--first").map { words[$0 + 1] }
        let isTrap = lines[place].hasPrefix(TrapReport.prefix)
        let rule = isTrap ? "an assertion of the core" : lines[min(place + 1, lines.count - 1)]
        return (seed, rule.trimmingCharacters(in: .whitespaces))
    }
}
