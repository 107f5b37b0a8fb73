internal import ArgumentParser

/// The command line of the simulator.
@main
struct Simulator: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "simulator",
        abstract: "Runs whole clusters in one thread on virtual time, and breaks everything that may break.",
        subcommands: [RunCommand.self, FaultsCommand.self, ScenarioCommand.self]
    )
}
