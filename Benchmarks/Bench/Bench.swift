internal import ArgumentParser
internal import Foundation
internal import NIOCore
internal import NIOPosix

/// The load driver of `make bench`; scripts/bench.sh starts the servers and calls its commands.
@main
struct Bench: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bench",
        abstract: "Drives Flask Track and its peers with the same load and compares what comes back.",
        subcommands: [
            EtcdCommand.self, AppendsCommand.self, FetchCommand.self, LoadCommand.self, QueryCommand.self,
            DuckDBCommand.self, ProjectionCommand.self, RecordCommand.self, ReportCommand.self, CoreCommand.self,
            LedgerCommand.self, LogCommand.self, ReferenceCommand.self, StatementsCommand.self,
        ]
    )
}

/// Where results go.
struct ResultsOption: ParsableArguments {
    @Option(help: "File that gets one JSON line for each measurement.")
    var results: String
}

/// How long a closed loop runs.
struct LoopOptions: ParsableArguments {
    @Option(help: "Clients, each with one request at a time; several counts are run one after the other.")
    var clients: [Int] = [64]
    @Option(help: "Seconds that are measured.")
    var seconds: Double = 8
    @Option(help: "Seconds before them.")
    var warmUp: Double = 2
    @Option(help: "Connections that the clients share, at most.")
    var connections = 8
    @Option(help: "Bytes of one value or event.")
    var size = 600

    func validate() throws {
        guard self.seconds > 0, self.warmUp >= 0, self.connections > 0, self.clients.allSatisfy({ $0 > 0 }) else {
            throw ValidationError("clients, seconds and connections must be positive")
        }
    }

    func loop(clients: Int, processes: [Int]) -> ClosedLoop {
        ClosedLoop(
            clients: clients,
            warmUp: .seconds(self.warmUp),
            duration: .seconds(self.seconds),
            processes: processes
        )
    }
}

/// Runs `body` with an event loop that the driver and its connections have to themselves.
func withEventLoop<Value: Sendable>(_ body: (any EventLoopGroup) async throws -> Value) async throws -> Value {
    let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
    do {
        let value = try await body(group)
        try await group.shutdownGracefully()
        return value
    } catch {
        try? await group.shutdownGracefully()
        throw error
    }
}

/// `bench etcd`: puts into etcd, on its leader.
struct EtcdCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "etcd", abstract: "Single puts into etcd over gRPC.")

    @Option(help: "A member's host:port; repeat it for all.")
    var endpoint: [String]
    @Option(help: "PEM file of the CA.")
    var ca: String
    @Option(help: "Process of a member, to report its CPU time.")
    var process: [Int] = []
    @OptionGroup var loop: LoopOptions
    @OptionGroup var output: ResultsOption

    func run() async throws {
        let endpoints = try self.endpoint.map { try Endpoint($0) }
        try await withEventLoop { group in
            let leader = try await self.leader(of: endpoints, on: group)
            for clients in self.loop.clients {
                let connections = try await Connections.open(
                    [leader],
                    count: min(clients, self.loop.connections),
                    caFile: self.ca,
                    on: group
                )
                let puts = EtcdPuts(
                    connections: connections,
                    leader: leader,
                    value: [UInt8](repeating: UInt8(ascii: "x"), count: self.loop.size)
                )
                let outcome = try await self.loop.loop(clients: clients, processes: self.process)
                    .run(puts, on: group.next())
                try Measurement(system: "etcd", name: "append_\(clients)", outcome: outcome)
                    .record(in: self.output.results)
                connections.close()
            }
        }
    }

    /// Waits until the members have been started and have elected a leader.
    private func leader(of endpoints: [Endpoint], on group: any EventLoopGroup) async throws -> Endpoint {
        var triesLeft = 100
        while true {
            do {
                let probes = try await Connections.open(endpoints, count: 1, caFile: self.ca, on: group)
                defer { probes.close() }
                return try await Etcd.leader(of: endpoints, connections: probes)
            } catch {
                triesLeft -= 1
                guard triesLeft > 0 else { throw error }
                try await Task.sleep(for: .milliseconds(200))
            }
        }
    }
}

