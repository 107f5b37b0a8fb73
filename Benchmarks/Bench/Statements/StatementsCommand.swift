internal import ArgumentParser
internal import Columnar
internal import Foundation
internal import NIOCore

/// `bench reference`: one DuckDB with the rows of all organizations, made of their closed columnar stores.
struct ReferenceCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "reference",
        abstract: "Makes one DuckDB file of the columnar stores of all organizations, and one of the first."
    )

    @Option(help: "Folder of the cluster that ftnode dev made; it must be stopped.")
    var data: String
    @Option(help: "Folder that gets all.duckdb and one.duckdb.")
    var output: String
    @OptionGroup var options: LogOptions

    /// Tables of a store that hold rows; the others are views of these.
    private static let tables = ["audit_log", "entities", "_entity_history"]

    func run() async throws {
        let threads = ColumnarThreads()
        try FileManager.default.createDirectory(atPath: self.output, withIntermediateDirectories: true)
        let events = UInt64(self.options.log.count)
        var found = 0
        var all: ColumnarStore?
        var number = 0
        while found < self.options.organizations {
            number += 1
            let copy = "\(self.output)/part.duckdb"
            guard try await self.copyFolded(number, to: copy, events: events, threads) else {
                guard number < self.options.organizations * 2 + 16 else {
                    throw BenchError(
                        .unexpectedAnswer,
                        "\(found) of \(self.options.organizations) organizations have a store with \(events) folded records"
                    )
                }
                continue
            }
            found += 1
            if let store = all {
                try await store.execute("ATTACH \(quoteLiteral(copy)) AS part (READ_ONLY)")
                for table in Self.tables { try await store.execute("INSERT INTO \(table) SELECT * FROM part.\(table)") }
                try await store.execute("DETACH part")
            } else {
                try FileManager.default.copyItem(atPath: copy, toPath: "\(self.output)/one.duckdb")
                try FileManager.default.moveItem(atPath: copy, toPath: "\(self.output)/all.duckdb")
                all = try await Self.open("\(self.output)/all.duckdb", threads)
            }
            try? FileManager.default.removeItem(atPath: copy)
        }
        try await all?.checkpoint()
        await all?.close()
        await threads.shutdown()
    }

    static func open(_ file: String, _ threads: ColumnarThreads) async throws -> ColumnarStore {
        try await ColumnarStore.open(
            .file(file),
            configuration: ColumnarConfiguration(
                access: .trusted,
                memoryLimitBytes: 4 << 30,
                threads: ProcessInfo.processInfo.activeProcessorCount,
                temporaryDirectory: file + ".spill",
                temporaryBytesMax: 16 << 30,
                timeLimit: .seconds(600)
            ),
            threads: threads
        )
    }

    /// Copies the store of an organization from the first node where it has all records, folded; false when none has.
    private func copyFolded(
        _ number: Int,
        to copy: String,
        events: UInt64,
        _ threads: ColumnarThreads
    ) async throws -> Bool {
        for node in 1...9 {
            let file = "\(self.data)/nodes/\(node)/data/columnar/organization-\(number).duckdb"
            guard FileManager.default.fileExists(atPath: file) else { continue }
            for suffix in ["", ".wal"] {
                try? FileManager.default.removeItem(atPath: copy + suffix)
                guard FileManager.default.fileExists(atPath: file + suffix) else { continue }
                try FileManager.default.copyItem(atPath: file + suffix, toPath: copy + suffix)
            }
            let store = try await Self.open(copy, threads)
            let answer = try await store.query(
                """
                SELECT CAST((SELECT position FROM _datasets) AS BIGINT), CAST(count(*) AS BIGINT),
                count(*) FILTER (WHERE organization LIKE 'log-%') FROM audit_log
                """,
                origin: .router
            ).collect()
            await store.close()
            let numbers = answer.first.map { batch in (0..<3).map { batch.int64(row: 0, column: $0) ?? 0 } } ?? []
            // Reading is on record too, in organizations of its own kind: only the log's own are wanted.
            guard numbers.count == 3, numbers[1] >= Int64(events), numbers[2] == numbers[1] else { continue }
            if numbers[0] == numbers[1] { return true }
        }
        return false
    }
}

