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

    /// - Returns: What holds, for the log.
    static func enter(_ settings: WorkerSettings) throws(Failure) -> String {
        try self.step("limit memory", ft_limit_resources(settings.memoryBytesMax))
        guard settings.isSandboxed else { return "off" }
        let threads = (try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/task").count) ?? 1
        guard threads == 1 else { throw Failure(step: "\(threads) threads run already", code: EBUSY) }
        try self.step("drop privileges", ft_drop_privileges())
        let files = ft_restrict_files(settings.directory)
        // Kernels before 5.13, or started without it: what is left is the engine's own refusal of files.
        let hasLandlock = files != ENOSYS && files != EOPNOTSUPP
        if hasLandlock { try self.step("restrict files", files) }
        try self.step("restrict system calls", ft_restrict_calls())
        return hasLandlock ? "seccomp, landlock \(ft_landlock_version())" : "seccomp; no landlock on this system"
    }

    private static func step(_ name: String, _ code: Int32) throws(Failure) {
        guard code == 0 else { throw Failure(step: name, code: code) }
    }
}
