internal import ArgumentParser
internal import Foundation
internal import NIOCore
internal import NodeRuntime

/// Asks questions in SQL.
struct QueryCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "query",
        abstract: "Run one SELECT over the records of organizations.",
        discussion: """
            The table audit_log has a column for each field of a record; entities is what the records make of each \
            entity, entity_history what it was, and each type of entity has a view with typed columns. Without --org \
            a statement covers every organization that the token may see.

            Examples:
              ftnode query "select organization, count(*) from audit_log group by all"
              ftnode query "select * from audit_log" --org lab-a --format parquet --output lab-a.parquet
              ftnode query "select * from sample" --org lab-a --as-of 2026-01-31T12:00:00Z
              ftnode query "select max(sequence) from audit_log" --org lab-a --consistency lab-a=517
              ftnode query "select action, count(*) from audit_log group by all" --explain
              ftnode query "select max(recorded_at) from audit_log" --watch 2
            """
    )

    @OptionGroup var connection: ConnectionOptions
    @Argument(help: "The statement, or - to read it from standard input.")
    var sql: String
    @Option(help: ArgumentHelp("Only this organization; may be repeated.", valueName: "key"))
    var org: [String] = []
    @Option(
        help: ArgumentHelp(
            "linearizable, eventual, or KEY=SEQUENCE,… to see at least these.",
            valueName: "consistency"
        )
    )
    var consistency = "linearizable"
    @Option(
        help: ArgumentHelp(
            "Everything as it was at this time (RFC 3339), or after this record: a sequence, or KEY=SEQUENCE,….",
            valueName: "moment"
        )
    )
    var asOf: String?
    @Option(help: "The form of the result.")
    var format = QueryFormat.table
    @Option(help: ArgumentHelp("Write the result to this file instead of standard output.", valueName: "file"))
    var output: String?

    @Option(
        help: ArgumentHelp(
            "A value for the next ? of the statement; may be repeated. Numbers, true, false and null are themselves.",
            valueName: "value"
        )
    )
    var param: [String] = []
    @Flag(help: "Gather the rows and run the statement over them, whatever would be cheaper: to check the other plans.")
    var gather = false
    @Flag(help: "Show how the statement would be answered, without running it.")
    var explain = false
    @Flag(help: "Run the statement and show how it was answered and what it cost.")
    var analyze = false
    @Flag(help: "Say on standard error how long it took.")
    var timing = false
    @Option(help: ArgumentHelp("Run it again every so many seconds, until Ctrl-C.", valueName: "seconds"))
    var watch: Double?

    mutating func validate() throws {
        if let watch = self.watch, !(0.1...86_400).contains(watch) {
            throw ValidationError("--watch must be from 0.1 to 86400 seconds")
        }
        if self.watch != nil, self.output != nil {
            throw ValidationError("--watch is for the terminal, not for --output")
        }
        if self.explain, self.analyze { throw ValidationError("--explain or --analyze, not both") }
        guard QueryCall.consistencyJSON(self.consistency) != nil else {
            throw ValidationError("--consistency must be linearizable, eventual or KEY=SEQUENCE,…")
        }
    }

    mutating func run() async throws {
        if QueryCall.binaryFormats.contains(self.format.rawValue), self.output == nil, Terminal.outIsTerminal {
            Terminal.complain(
                "\(self.format.rawValue) is not for a terminal; give --output FILE or redirect the output"
            )
            throw ExitCode(ExitStatus.wrongUsage)
        }
        var sql = self.sql
        if sql == "-" {
            sql = String(decoding: try FileHandle.standardInput.readToEnd() ?? Data(), as: UTF8.self)
        }
        let prefix = self.analyze ? "EXPLAIN ANALYZE " : self.explain ? "EXPLAIN " : ""
        var call = QueryCall(
            sql: prefix + sql,
            organizations: self.org,
            consistency: self.consistency,
            format: self.format.rawValue
        )
        call.asOf = self.asOf
        call.parameters = self.param
        call.gathers = self.gather
        let (output, timing, watch) = (self.output, self.timing, self.watch)
        try await self.connection.withClient { client in
            guard let output else {
                while true {
                    if watch != nil, Terminal.outIsTerminal { Terminal.out("\u{1B}[2J\u{1B}[H") }
                    let start = CommandEnvironment.uptimeSeconds()
                    let plan = try await Self.run(call, client, to: STDOUT_FILENO, endsLine: call.format == "json")
                    if timing || watch != nil { Terminal.timing(since: start, plan: plan) }
                    guard let watch else { return }
                    try await Task.sleep(for: .seconds(watch))
                }
            }
            let start = CommandEnvironment.uptimeSeconds()
            let sink = try OutputFile(path: output)
            let plan = try await Self.run(call, client, to: sink.descriptor, endsLine: false)
            try sink.commit()
            if timing { Terminal.timing(since: start, plan: plan) }
        }
    }

    private static func run(
        _ call: QueryCall,
        _ client: ClusterClient,
        to descriptor: Int32,
        endsLine: Bool
    ) async throws -> String? {
        var last = UInt8(ascii: "\n")
        let plan = try await client.query(call) { chunk in
            last = chunk.readableBytesView.last ?? last
            try Terminal.write(Array(chunk.readableBytesView), to: descriptor)
        }
        if endsLine, last != UInt8(ascii: "\n") { try Terminal.write([UInt8(ascii: "\n")], to: descriptor) }
        return plan
    }
}

/// A file that appears, or is replaced, only when it is complete.
final class OutputFile {
    let descriptor: Int32
    private let path: String
    private let temporary: String

    init(path: String) throws {
        self.path = path
        self.temporary = "\(path).\(getpid()).tmp"
        self.descriptor = open(self.temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
        guard self.descriptor >= 0 else {
            throw CommandFailure("cannot write \(path): \(String(cString: strerror(errno)).lowercased())")
        }
    }

    /// Gives the file its name.
    func commit() throws {
        guard fsync(self.descriptor) == 0 || errno == EINVAL, rename(self.temporary, self.path) == 0 else {
            throw CommandFailure("cannot write \(self.path): \(String(cString: strerror(errno)).lowercased())")
        }
    }

    deinit {
        close(self.descriptor)
        unlink(self.temporary)
    }
}
