internal import AuditLedger
internal import Dispatch
internal import Foundation
internal import Primitives
internal import RocksStorage
internal import Storage

/// Verification of a whole ledger from its stored bytes, beside `openssl speed` over texts of the same size, in turns.
///
/// `ledger_verify` is what whoever waits for a verification sees: all cores, by the clock on the wall, beside the command
/// `openssl speed -evp sha256` as it is. The others say what it costs: one thread against one by CPU time, and all cores
/// against as many processes of openssl on the wall.
struct LedgerVerifySpeed {
    let ledger: LedgerFolder
    /// Of each run of openssl.
    let seconds: Int

    private static let rounds = 3
    /// What a node reads between two rests.
    private static let scrubPartBytes = UInt64(4 << 20)

    /// All cores, as `ftnode audit verify` uses them.
    private static let allCores = VerificationLanes { count, body in
        DispatchQueue.concurrentPerform(iterations: count) { body($0) }
    }

    private struct Side {
        let name: String
        let lanes: VerificationLanes
        /// Of ours.
        let threads: Int
        /// Of openssl.
        let processes: Int
    }

    func measure(into results: String) throws {
        let cores = max(ProcessInfo.processInfo.activeProcessorCount, 1)
        // Once before, so that every run finds the files in the system's cache.
        let records = try self.run(.one)
        let recordBytes = Int(records.bytes / records.count)
        print("ledger: \(records.count) records of \(recordBytes) bytes")
        for side in [
            Side(name: "ledger_verify", lanes: Self.allCores, threads: cores, processes: 1),
            Side(name: "ledger_verify_one", lanes: .one, threads: 1, processes: 1),
            Side(name: "ledger_verify_all", lanes: Self.allCores, threads: cores, processes: cores),
        ] {
            var ours: [Double] = []
            var openssl: [Double] = []
            for _ in 0..<Self.rounds {
                let isWall = side.threads > 1
                openssl.append(
                    try self.openssl(processes: side.processes, isWall: isWall, textBytes: recordBytes)
                )
                let run = try self.run(side.lanes)
                ours.append(Double(run.bytes) / (side.threads == 1 ? run.cpuSeconds : run.seconds) / 1e6)
            }
            for (system, rates) in [("ours", ours), ("openssl", openssl)] {
                try Measurement(system: system, name: side.name, rate: rates.sorted()[Self.rounds / 2])
                    .record(in: results)
            }
            print(
                "ledger: \(side.name) is in MB/s, \(side.threads) threads to \(side.processes), ours \(ours), openssl \(openssl)"
            )
        }
    }

    private struct Run {
        let count: UInt64
        let bytes: UInt64
        let seconds: Double
        let cpuSeconds: Double
    }

    private func run(_ lanes: VerificationLanes) throws -> Run {
        let snapshot = try self.ledger.store.snapshot()
        let clock = ContinuousClock()  // ambient-ok: a benchmark measures time
        let begin = (wall: clock.now, cpu: CPUUsage.processSeconds)
        let result = try LedgerVerifier.verify(
            store: snapshot,
            organization: LedgerFolder.organization,
            key: try LedgerFolder.organizationKey(),
            lanes: lanes
        )
        let seconds = (clock.now - begin.wall) / .seconds(1)
        let cpuSeconds = CPUUsage.processSeconds - begin.cpu
        guard result.isSound, result.size > 0 else {
            throw BenchError(.unexpectedAnswer, "the ledger is not sound: \(result.finding?.description ?? "empty")")
        }
        return Run(count: result.size, bytes: result.bytesRead, seconds: seconds, cpuSeconds: cpuSeconds)
    }

    /// MB/s: by the clock on the wall, or of CPU time.
    private func openssl(processes: Int, isWall: Bool, textBytes: Int) throws -> Double {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        var arguments = ["openssl", "speed", "-seconds", "\(self.seconds)", "-bytes", "\(textBytes)"]
        if isWall { arguments.append("-elapsed") }
        if processes > 1 { arguments += ["-multi", "\(processes)"] }
        process.arguments = arguments + ["-evp", "sha256"]
        let output = Pipe()
        process.standardOutput = output
        process.standardError = FileHandle.nullDevice
        // Threads of the pool block the signal by which openssl ends a run, and processes inherit what is blocked.
        var alarm = sigset_t()
        sigemptyset(&alarm)
        sigaddset(&alarm, SIGALRM)
        pthread_sigmask(SIG_UNBLOCK, &alarm, nil)
        try process.run()
        let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        let line = text.split(separator: "\n").last { $0.lowercased().hasPrefix("sha256") }
        let field = line?.split(separator: " ").last?.replacingOccurrences(of: "k", with: "")
        guard let field, let thousands = Double(field) else {
            throw BenchError(.unexpectedAnswer, "openssl speed gave no figure")
        }
        return thousands / 1000
    }

    // MARK: Scrub

    /// Re-reads a ledger in parts, as the scrub in the background does, without its rests.
    static func measureScrub(_ ledger: LedgerFolder, into results: String) throws {
        var rates: [Double] = []
        for _ in 0..<Self.rounds {
            var head: LedgerHead?
            var bytes = UInt64(0)
            let begin = CPUUsage.processSeconds
            while true {
                let part = try LedgerVerifier.verifyPart(
                    store: try ledger.store.snapshot(),
                    organization: LedgerFolder.organization,
                    key: try LedgerFolder.organizationKey(),
                    from: head,
                    bytesMax: Self.scrubPartBytes
                )
                bytes += part.bytesRead
                head = part.head
                if let finding = part.finding {
                    throw BenchError(.unexpectedAnswer, "the ledger is not sound: \(finding.description)")
                }
                if part.isLast { break }
            }
            rates.append(Double(bytes) / (CPUUsage.processSeconds - begin) / 1e6)
        }
        try Measurement(system: "ours", name: "ledger_scrub", rate: rates.sorted()[Self.rounds / 2])
            .record(in: results)
        print("ledger: ledger_scrub is in MB/s of records a core of CPU time")
    }
}