/// The cluster that a command talks to.
struct ClusterOptions: ParsableArguments {
    @Option(help: "The client.yaml that ftnode dev wrote.")
    var context: String

    /// Opens at least one connection to each node.
    func withCluster(
        connections: Int,
        on group: any EventLoopGroup,
        _ body: (Cluster) async throws -> Void
    ) async throws {
        let context = try ClientContext(file: self.context)
        let connections = try await Connections.open(
            context.endpoints,
            count: connections,
            caFile: context.caFile,
            on: group
        )
        try await body(Cluster(context: context, connections: connections))
        connections.close()
    }
}

/// `bench appends`: appends to a cluster of ours.
struct AppendsCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "appends",
        abstract: "Appends of single events or batches to one organization or several."
    )

    @Option(help: "Events of one request.")
    var batch = 1
    @Option(help: "Organizations that the clients are spread over; each is ordered by a group of its own.")
    var organizations = 1
    @Flag(help: "Talk to any node in turns, not to the one that leads the organization's group.")
    var anyNode = false
    @Option(help: "Name of the measurement; default append_CLIENTS.")
    var name: String?
    @OptionGroup var cluster: ClusterOptions
    @OptionGroup var loop: LoopOptions
    @OptionGroup var output: ResultsOption

    func run() async throws {
        try await withEventLoop { group in
            for clients in self.loop.clients {
                // As many to each node as etcd's leader gets: an organization is served by one of them.
                let count = min(clients, self.loop.connections) * 3
                try await self.cluster.withCluster(connections: count, on: group) { cluster in
                    let keys = (1...max(1, self.organizations)).map { "bench-\($0)" }
                    let appends = Appends(
                        cluster: cluster,
                        placements: try await cluster.place(keys),
                        maker: EventMaker(sizeBytes: self.loop.size),
                        batch: self.batch,
                        toLeader: !self.anyNode
                    )
                    let nodes = try await cluster.processes()
                    let outcome = try await self.loop.loop(
                        clients: clients,
                        processes: nodes + Cluster.children(of: nodes)
                    ).run(appends, on: group.next())
                    try Measurement(system: "ours", name: self.name ?? "append_\(clients)", outcome: outcome)
                        .record(in: self.output.results)
                }
            }
        }
    }
}

/// `bench fetch`: the body of one GET, for the file that nghttpd serves.
struct FetchCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "fetch", abstract: "Saves the body of a GET.")

    @Option(help: "Path of the request.")
    var path: String
    @Option(help: "File to write.")
    var output: String
    @OptionGroup var cluster: ClusterOptions

    func run() async throws {
        try await withEventLoop { group in
            try await self.cluster.withCluster(connections: 1, on: group) { cluster in
                let body = try await cluster.body(of: self.path)
                try Data(body.readableBytesView).write(to: URL(fileURLWithPath: self.output))
            }
        }
    }
}

/// `bench record`: a rate that another program measured.
struct RecordCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "record",
        abstract: "Adds a rate that another program measured."
    )

    @Option(help: "Whose rate it is.")
    var system: String
    @Option(help: "What was measured.")
    var name: String
    @Option(help: "Operations a second.")
    var rate: Double
    @Option(help: "Failed operations.")
    var errors = 0
    @OptionGroup var output: ResultsOption

    func run() throws {
        try Measurement(
            system: self.system,
            name: self.name,
            rate: self.rate,
            errors: self.errors,
            firstError: self.errors > 0 ? "answers that were not 2xx" : nil
        ).record(in: self.output.results)
    }
}

/// `bench report`: the table and the last line.
struct ReportCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "report",
        abstract: "Prints the table, and as the last line one JSON object."
    )

    @OptionGroup var output: ResultsOption

    func run() throws {
        print(try Report(measurements: try Measurement.read(self.output.results)).text())
    }
}
