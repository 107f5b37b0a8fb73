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
            The table audit_log has a column for each field of a record, and the column organization. Without --org \
            it covers every organization that the token may see.

            Examples:
              ftnode query "select organization, count(*) from audit_log group by all"
              ftnode query "select * from audit_log" --org lab-a --format parquet --output lab-a.parquet
              ftnode query "select max(sequence) from audit_log" --org lab-a --consistency lab-a=517
            """
    )

    enum Format: String, ExpressibleByArgument, CaseIterable {
        case table
        case json
        case ndjson
        case csv
        case arrow
        case parquet
    }

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
    @Option(help: "The form of the result.")
    var format = Format.table
    @Option(help: ArgumentHelp("Write the result to this file instead of standard output.", valueName: "file"))
    var output: String?

    mutating func validate() throws {
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
        let call = QueryCall(
            sql: sql,
            organizations: self.org,
            consistency: self.consistency,
            format: self.format.rawValue
        )
        let output = self.output
        try await self.connection.withClient { client in
            guard let output else {
                return try await Self.run(call, client, to: STDOUT_FILENO, endsLine: call.format == "json")
            }
            let sink = try OutputFile(path: output)
            try await Self.run(call, client, to: sink.descriptor, endsLine: false)
            try sink.commit()
        }
    }

    private static func run(
        _ call: QueryCall,
        _ client: ClusterClient,
        to descriptor: Int32,
        endsLine: Bool
    ) async throws {
        var last = UInt8(ascii: "\n")
        try await client.query(call) { chunk in
            last = chunk.readableBytesView.last ?? last
            try Terminal.write(Array(chunk.readableBytesView), to: descriptor)
        }
        if endsLine, last != UInt8(ascii: "\n") { try Terminal.write([UInt8(ascii: "\n")], to: descriptor) }
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
