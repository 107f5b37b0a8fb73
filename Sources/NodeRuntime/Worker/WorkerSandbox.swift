internal import CSandbox
internal import Foundation

/// What a worker process gives up before it touches anything of a user (decision 0034).
///
/// Called while the process has one thread: most of it holds for the calling thread and those it starts.
enum WorkerSandbox {
    /// A step that the system refused.
    struct Failure: Error, CustomStringConvertible {
        let step: String
        let code: Int32

        var description: String { "\(self.step): \(String(cString: strerror(self.code)))" }
    }

    /// Enters the sandbox and tries its doors.
    /// - Returns: What holds and which doors are open, for the log.
    static func enter(_ settings: WorkerSettings) throws(Failure) -> String {
        try self.step("limit memory", ft_limit_resources(settings.memoryBytesMax))
        guard settings.isSandboxed else { return "off; open: \(self.openDoors().joined(separator: ", "))" }
        let threads = (try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/task").count) ?? 1
        guard threads == 1 else { throw Failure(step: "\(threads) threads run already", code: EBUSY) }
        try self.step("drop privileges", ft_drop_privileges())
        let files = ft_restrict_files(settings.directory)
        // Kernels before 5.13, or started without it: what is left is the engine's own refusal of files.
        let hasLandlock = files != ENOSYS && files != EOPNOTSUPP
        if hasLandlock { try self.step("restrict files", files) }
        try self.step("restrict system calls", ft_restrict_calls())
        try self.step("read what threads do", ft_read_own_thread())
        let doors = self.openDoors()
        guard doors.isEmpty || (doors == ["file"] && !hasLandlock) else {
            throw Failure(step: "doors are open: \(doors.joined(separator: ", "))", code: EPERM)
        }
        return "seccomp, " + (hasLandlock ? "landlock \(ft_landlock_version())" : "no landlock; open: file")
    }

    private static func openDoors() -> [String] {
        let doors = ft_open_doors()
        let names: [(Int, String)] = [
            (FT_DOOR_SOCKET, "socket"), (FT_DOOR_PROCESS, "process"), (FT_DOOR_PROGRAM, "program"),
            (FT_DOOR_SIGNAL, "signal"), (FT_DOOR_FILE, "file"),
        ]
        return names.filter { Int(doors) & $0.0 != 0 }.map(\.1)
    }

    private static func step(_ name: String, _ code: Int32) throws(Failure) {
        guard code == 0 else { throw Failure(step: name, code: code) }
    }
}