/// `bench statements`: every statement through the API and in DuckDB, in one process, side by side.
struct StatementsCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "statements",
        abstract: "Times of sets of statements over one organization and all, beside DuckDB, with equal answers."
    )

    @Option(help: "Folder with the sets (.sql).")
    var queries: String
    @Option(help: "Folder that bench reference wrote.")
    var reference: String
    @OptionGroup var options: LogOptions
    @OptionGroup var runs: RunsOption
    @Flag(help: "Leave out the run over one organization.")
    var onlyAll = false
    @Flag(help: "Have each statement's rows gathered too, once, and compare that answer.")
    var gather = false
    @OptionGroup var cluster: ClusterOptions
    @OptionGroup var output: ResultsOption

    private struct Line {
        var statement: NamedStatement
        var plan: String
        var ours: Double
        var theirs: Double
        var gathered: String
        var rows: Int
    }

    func run() async throws {
        let statements = try NamedStatement.read(folder: self.queries)
        let threads = ColumnarThreads()
        try await withEventLoop { group in
            try await self.cluster.withCluster(connections: 1, on: group) { cluster in
                if !self.onlyAll {
                    let store = try await ReferenceCommand.open("\(self.reference)/one.duckdb", threads)
                    try await self.compare(statements, cluster, store)
                    await store.close()
                }
                if self.options.organizations > 1 {
                    let store = try await ReferenceCommand.open("\(self.reference)/all.duckdb", threads)
                    try await self.compare(statements, cluster, store)
                    await store.close()
                }
            }
        }
        await threads.shutdown()
    }

    private func compare(
        _ statements: [NamedStatement],
        _ cluster: Cluster,
        _ store: ColumnarStore
    ) async throws {
        let last = try await self.lastRecords(store)
        let count = last.count
        let rows = count * self.options.log.count
        print(
            "statements over \(count) organization\(count == 1 ? "" : "s"), \(rows) records (ms, medians of \(self.runs.runs))"
        )
        print(
            Format.column("", 44, left: true) + Format.column("rows", 7) + Format.column("plan", 9)
                + Format.column("ours", 10)
                + Format.column("duckdb", 10) + Format.column("ratio", 8) + Format.column("gathered", 12)
        )
        var lines: [Line] = []
        for statement in statements {
            let line = try await self.measure(statement, last, cluster, store)
            print(
                Format.column("\(statement.set): \(statement.name)", 44, left: true) + Format.column("\(line.rows)", 7)
                    + Format.column(line.plan, 9) + Format.column(Format.fixed(line.ours, 1), 10)
                    + Format.column(Format.fixed(line.theirs, 1), 10)
                    + Format.column(Format.fixed(line.ours / line.theirs, 2), 8) + Format.column(line.gathered, 12)
            )
            lines.append(line)
            let name = "statement_\(count)_\(statement.set)_\(statement.name.replacing(" ", with: "_"))"
            try Measurement(system: "ours", name: name, milliseconds: line.ours).write(to: self.output.results)
            try Measurement(system: "duckdb", name: name, milliseconds: line.theirs).write(to: self.output.results)
        }
        self.summarize(lines, organizations: count)
    }

    private func measure(
        _ statement: NamedStatement,
        _ last: [String: UInt64],
        _ cluster: Cluster,
        _ store: ColumnarStore
    ) async throws -> Line {
        let target = cluster.connections.pick(0)
        let organizations = last.keys.sorted()
        var plan = ""
        let ours = try await self.runs.median {
            do {
                plan = try await cluster.query(statement.sql, organizations: organizations, over: target).plan
            } catch {
                throw BenchError(.refused, "'\(statement.name)' of \(statement.set) failed: \(error)", cause: error)
            }
        }
        var rows: [UInt8] = []
        let theirs = try await self.runs.median {
            let result = try await store.query(statement.sql)
            var encoder = try ResultEncoder(format: .csv, schema: result.schema)
            rows = encoder.start()
            for try await batch in result.batches { rows += try encoder.encode(batch) }
            rows += encoder.finish()
        }
        let expected = AnswerRows(csv: rows)
        // Reading is on record, so that there are more records by now: answers are compared as of the reference.
        let answer = try await cluster.query(statement.sql, organizations: organizations, asOf: last, over: target)
        if let difference = AnswerRows(csv: answer.rows.readableBytesView).difference(from: expected) {
            throw BenchError(
                .unexpectedAnswer,
                "'\(statement.name)' of \(statement.set) (\(answer.plan)) differs from DuckDB: \(difference)"
            )
        }
        return Line(
            statement: statement,
            plan: plan,
            ours: ours,
            theirs: theirs,
            gathered: try await self.gathered(statement, organizations, cluster),
            rows: expected.count
        )
    }

    /// The last record of each organization in the reference.
    private func lastRecords(_ store: ColumnarStore) async throws -> [String: UInt64] {
        var last: [String: UInt64] = [:]
        let result = try await store.query(
            "SELECT organization, CAST(max(sequence) AS BIGINT) FROM audit_log GROUP BY organization"
        )
        for try await batch in result.batches {
            for row in 0..<batch.rowCount {
                last[batch.string(row: row, column: 0) ?? ""] = UInt64(clamping: batch.int64(row: row, column: 1) ?? 0)
            }
        }
        return last
    }

    /// The time of one gathered run, or what refused it: rows that are too many are not gathered.
    private func gathered(
        _ statement: NamedStatement,
        _ organizations: [String],
        _ cluster: Cluster
    ) async throws -> String {
        guard self.gather, organizations.count > 1 else { return "" }
        let clock = ContinuousClock()  // ambient-ok: a benchmark measures time
        let begin = clock.now
        do {
            _ = try await cluster.query(
                statement.sql,
                organizations: organizations,
                plan: "gather",
                over: cluster.connections.pick(0)
            )
        } catch let error as BenchError where error.code == .refused {
            return "refused"
        }
        return Format.fixed((clock.now - begin) / .milliseconds(1), 0)
    }

    /// How many statements are within the bars.
    private func summarize(_ lines: [Line], organizations: Int) {
        let ratios = lines.map { $0.ours / $0.theirs }.sorted()
        let mean = exp(ratios.reduce(0) { $0 + log($1) } / Double(max(ratios.count, 1)))
        let (shortMax, longRatio, allRatio, overheadEach) = (50.0, 1.15, 1.3, 2.0)
        let long = lines.filter { $0.theirs >= shortMax }
        let short = lines.filter { $0.theirs < shortMax }
        var text =
            "ratios: geometric mean \(Format.fixed(mean, 2)), median \(Format.fixed(ratios[ratios.count / 2], 2)); "
        switch organizations {
        case 1:
            text +=
                "\(long.filter { $0.ours <= $0.theirs * longRatio }.count) of \(long.count) from 50 ms on within 1.15 times, "
            text += "\(short.filter { $0.ours <= $0.theirs + 5 }.count) of \(short.count) shorter ones within 5 ms more"
        default:
            text += "\(lines.filter { $0.ours <= $0.theirs * allRatio }.count) of \(lines.count) within 1.3 times, "
            let bound = overheadEach * Double(organizations)
            text += "\(lines.filter { $0.ours <= $0.theirs + bound }.count) within 2 ms an organization more"
        }
        print(text)
    }
}
