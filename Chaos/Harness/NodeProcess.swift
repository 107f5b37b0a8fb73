internal import Foundation
internal import Glibc
internal import Synchronization

/// One node of the cluster under test: its process, its volume, its log.
final class NodeProcess {
    let id: Int
    let folder: String
    private let command: [String]
    private let environment: [String: String]
    private(set) var pid: pid_t = 0
    /// Whether the data directory is a volume of its own, which can be filled.
    private(set) var hasVolume = false

    var dataFolder: String { self.folder + "/data" }
    var logFile: String { self.folder + "/node.log" }
    private var ballast: String { self.dataFolder + "/ballast" }
    var syncFailsFile: String { self.folder + "/sync-fails" }

    /// - Parameter command: The whole command; what it writes goes to the node's log.
    init(id: Int, folder: String, command: [String], shim: String?) throws {
        self.id = id
        self.folder = folder
        self.command = command
        var environment = ProcessInfo.processInfo.environment.filter { !$0.key.hasPrefix("FTNODE_") }
        // The histories that are checked are made of what clients did.
        environment["FTNODE_AUDIT_RECORD_READINGS"] = "off"
        environment["FT_CHAOS_SYNC_FAILS"] = folder + "/sync-fails"
        if let shim { environment["LD_PRELOAD"] = shim }
        self.environment = environment
        try FileManager.default.createDirectory(atPath: folder + "/data", withIntermediateDirectories: true)
    }

    /// Puts the data directory on a small volume in memory.
    func makeVolume(megabytes: Int) async {
        let mount = ["mount", "-t", "tmpfs", "-o", "size=\(megabytes)m", "tmpfs", self.dataFolder]
        self.hasVolume = (try? await Shell.run(mount)) != nil
    }

    func removeVolume() async {
        guard self.hasVolume else { return }
        _ = try? await Shell.run("umount", "-l", self.dataFolder)
        self.hasVolume = false
    }

    /// Leaves `bytes` of the volume free.
    func fill(leaving bytes: Int) throws {
        var volume = statvfs()
        guard statvfs(self.dataFolder, &volume) == 0 else { return }
        let free = Int(volume.f_bavail) * Int(volume.f_frsize)
        let file = open(self.ballast, O_CREAT | O_WRONLY, 0o600)
        guard file >= 0 else { return }
        defer { close(file) }
        _ = posix_fallocate(file, 0, max(1, free - bytes))
    }

    func empty() { unlink(self.ballast) }

    func failSyncs() {
        let file = open(self.syncFailsFile, O_CREAT | O_WRONLY, 0o600)
        if file >= 0 { close(file) }
    }

    func mendSyncs() { unlink(self.syncFailsFile) }

    var isRunning: Bool {
        guard self.pid > 0 else { return false }
        var status: Int32 = 0
        if waitpid(self.pid, &status, WNOHANG) == self.pid {
            self.pid = 0
            return false
        }
        return true
    }

    func start() throws {
        guard !self.isRunning else { return }
        let (logFile, environment) = (self.logFile, self.environment)
        // setpriv and ip replace themselves by the program, which keeps the process id.
        let whole = ["/usr/bin/setpriv", "--pdeathsig", "KILL"] + self.command
        // The kernel ends the node together with the thread that started it: one of the pool may end at any time.
        let started = LastingThread.shared.run { Self.spawn(whole, environment, logFile: logFile) }
        guard started.problem == 0 else {
            throw Shell.Failure(description: "node \(self.id): \(String(cString: strerror(started.problem)))")
        }
        self.pid = started.pid
    }

    private static func spawn(
        _ command: [String],
        _ environment: [String: String],
        logFile: String
    ) -> (pid: pid_t, problem: Int32) {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, logFile, O_WRONLY | O_CREAT | O_APPEND, 0o600)
        posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO)
        var argv = command.map { strdup($0) } + [nil]
        var envp = environment.map { strdup("\($0.key)=\($0.value)") } + [nil]
        defer { for text in argv + envp { free(text) } }
        var pid = pid_t()
        let problem = posix_spawn(&pid, command[0], &actions, nil, &argv, &envp)
        return (pid, problem)
    }

    func signal(_ signal: Int32) { if self.pid > 0 { kill(self.pid, signal) } }

    /// Waits until the process has ended.
    /// - Returns: Whether it did in time.
    func waitForEnd(_ limit: Duration) async -> Bool {
        let pause = Duration.milliseconds(20)
        var waited = Duration.zero
        while self.isRunning {
            guard waited < limit else { return false }
            try? await Task.sleep(for: pause)
            waited += pause
        }
        return true
    }
}

/// A thread that lives as long as the process and runs what it is given, one after the other.
final class LastingThread: Sendable {
    static let shared = LastingThread()

    private let work = Mutex<[@Sendable () -> Void]>([])
    private let count = DispatchSemaphore(value: 0)

    private init() {
        let thread = Thread { [self] in
            while true {
                self.count.wait()
                self.work.withLock { $0.isEmpty ? nil : $0.removeFirst() }?()
            }
        }
        thread.start()
    }

    /// Runs `body` on the thread and waits for it.
    func run<Value: Sendable>(_ body: @escaping @Sendable () -> Value) -> Value {
        let result = Mutex<Value?>(nil)
        let isDone = DispatchSemaphore(value: 0)
        self.work.withLock { work in
            work.append {
                let value = body()
                result.withLock { $0 = value }
                isDone.signal()
            }
        }
        self.count.signal()
        isDone.wait()
        guard let value = result.withLock({ $0 }) else { preconditionFailure("the work has run") }
        return value
    }
}
