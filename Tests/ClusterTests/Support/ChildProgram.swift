internal import Foundation
internal import Synchronization

/// A program that runs beside the test: its lines can be waited for, and so can its end.
///
/// A thread of its own starts it, reads its output (standard error included) and waits for its end. The program gets
/// SIGTERM when that thread's process ends, so that nothing outlives a test run that was killed.
final class ChildProgram: Sendable {
    /// How it ended.
    enum Ending: Equatable, Sendable {
        case exited(Int32)
        case signalled(Int32)
    }

    struct Failure: Error, CustomStringConvertible {
        let description: String
    }

    private struct Waiter {
        let text: String
        let firstLine: Int
        let continuation: CheckedContinuation<Int, any Error>
    }

    private struct State {
        var pid: pid_t?
        var lines: [String] = []
        var ending: Ending?
        var waiters: [Waiter] = []
        var ends: [CheckedContinuation<Ending, Never>] = []
    }

    private static let starting = Mutex(())

    let name: String
    private let state = Mutex(State())

    private init(name: String) { self.name = name }

    /// Starts `executable`; returns when it runs.
    static func start(
        _ executable: String,
        _ arguments: [String],
        environment: [String: String] = [:]
    ) async throws -> ChildProgram {
        let program = ChildProgram(
            name: ([URL(fileURLWithPath: executable).lastPathComponent] + arguments).joined(separator: " ")
        )
        try await withCheckedThrowingContinuation { (started: CheckedContinuation<Void, any Error>) in
            let thread = Thread { program.live(executable, arguments, environment, started) }
            thread.name = "child"
            thread.start()
        }
        return program
    }

    /// Runs `executable` to its end.
    static func run(
        _ executable: String,
        _ arguments: [String],
        environment: [String: String] = [:]
    ) async throws -> (ending: Ending, output: String) {
        let program = try await self.start(executable, arguments, environment: environment)
        let ending = await program.end()
        return (ending, program.output)
    }

    // MARK: What a test asks

    var pid: pid_t { self.state.withLock { $0.pid ?? 0 } }
    var lines: [String] { self.state.withLock { $0.lines } }
    var output: String { self.lines.joined(separator: "\n") }
    var isRunning: Bool { self.state.withLock { $0.ending == nil } }

    func send(_ signal: Int32) {
        self.state.withLock { state in
            if state.ending == nil, let pid = state.pid { kill(pid, signal) }
        }
    }

    /// Waits for a line that contains `text`, at `firstLine` or later.
    /// - Returns: The number of the line after it.
    @discardableResult
    func line(containing text: String, from firstLine: Int = 0) async throws -> Int {
        try await withCheckedThrowingContinuation { continuation in
            self.state.withLock { state in
                state.waiters.append(Waiter(text: text, firstLine: firstLine, continuation: continuation))
                self.answerWaiters(&state)
            }
        }
    }

    /// Waits until it has ended.
    func end() async -> Ending {
        await withCheckedContinuation { continuation in
            self.state.withLock { state in
                if let ending = state.ending { return continuation.resume(returning: ending) }
                state.ends.append(continuation)
            }
        }
    }

    /// Asks it to end by `signal` and waits until it has.
    @discardableResult
    func stop(_ signal: Int32 = SIGTERM) async -> Ending {
        self.send(signal)
        return await self.end()
    }

    // MARK: The thread

    private func answerWaiters(_ state: inout State) {
        state.waiters.removeAll { waiter in
            if let index = state.lines.indices.first(where: {
                $0 >= waiter.firstLine && state.lines[$0].contains(waiter.text)
            }) {
                waiter.continuation.resume(returning: index + 1)
                return true
            }
            guard state.ending != nil else { return false }
            let shown = state.lines.suffix(20).joined(separator: "\n")
            waiter.continuation.resume(
                throwing: Failure(description: "\(self.name) ended before it said \"\(waiter.text)\":\n\(shown)")
            )
            return true
        }
    }

    private func live(
        _ executable: String,
        _ arguments: [String],
        _ environment: [String: String],
        _ started: CheckedContinuation<Void, any Error>
    ) {
        var ends: [Int32] = [-1, -1]
        // One at a time: no child may inherit the pipe of another.
        let (pid, problem) = Self.starting.withLock { _ in
            guard pipe(&ends) == 0 else { return (pid_t(), errno) }
            for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
            let result = Self.spawn(executable, arguments, environment, output: ends[1])
            close(ends[1])
            if result.problem != 0 { close(ends[0]) }
            return result
        }
        guard problem == 0 else {
            return started.resume(
                throwing: Failure(description: "cannot start \(self.name): \(String(cString: strerror(problem)))")
            )
        }
        self.state.withLock { $0.pid = pid }
        started.resume()
        self.readLines(ends[0])
        close(ends[0])
        var status: Int32 = 0
        while waitpid(pid, &status, 0) < 0, errno == EINTR {}
        let signal = status & 0x7F
        let ending = signal == 0 ? Ending.exited((status >> 8) & 0xFF) : .signalled(signal)
        self.state.withLock { state in
            state.ending = ending
            self.answerWaiters(&state)
            for continuation in state.ends { continuation.resume(returning: ending) }
            state.ends = []
        }
    }

    private func readLines(_ descriptor: Int32) {
        var rest: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 65_536)
        while true {
            let count = read(descriptor, &buffer, buffer.count)
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { break }
            rest += buffer[0..<count]
            var found: [String] = []
            while let end = rest.firstIndex(of: UInt8(ascii: "\n")) {
                found.append(String(decoding: rest[..<end], as: UTF8.self))
                rest.removeSubrange(...end)
            }
            self.add(found)
        }
        if !rest.isEmpty { self.add([String(decoding: rest, as: UTF8.self)]) }
    }

    private func add(_ lines: [String]) {
        guard !lines.isEmpty else { return }
        self.state.withLock { state in
            state.lines += lines
            self.answerWaiters(&state)
        }
    }

    private static func spawn(
        _ executable: String,
        _ arguments: [String],
        _ environment: [String: String],
        output: Int32
    ) -> (pid: pid_t, problem: Int32) {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO)
        posix_spawn_file_actions_adddup2(&actions, output, STDERR_FILENO)
        // setpriv replaces itself by the program, which keeps the process id.
        let setpriv = "/usr/bin/setpriv"
        let isThere = FileManager.default.isExecutableFile(atPath: setpriv)
        let command = (isThere ? [setpriv, "--pdeathsig", "TERM"] : []) + [executable] + arguments
        var variables = ProcessInfo.processInfo.environment.filter { !$0.key.hasPrefix("FTNODE_") }
        variables.merge(environment) { $1 }
        var argv = command.map { strdup($0) } + [nil]
        var envp = variables.map { strdup("\($0.key)=\($0.value)") } + [nil]
        defer {
            for text in argv + envp { free(text) }
        }
        var pid = pid_t()
        let problem = posix_spawn(&pid, command[0], &actions, nil, &argv, &envp)
        return (pid, problem)
    }
}
