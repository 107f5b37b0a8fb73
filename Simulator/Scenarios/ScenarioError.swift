internal import Primitives

/// Why a scenario could not be run as it is written: the file, not the core, is at fault.
struct ScenarioError: Error, Hashable, CustomStringConvertible {
    /// What kind of mistake it is.
    enum Code: String, Hashable {
        /// The file could not be read.
        case unreadable
        /// There is no such command.
        case unknownCommand
        /// The command has no such argument.
        case unknownArgument
        /// An argument is missing, surplus or has a value of another form.
        case badArgument
        /// The scenario names a node, a held batch or an index that does not exist.
        case noSuchThing
        /// The scenario is longer than the limits of the runner.
        case tooLarge
    }

    let code: Code
    let file: String
    /// Counts from 1; zero when the file as a whole is meant.
    let line: Int
    let message: String

    var description: String { "\(self.file):\(self.line): \(self.message)" }
}
