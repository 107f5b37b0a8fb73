internal import NIOCore
internal import Primitives

/// What one client does again and again.
protocol Workload: Sendable {
    /// Does one operation and returns how many things it has done (records, puts).
    func perform(client: Int, iteration: Int) async throws -> Int
}

/// A number of clients, each of which sends its next request when it has the answer to the one before.
struct ClosedLoop: Sendable {
    var clients: Int
    var warmUp: Duration
    var duration: Duration
    /// Processes whose CPU time is reported.
    var processes: [Int] = []

    /// A client gives up after so many errors: the server is gone, or refuses everything.
    private static let errorsMax = 1_000

    /// What a run measured.
    struct Outcome: Sendable {
        var operations = 0
        var items = 0
        var errors = 0
        var firstError: String?
        var latency = LatencyHistogram()
        var seconds = 0.0
        var cpu = CPUShare(driverOfOneCore: 0, serversInCores: 0, machineBusy: 0, cores: 0)

        mutating func merge(_ other: Outcome) {
            self.operations += other.operations
            self.items += other.items
            self.errors += other.errors
            self.firstError = self.firstError ?? other.firstError
            self.latency.merge(other.latency)
        }
    }

    /// Runs all clients on `eventLoop`; counts what begins after the warm-up and ends before the end.
    func run(_ workload: some Workload, on eventLoop: any EventLoop) async throws -> Outcome {
        let executor = LoopExecutor(eventLoop: eventLoop)
        let clock = ContinuousClock()  // ambient-ok: a benchmark measures time
        let start = clock.now
        let measured = (start + self.warmUp)..<(start + self.warmUp + self.duration)
        var outcome = try await withThrowingTaskGroup(of: Outcome?.self) { group in
            for client in 0..<self.clients {
                group.addTask(executorPreference: executor) {
                    await Self.loop(workload, client: client, measured: measured, clock: clock)
                }
            }
            group.addTask { [processes] in
                try await clock.sleep(until: measured.lowerBound)
                let before = CPUUsage.sample(processes: processes)
                let from = clock.now
                try await clock.sleep(until: measured.upperBound)
                var sample = Outcome()
                sample.seconds = (clock.now - from) / .seconds(1)
                sample.cpu = CPUUsage.sample(processes: processes).since(before, seconds: sample.seconds)
                return sample
            }
            var all = Outcome()
            for try await part in group {
                guard let part else { continue }
                if part.seconds > 0 {
                    all.seconds = part.seconds
                    all.cpu = part.cpu
                }
                all.merge(part)
            }
            return all
        }
        outcome.seconds = self.duration / .seconds(1)
        return outcome
    }

    private static func loop(
        _ workload: some Workload,
        client: Int,
        measured: Range<ContinuousClock.Instant>,
        clock: ContinuousClock
    ) async -> Outcome {
        var outcome = Outcome()
        var iteration = 0
        while true {
            let begin = clock.now
            guard begin < measured.upperBound, outcome.errors < Self.errorsMax else { return outcome }
            do {
                let items = try await workload.perform(client: client, iteration: iteration)
                let end = clock.now
                if measured.contains(begin), end < measured.upperBound {
                    outcome.operations += 1
                    outcome.items += items
                    outcome.latency.record(microseconds: UInt64(max((end - begin) / .microseconds(1), 0)))
                }
            } catch {
                outcome.errors += 1
                outcome.firstError = outcome.firstError ?? errorChain(error)
            }
            iteration += 1
        }
    }
}
