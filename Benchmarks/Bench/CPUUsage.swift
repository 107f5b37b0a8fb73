internal import Foundation

/// CPU time used so far: by this process, by some others, and by the whole machine. In clock ticks, but for `driver`.
struct CPUUsage: Sendable {
    /// Seconds of this process.
    private let driverSeconds: Double
    /// Ticks of the processes named.
    private let serverTicks: Int
    /// Ticks in which the machine was not idle, and all ticks.
    private let busyTicks: Int
    private let allTicks: Int

    /// Looks at the counters now. Processes that are gone count as nothing.
    static func sample(processes: [Int]) -> CPUUsage {
        let machine = Self.numbers(ofLine: "cpu ", in: "/proc/stat")
        // user nice system idle iowait irq softirq steal
        let counted = machine.prefix(8)
        let idle = machine.count > 4 ? machine[3] + machine[4] : 0
        return CPUUsage(
            driverSeconds: Self.processSeconds,
            serverTicks: processes.reduce(0) { $0 + Self.ticks(ofProcess: $1) },
            busyTicks: counted.reduce(0, +) - idle,
            allTicks: counted.reduce(0, +)
        )
    }

    /// CPU time of this process, all of its threads together.
    static var processSeconds: Double {
        var usage = rusage()
        getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
        func seconds(_ time: timeval) -> Double { Double(time.tv_sec) + Double(time.tv_usec) / 1e6 }
        return seconds(usage.ru_utime) + seconds(usage.ru_stime)
    }

    /// What was used since `earlier`.
    func since(_ earlier: CPUUsage, seconds: Double) -> CPUShare {
        let allTicks = Double(max(self.allTicks - earlier.allTicks, 1))
        let cores = Double(max(ProcessInfo.processInfo.activeProcessorCount, 1))
        let ticksPerSecond = Double(sysconf(Int32(_SC_CLK_TCK)))
        return CPUShare(
            driverOfOneCore: (self.driverSeconds - earlier.driverSeconds) / seconds,
            serversInCores: Double(self.serverTicks - earlier.serverTicks) / ticksPerSecond / seconds,
            machineBusy: Double(self.busyTicks - earlier.busyTicks) / allTicks,
            cores: cores
        )
    }

    private static func numbers(ofLine prefix: String, in path: String) -> [Int] {
        let text = (try? String(contentsOfFile: path, encoding: .utf8)) ?? ""
        let line = text.split(separator: "\n").first { $0.hasPrefix(prefix) } ?? ""
        return line.split(separator: " ").compactMap { Int($0) }
    }

    /// User and system time of a process; the fields are counted from the end of its name, which may hold anything.
    private static func ticks(ofProcess id: Int) -> Int {
        guard let text = try? String(contentsOfFile: "/proc/\(id)/stat", encoding: .utf8),
            let nameEnd = text.lastIndex(of: ")")
        else { return 0 }
        let fields = text[text.index(after: nameEnd)...].split(separator: " ")
        guard fields.count > 12, let user = Int(fields[11]), let system = Int(fields[12]) else { return 0 }
        return user + system
    }
}

/// How busy the machine was during a measurement, and who kept it so.
struct CPUShare: Sendable, Codable {
    /// The driver's CPU time by the wall clock: it has one thread, so 1 means that the driver was the bottleneck.
    var driverOfOneCore: Double
    /// CPU time of the processes under test by the wall clock.
    var serversInCores: Double
    /// 0–1, all cores.
    var machineBusy: Double
    var cores: Double
}
