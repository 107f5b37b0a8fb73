internal import ArgumentParser
internal import Foundation
internal import NodeRuntime
internal import Primitives

/// The program's entry: parses, runs one command, and ends with its exit code.
@main
enum Entry {
    static func main() async {
        // First of all: a worker's sandbox has to be made while there is one thread.
        if WorkerProcess.isWanted(CommandLine.arguments) { exit(WorkerProcess.run()) }
        let code = await CommandRun.run(Array(CommandLine.arguments.dropFirst()))
        exit(code)
    }
}

/// Exit codes of every command.
enum ExitStatus {
    static let success: Int32 = 0
    /// The cluster refused, a verification failed, something could not be read or reached.
    static let refused: Int32 = 1
    /// The command was not used as its help says.
    static let wrongUsage: Int32 = 2
}

/// A command's own failure, told in one line.
struct CommandFailure: Error, CustomStringConvertible {
    let description: String

    init(_ description: String) { self.description = description }
}

/// Runs a command line in this process.
enum CommandRun {
    /// - Returns: The exit code; everything is printed.
    static func run(_ arguments: [String]) async -> Int32 {
        do {
            var command = try FTNode.parseAsRoot(arguments)
            if var asynchronous = command as? any AsyncParsableCommand {
                try await asynchronous.run()
            } else {
                try command.run()
            }
            return ExitStatus.success
        } catch {
            return self.report(error)
        }
    }

    /// Prints `error` where it belongs and chooses the exit code.
    static func report(_ error: any Error) -> Int32 {
        switch error {
        case let status as ExitCode: return status.rawValue
        case is BrokenOutput: return ExitStatus.success
        case let error as ConfigurationError:
            for problem in error.problems { Terminal.complain(problem.description) }
            return ExitStatus.refused
        case let error where error is CommandFailure || error is any CausedError:
            Terminal.complain(errorChain(error))
            return ExitStatus.refused
        case is CancellationError:
            Terminal.complain("interrupted")
            return ExitStatus.refused
        default: return self.reportParsing(error)
        }
    }

    private static func reportParsing(_ error: any Error) -> Int32 {
        if FTNode.exitCode(for: error) == .success {
            Terminal.out(FTNode.fullMessage(for: error) + "\n")
            return ExitStatus.success
        }
        guard FTNode.exitCode(for: error) == .validationFailure else {
            Terminal.complain(String(describing: error))
            return ExitStatus.refused
        }
        let lines = FTNode.fullMessage(for: error).split(separator: "\n").map(String.init)
        let message = FTNode.message(for: error).split(separator: "\n").map { $0.trimmingCharacters(in: .whitespaces) }
            .filter { !$0.isEmpty }.joined(separator: " ")
        let help =
            lines.first { $0.contains("--help' for more information") }
            .map { "; " + $0.trimmingCharacters(in: .whitespaces) } ?? ""
        Terminal.complain((message.isEmpty ? "a subcommand is missing" : message) + help)
        return ExitStatus.wrongUsage
    }
}
