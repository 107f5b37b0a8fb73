internal import ArgumentParser
internal import Foundation
internal import NIOCore
internal import Synchronization

/// `bench projection`: how far columnar stores are behind their ledgers while records come at a given rate.
struct ProjectionCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "projection",
        abstract: "Appends batches at a rate and measures how far a node's columnar stores are behind."
    )

    @Option(help: "Records a second that are sent, to all organizations together.")
    var rate = 50_000
    @Option(help: "Events of one request.")
    var batch = 500
    @Option(help: "Organizations that the batches are spread over.")
    var organizations = 8
    @Option(help: "Requests that may be under way at once.")
    var clients = 16
    @Option(help: "Seconds that are measured.")
    var seconds: Double = 20
    @Option(help: "Seconds before them.")
    var warmUp: Double = 5
    @Option(help: "Bytes of one event.")
    var size = 600
    @Option(help: "The first organization's number: others than those of an earlier run begin with empty stores.")
    var first = 1
    @OptionGroup var cluster: ClusterOptions
    @OptionGroup var output: ResultsOption

    func validate() throws {
        guard self.rate > 0, self.batch > 0, self.organizations > 0, self.clients > 0, self.seconds > 0 else {
            throw ValidationError("rate, batch, organizations, clients and seconds must be positive")
        }
    }

    func run() async throws {
        try await withEventLoop { group in
            // All from one node, whose metrics tell how far its stores are.
            try await self.cluster.withCluster(connections: 8, on: group) { cluster in
                let keys = (self.first..<self.first + self.organizations).map { "projection-\($0)" }
                let appends = Appends(
                    cluster: cluster,
                    placements: try await cluster.place(keys),
                    maker: EventMaker(sizeBytes: self.size),
                    batch: self.batch,
                    toLeader: true
                )
                try await self.measure(cluster, appends)
            }
        }
    }

    private func measure(_ cluster: Cluster, _ appends: Appends) async throws {
        let clock = ContinuousClock()  // ambient-ok: a benchmark measures time
        let progress = ProjectionProgress(records: try await Self.projected(cluster))
        let start = clock.now
        let end = start + .seconds(self.warmUp + self.seconds)
        let pace = Duration.seconds(1) * Double(self.batch) / Double(self.rate)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for client in 0..<self.clients {
                group.addTask { [clients] in
                    var turn = client
                    while true {
                        let due = start + pace * turn
                        guard due < end else { return }
                        try await clock.sleep(until: due)
                        let sent = clock.now
                        let records = try await appends.perform(client: client, iteration: turn / clients)
                        progress.appended(records, sentAt: sent)
                        turn += clients
                    }
                }
            }
            group.addTask {
                try await clock.sleep(until: start + .seconds(self.warmUp))
                try await self.watch(cluster, progress, until: end, clock)
            }
            try await group.waitForAll()
        }
        let last = clock.now
        while progress.lag(projected: try await Self.projected(cluster), at: clock.now) != .zero {
            try await clock.sleep(for: Self.step)
        }
        print("all projected \(Format.fixed((clock.now - last) / .seconds(1), 2)) s after the last append")
    }

    private static let step = Duration.milliseconds(50)

    /// Asks again and again how much is projected.
    private func watch(
        _ cluster: Cluster,
        _ progress: ProjectionProgress,
        until end: ContinuousClock.Instant,
        _ clock: ContinuousClock
    ) async throws {
        let nodes = try await cluster.processes()
        let workers = Cluster.children(of: nodes)
        let (from, records) = (clock.now, progress.records)
        let (node, worker) = (CPUUsage.sample(processes: nodes), CPUUsage.sample(processes: workers))
        var lags = LatencyHistogram()
        while clock.now < end {
            let lag = progress.lag(projected: try await Self.projected(cluster), at: clock.now)
            lags.record(microseconds: UInt64(max(lag / .microseconds(1), 0)))
            try await clock.sleep(for: Self.step)
        }
        let seconds = (clock.now - from) / .seconds(1)
        let appended = Double(progress.records - records)
        let nodeCPU = CPUUsage.sample(processes: nodes).since(node, seconds: seconds)
        let workerCPU = CPUUsage.sample(processes: workers).since(worker, seconds: seconds)
        func each(_ share: CPUShare) -> String {
            Format.fixed(share.serversInCores * seconds / max(appended, 1) * 1_000_000, 2)
        }
        print("CPU of a record: nodes \(each(nodeCPU)) us, workers \(each(workerCPU)) us")
        try Measurement(
            system: "ours",
            name: "projection_lag",
            rate: appended / seconds,
            p50Microseconds: lags.value(at: 0.5),
            p99Microseconds: lags.value(at: 0.99),
            errors: 0,
            cpu: nodeCPU
        ).record(in: self.output.results)
    }

    /// Records that the node has projected since its start.
    private static func projected(_ cluster: Cluster) async throws -> Int {
        let text = String(buffer: try await cluster.body(of: "/metrics"))
        for line in text.split(separator: "\n") where line.hasPrefix("ft_projector_records ") {
            if let value = line.split(separator: " ").last.flatMap({ Double($0) }) { return Int(value) }
        }
        throw BenchError(.unexpectedAnswer, "the metrics have no ft_projector_records")
    }
}

/// When how many records were sent, to tell for how long the oldest one that is not projected has been there.
private final class ProjectionProgress: Sendable {
    private struct State {
        /// Records acknowledged so far, with the time at which the newest request among them was sent.
        var marks: [(records: Int, sentAt: ContinuousClock.Instant)] = []
        /// Marks that are projected.
        var passed = 0
    }

    private let state = Mutex(State())
    /// What the node had projected before.
    private let base: Int

    init(records: Int) { self.base = records }

    /// Acknowledged so far.
    var records: Int { self.state.withLock { $0.marks.last?.records ?? 0 } }

    func appended(_ records: Int, sentAt time: ContinuousClock.Instant) {
        self.state.withLock { $0.marks.append((($0.marks.last?.records ?? 0) + records, time)) }
    }

    /// How long ago the oldest acknowledged record was sent that may not be projected.
    func lag(projected: Int, at now: ContinuousClock.Instant) -> Duration {
        self.state.withLock { state in
            while state.passed < state.marks.count, state.marks[state.passed].records <= projected - self.base {
                state.passed += 1
            }
            guard state.passed < state.marks.count else { return .zero }
            return now - state.marks[state.passed].sentAt
        }
    }
}
