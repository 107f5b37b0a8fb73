internal import ArgumentParser
internal import Foundation
internal import HTTPTypes
internal import NIOCore

/// How many organizations, and their events.
struct LogOptions: ParsableArguments {
    @Option(help: "Organizations; they are named log-1, log-2, …")
    var organizations = 8
    @Option(help: "Events of all organizations together.")
    var rows = 1_000_000
    @Option(help: "What the events are made from.")
    var seed: UInt64 = 20_260_131

    func validate() throws {
        guard self.organizations > 0, self.rows >= self.organizations * 3 else {
            throw ValidationError("each organization needs three events at least")
        }
    }

    var keys: [String] { (1...self.organizations).map { "log-\($0)" } }
    var log: EventLog { EventLog(count: self.rows / self.organizations, seed: self.seed) }
}

/// `bench log`: appends the log of events, and has every organization's entities folded.
struct LogCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "log",
        abstract: "Appends a generated log of events, in batches, to each organization."
    )

    @OptionGroup var options: LogOptions
    @Option(help: "Events of one request.")
    var batch = 1_000
    @Option(help: "Organizations that are filled at a time.")
    var clients = 8
    @OptionGroup var cluster: ClusterOptions
    @OptionGroup var output: ResultsOption

    func run() async throws {
        try await withEventLoop { group in
            try await self.cluster.withCluster(connections: self.clients * 3, on: group) { cluster in
                let clock = ContinuousClock()  // ambient-ok: a benchmark measures time
                let placements = try await cluster.place(self.options.keys)
                let begin = clock.now
                try await withThrowingTaskGroup(of: Void.self) { tasks in
                    for (index, placement) in placements.enumerated() {
                        if index >= self.clients { try await tasks.next() }
                        tasks.addTask { try await self.fill(index, placement, cluster) }
                    }
                    try await tasks.waitForAll()
                }
                let rows = self.options.log.count * self.options.organizations
                try Measurement(
                    system: "ours",
                    name: "log_append_\(self.options.organizations)",
                    rate: Double(rows) / ((clock.now - begin) / .seconds(1))
                ).record(in: self.output.results)
            }
            try await self.fold(group)
        }
    }

    private func fill(_ index: Int, _ placement: Cluster.Placement, _ cluster: Cluster) async throws {
        let log = self.options.log
        var number = 0
        while number < log.count {
            let end = min(number + self.batch, log.count)
            var text = ""
            for event in number..<end {
                log.write(event, of: index + 1, into: &text)
                text += "\n"
            }
            _ = try await cluster.post(
                "/v1/organizations/\(placement.key)/records",
                type: "application/x-ndjson",
                body: ByteBuffer(string: text),
                expecting: .created,
                over: cluster.connections.pick(index, to: placement.leader)
            )
            number = end
        }
    }

    /// The first statement that reads entities waits for their folding.
    private func fold(_ group: any EventLoopGroup) async throws {
        let clock = ContinuousClock()  // ambient-ok: a benchmark measures time
        let begin = clock.now
        for key in self.options.keys {
            // A statement's time limit may end before a long fold does; what was folded stays. Nodes close connections that
            // are silent for long, so each try has its own.
            var triesLeft = 60
            while true {
                do {
                    try await self.cluster.withCluster(connections: 1, on: group) { cluster in
                        let answer = try await cluster.query(
                            "select count(*) as n from entities",
                            organizations: [key],
                            over: cluster.connections.pick(0)
                        )
                        guard answer.rows.readableBytes > 0 else { throw BenchError(.unexpectedAnswer, "no rows") }
                    }
                    break
                } catch {
                    triesLeft -= 1
                    guard triesLeft > 0 else { throw error }
                }
            }
        }
        try Measurement(
            system: "ours",
            name: "log_fold_\(self.options.organizations)",
            milliseconds: (clock.now - begin) / .milliseconds(1)
        ).record(in: self.output.results)
    }
}

extension Cluster {
    /// Runs a statement; the rows as CSV and the plan.
    func query(
        _ sql: String,
        organizations: [String]?,
        plan: String = "automatic",
        asOf: [String: UInt64]? = nil,
        over target: Connections.Target
    ) async throws -> (rows: ByteBuffer, plan: String) {
        var request: [String: Any] = ["sql": sql, "plan": plan, "consistency": "linearizable", "format": "csv"]
        if let organizations { request["organizations"] = organizations }
        if let asOf { request["as_of"] = asOf }
        let body = ByteBuffer(bytes: try JSONSerialization.data(withJSONObject: request))
        let answer = try await self.exchange("/v1/query", type: "application/json", body: body, over: target)
        return (answer.body, answer.head.headerFields[Self.planHeader] ?? "?")
    }
}
