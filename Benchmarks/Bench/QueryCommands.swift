internal import ArgumentParser
internal import Columnar
internal import Foundation
internal import HTTPTypes
internal import NIOCore

/// The statement that both sides run.
private let statement = """
    select action, count(*) as n, count(distinct entity_id) as entities, max(sequence) as last \
    from audit_log group by action order by n desc, action
    """

/// How often a statement runs.
struct RunsOption: ParsableArguments {
    @Option(help: "Runs that count; the median is reported.")
    var runs = 21
    @Option(help: "Runs before them.")
    var warmUpRuns = 5

    /// The median time of `body`, in milliseconds.
    func median(_ body: () async throws -> Void) async throws -> Double {
        let clock = ContinuousClock()  // ambient-ok: a benchmark measures time
        var times: [Double] = []
        for run in 0..<(self.warmUpRuns + max(self.runs, 1)) {
            let begin = clock.now
            try await body()
            if run >= self.warmUpRuns { times.append((clock.now - begin) / .milliseconds(1)) }
        }
        return times.sorted()[times.count / 2]
    }
}

/// `bench load`: rows for the query.
struct LoadCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "load",
        abstract: "Appends events to one organization, in batches."
    )

    @Option(help: "Key of the organization.")
    var org: String
    @Option(help: "How many events.")
    var rows = 45_000
    @Option(help: "Bytes of one event.")
    var size = 600
    @OptionGroup var cluster: ClusterOptions

    func run() async throws {
        let batch = 500
        try await withEventLoop { group in
            try await self.cluster.withCluster(connections: 3, on: group) { cluster in
                let appends = Appends(
                    cluster: cluster,
                    placements: try await cluster.place([self.org]),
                    maker: EventMaker(sizeBytes: self.size),
                    batch: batch,
                    toLeader: true
                )
                for iteration in 0..<((self.rows + batch - 1) / batch) {
                    _ = try await appends.perform(client: 0, iteration: iteration)
                }
            }
        }
    }
}

/// `bench query`: the time of the statement through the API.
struct QueryCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "query",
        abstract: "Time of a statement over one organization, through the API."
    )

    @Option(help: "Key of the organization.")
    var org: String
    @Option(help: "File that gets the rows of the result, to compare both sides.")
    var rowsFile: String
    @OptionGroup var runs: RunsOption
    @OptionGroup var cluster: ClusterOptions
    @OptionGroup var output: ResultsOption

    func run() async throws {
        try await withEventLoop { group in
            try await self.cluster.withCluster(connections: 1, on: group) { cluster in
                let leader = try await cluster.place([self.org]).first?.leader
                let target = cluster.connections.pick(0, to: leader)
                for (name, consistency) in [("query_one", "linearizable"), ("query_one_eventual", "eventual")] {
                    let request: [String: Any] = [
                        "sql": statement, "organizations": [self.org], "consistency": consistency, "format": "csv",
                    ]
                    let body = ByteBuffer(bytes: try JSONSerialization.data(withJSONObject: request))
                    var rows = ByteBuffer()
                    let median = try await self.runs.median {
                        rows = try await cluster.post(
                            "/v1/query",
                            type: "application/json",
                            body: body,
                            expecting: .ok,
                            over: target
                        )
                    }
                    try Measurement(system: "ours", name: name, milliseconds: median).record(in: self.output.results)
                    try Data(rows.readableBytesView).write(to: URL(fileURLWithPath: self.rowsFile))
                }
            }
        }
    }
}

/// `bench duckdb`: the time of the same statement in process.
struct DuckDBCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "duckdb",
        abstract: "Time of the same statement in DuckDB, in process, on a copy of the file."
    )

    @Option(help: "Copy of the organization's columnar store.")
    var file: String
    @Option(help: "The rows that the API gave; they must be the same.")
    var rowsFile: String
    @OptionGroup var runs: RunsOption
    @OptionGroup var output: ResultsOption

    func run() async throws {
        let threads = ColumnarThreads()
        let store = try await ColumnarStore.open(
            .file(self.file),
            configuration: ColumnarConfiguration(
                access: .trusted,
                memoryLimitBytes: 1 << 30,
                threads: ProcessInfo.processInfo.activeProcessorCount
            ),
            threads: threads
        )
        var rows: [UInt8] = []
        let median = try await self.runs.median {
            let result = try await store.query(statement)
            var encoder = try ResultEncoder(format: .csv, schema: result.schema)
            rows = encoder.start()
            for try await batch in result.batches { rows += try encoder.encode(batch) }
            rows += encoder.finish()
        }
        await store.close()
        await threads.shutdown()
        let theirs = Self.lines(rows)
        let ours = Self.lines(FileManager.default.contents(atPath: self.rowsFile) ?? Data())
        guard theirs.count > 1, theirs == ours else {
            let place = zip(theirs, ours).first { $0 != $1 }.map { "'\($0)' against '\($1)'" }
            throw BenchError(
                .unexpectedAnswer,
                "DuckDB's rows differ from those of the API: \(place ?? "\(theirs.count) lines against \(ours.count)")"
            )
        }
        try Measurement(system: "duckdb", name: "query_one", milliseconds: median).record(in: self.output.results)
    }

    private static func lines(_ text: some Collection<UInt8>) -> [String] {
        String(decoding: text, as: UTF8.self).split(whereSeparator: \.isNewline).map(String.init)
    }
}
