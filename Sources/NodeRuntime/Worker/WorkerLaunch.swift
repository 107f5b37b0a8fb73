internal import Foundation

/// How a worker process is started: this program's own file, with nothing of the node but one end of a socket.
struct WorkerLaunch: Sendable {
    /// The descriptor at which a worker finds its socket.
    static let socketDescriptor: Int32 = 3
    /// The first argument by which the program knows that it is a worker.
    static let command = "worker"
    /// This process's own file, even when another one has taken its name meanwhile.
    static let ownExecutable = "/proc/self/exe"
    /// What of the node's environment a worker needs: where its libraries are.
    private static let environment = ["LD_LIBRARY_PATH"]

    var executable = ownExecutable

    /// Starts the process; it ends with the calling thread, which therefore has to wait for it.
    /// - Returns: Its id, or an error number.
    func start(socket: Int32, name: String) -> Result<pid_t, POSIXError> {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0)
        posix_spawn_file_actions_adddup2(&actions, socket, Self.socketDescriptor)

        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var signals = sigset_t()
        sigemptyset(&signals)
        posix_spawnattr_setsigmask(&attributes, &signals)
        // A group of its own: what a terminal sends is the node's affair.
        posix_spawnattr_setpgroup(&attributes, 0)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK))

        let variables = ProcessInfo.processInfo.environment.filter { Self.environment.contains($0.key) }
        let assignments = variables.map { "\($0.key)=\($0.value)" } + ["TZ=UTC", "SWIFT_BACKTRACE=enable=no"]
        let words: [String] = ["ftnode", Self.command, name]
        var argv: [UnsafeMutablePointer<CChar>?] = words.map { strdup($0) } + [nil]
        var envp: [UnsafeMutablePointer<CChar>?] = assignments.map { strdup($0) } + [nil]
        defer {
            for text in argv + envp { free(text) }
        }
        var pid = pid_t()
        let problem = posix_spawn(&pid, self.executable, &actions, &attributes, &argv, &envp)
        return problem == 0 ? .success(pid) : .failure(POSIXError(POSIXErrorCode(rawValue: problem) ?? .EIO))
    }

    /// Waits until the process has ended, and says how.
    static func wait(for pid: pid_t) -> String {
        var status: Int32 = 0
        while waitpid(pid, &status, 0) < 0, errno == EINTR {}
        let signal = status & 0x7F
        return signal == 0 ? "status \((status >> 8) & 0xFF)" : "signal \(signal)"
    }

    /// Physical memory of a process in bytes; 0 when it is gone.
    static func residentBytes(of pid: pid_t) -> UInt64 {
        guard let text = try? String(contentsOfFile: "/proc/\(pid)/statm", encoding: .utf8) else { return 0 }
        let pages = text.split(separator: " ").dropFirst().first.flatMap { UInt64($0) } ?? 0
        return pages * UInt64(sysconf(Int32(_SC_PAGESIZE)))
    }
}
