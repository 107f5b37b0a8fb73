internal import Foundation

/// Runs small system programs (ip, mount, cc) to their end, each waited for by a thread of its own: a task that waits
/// holds no thread of the pool.
enum Shell {
    struct Failure: Error, CustomStringConvertible {
        let description: String
    }

    /// - Returns: What the program wrote.
    /// - Throws: ``Failure`` when it cannot be started or does not exit with 0.
    @discardableResult
    static func run(_ command: String...) async throws -> String { try await self.run(command) }

    /// - Returns: What the program wrote.
    @discardableResult
    static func run(_ command: [String]) async throws -> String {
        let (status, output) = try await self.status(command)
        guard status == 0 else {
            throw Failure(description: "\(command.joined(separator: " ")) exited with \(status): \(output)")
        }
        return output
    }

    /// - Returns: The exit status and what the program wrote.
    static func status(_ command: [String]) async throws -> (status: Int32, output: String) {
        try await withCheckedThrowingContinuation { continuation in
            Thread { continuation.resume(with: Result { try self.runToEnd(command) }) }.start()
        }
    }

    private static func runToEnd(_ command: [String]) throws -> (status: Int32, output: String) {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = command
        let pipe = Pipe()
        process.standardOutput = pipe
        process.standardError = pipe
        process.standardInput = FileHandle.nullDevice
        try process.run()
        let bytes = pipe.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        return (process.terminationStatus, String(decoding: bytes, as: UTF8.self))
    }
}

/// What the run tells, line by line, at once also into a pipe.
enum Report {
    static func line(_ text: String) { FileHandle.standardOutput.write(Data((text + "\n").utf8)) }
}
