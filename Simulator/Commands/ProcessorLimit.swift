internal import Glibc

/// Ends the process when it has worked for too long, however busy the machine is.
enum ProcessorLimit {
    static func set(_ seconds: UInt64) {
        var limit = rlimit(rlim_cur: rlim_t(seconds), rlim_max: rlim_t(seconds))
        _ = setrlimit(__rlimit_resource_t(RLIMIT_CPU.rawValue), &limit)
    }
}
