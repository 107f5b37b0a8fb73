internal import ArgumentParser
internal import Foundation
internal import Logging
internal import NodeRuntime

/// Runs one node.
struct ServeCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "serve",
        abstract: "Run one node.",
        discussion: """
            Every key of the file can be overridden by an environment variable, FTNODE_ and the key in capitals with \
            dots as underscores, and by --set. The node stops cleanly at SIGTERM and SIGINT, and reads its \
            certificates again at SIGHUP.

            Examples:
              ftnode serve --config node-1.yaml --check
              ftnode serve --config node-1.yaml --set log.format=json
              FTNODE_API_LISTEN=0.0.0.0:8443 ftnode serve --config node-1.yaml
            """
    )

    @Option(help: ArgumentHelp("The configuration file (YAML).", valueName: "file"))
    var config: String

    @Flag(help: "Explain every key, check everything, start nothing; exit 1 when something is wrong.")
    var check = false

    @Option(name: .customLong("set"), help: ArgumentHelp("Override a key; may be repeated.", valueName: "key=value"))
    var overrides: [String] = []

    @Option(help: ArgumentHelp("Stop when this process is no longer the parent.", visibility: .hidden))
    var parent: Int32?

    mutating func run() async throws {
        let now = SystemTime.now()
        let outcome = ConfigurationLoader.examine(
            file: self.config,
            environment: CommandEnvironment.all,
            overrides: self.overrides
        )
        if self.check {
            let problems = outcome.problems + (outcome.loaded?.problems(now: now) ?? [])
            Terminal.out(
                ConfigurationExplanation.text(
                    file: self.config,
                    rows: outcome.rows,
                    warnings: outcome.warnings,
                    problems: problems
                )
            )
            if !problems.isEmpty { throw ExitCode(ExitStatus.refused) }
            return
        }
        guard let loaded = outcome.loaded else { throw ConfigurationError(outcome.problems) }
        try loaded.validate(now: now)
        let configuration = loaded.configuration
        LogSetup.bootstrap(level: configuration.logLevel, format: configuration.logFormat)
        var logger = Logger(label: "ftnode")
        logger[metadataKey: "node.id"] = "\(configuration.nodeID)"
        for warning in loaded.warnings { logger.warning("configuration", metadata: ["warning": "\(warning)"]) }
        if let parent = self.parent { ParentWatch.start(parent: parent) }
        try await Node.run(configuration: configuration, logger: logger)
    }
}

/// Ends this process in good order when the one that started it is gone.
enum ParentWatch {
    /// How often the parent is looked at.
    private static let intervalSeconds = 1.0

    static func start(parent: Int32) {
        let thread = Thread {
            while getppid() == parent { Thread.sleep(forTimeInterval: self.intervalSeconds) }
            kill(getpid(), SIGTERM)
        }
        thread.name = "parent-watch"
        thread.start()
    }
}
