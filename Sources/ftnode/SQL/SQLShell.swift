internal import Dispatch
internal import Foundation
internal import NIOCore
internal import NodeRuntime
internal import Synchronization

/// What statements of a shell are sent with.
struct ShellSettings: Sendable {
    var organizations: [String]
    var consistency: String
    var format: QueryFormat
    var showsTime = true
}

/// A value that threads share.
private final class Shared<Value: Sendable>: Sendable {
    private let state: Mutex<Value>

    init(_ value: Value) { self.state = Mutex(value) }

    var value: Value { self.state.withLock { $0 } }
    func set(_ value: Value) { self.state.withLock { $0 = value } }
}

/// Reads statements and commands, runs them, and shows what comes.
@MainActor
final class SQLShell {
    /// Between two runs of `\watch`, in seconds.
    private static let watchSeconds = 2.0

    private let client: ClusterClient
    private var settings: ShellSettings
    private var input = ShellInput()
    private var last: String?
    private var output: OutputFile?
    private let completion = Shared(ShellCompletion())

    init(client: ClusterClient, settings: ShellSettings) {
        self.client = client
        self.settings = settings
    }

    // MARK: With a person

    /// Converses on the terminal until the person leaves.
    func converse() async throws {
        let path = Self.historyFile()
        let editor = LineEditor(historyFile: path) { @Sendable [completion] word, before in
            completion.value.candidates(for: word, before: before)
        }
        let running = Shared<Task<Void, any Error>?>(nil)
        // Ctrl-C ends the statement that runs, or the line that is typed.
        signal(SIGINT, SIG_IGN)
        let interrupts = DispatchSource.makeSignalSource(signal: SIGINT, queue: DispatchQueue(label: "interrupts"))
        interrupts.setEventHandler { @Sendable in
            if let task = running.value { task.cancel() } else { editor.interrupt() }
        }
        interrupts.resume()
        defer { interrupts.cancel() }
        Terminal.out("ftnode \(ProductVersion.text): \\? for help, \\q to leave\n")
        await self.learnNames()
        while true {
            switch await editor.readLine(prompt: self.prompt) {
            case .end:
                Terminal.out("\n")
                return
            case .interrupted:
                Terminal.out("^C\n")
                self.input.clear()
            case .text(let line):
                let begun = self.input.pending
                let items = self.input.add(line)
                if !items.isEmpty { editor.remember(begun.isEmpty ? line : begun + "\n" + line) }
                for item in items {
                    if case .command("q", _) = item { return }
                    // Ctrl-C cancels it.
                    let task = Task { @MainActor in try await self.perform(item) }  // task-owner: awaited below
                    running.set(task)
                    let result = await task.result
                    running.set(nil)
                    if case .failure(let error) = result {
                        if task.isCancelled { Terminal.note("cancelled") } else { _ = CommandRun.report(error) }
                        break
                    }
                }
            }
        }
    }

    private var prompt: String {
        let scope =
            switch self.settings.organizations.count {
            case 0: "all"
            case 1: self.settings.organizations[0]
            default: "\(self.settings.organizations.count) organizations"
            }
        let mark =
            switch self.input.middle {
            case .nothing: "=>"
            case .statement: "->"
            case .text: "'>"
            case .name: "\">"
            case .comment: "*>"
            case .dollars: "$>"
            }
        return "\(scope)\(mark) "
    }

    private static func historyFile() -> String? {
        let environment = CommandEnvironment.all
        if let named = environment["FTNODE_SQL_HISTORY"] { return named.isEmpty ? nil : named }
        guard let home = environment["HOME"], !home.isEmpty else { return nil }
        let folder =
            (environment["XDG_STATE_HOME"].flatMap { $0.isEmpty ? nil : $0 } ?? home + "/.local/state") + "/ftnode"
        try? FileManager.default.createDirectory(
            atPath: folder,
            withIntermediateDirectories: true,
            attributes: [.posixPermissions: 0o700]
        )
        return folder + "/sql_history"
    }

    /// Asks for what can be completed; a cluster that cannot tell now is no reason not to begin.
    private func learnNames() async {
        let tables = try? await self.column(
            "SELECT DISTINCT name FROM (SELECT table_name AS name FROM information_schema.tables "
                + "UNION SELECT column_name FROM information_schema.columns) ORDER BY name"
        )
        let organizations = try? await self.client.organizations().list.map(\.key)
        self.completion.set(ShellCompletion(names: tables ?? [], organizations: (organizations ?? []) + ["all"]))
    }

    /// The first column of an answer.
    private func column(_ sql: String) async throws -> [String] {
        struct Rows: Decodable { var rows: [[String?]] }
        var bytes: [UInt8] = []
        var call = self.call(sql)
        call.format = "json"
        try await self.client.query(call) { bytes.append(contentsOf: $0.readableBytesView) }
        return try JSONDecoder().decode(Rows.self, from: Data(bytes)).rows.compactMap { $0.first ?? nil }
    }

    // MARK: Without

    /// Runs what `file` holds; the first failure ends it.
    func run(script file: FileHandle) async throws {
        self.settings.showsTime = false
        let text = String(decoding: try file.readToEnd() ?? Data(), as: UTF8.self)
        for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
            for item in self.input.add(String(line)) {
                if case .command("q", _) = item { return }
                try await self.perform(item)
            }
        }
        if let item = self.input.finish() { try await self.perform(item) }
    }

    // MARK: Both

    private func perform(_ item: ShellInput.Item) async throws {
        switch item {
        case .statement(let sql):
            self.last = sql
            try await self.run(sql)
        case .command(let word, let arguments): try await self.perform(word, arguments)
        }
    }

    private func call(_ sql: String) -> QueryCall {
        QueryCall(
            sql: sql,
            organizations: self.settings.organizations,
            consistency: self.settings.consistency,
            format: self.settings.format.rawValue
        )
    }

    private func run(_ sql: String) async throws {
        let start = CommandEnvironment.uptimeSeconds()
        var lastByte = UInt8(ascii: "\n")
        let descriptor = self.output?.descriptor ?? STDOUT_FILENO
        let plan = try await self.client.query(self.call(sql)) { chunk in
            lastByte = chunk.readableBytesView.last ?? lastByte
            try Terminal.write(Array(chunk.readableBytesView), to: descriptor)
        }
        if lastByte != UInt8(ascii: "\n") { try Terminal.write([UInt8(ascii: "\n")], to: descriptor) }
        guard self.settings.showsTime else { return }
        Terminal.timing(since: start, plan: plan)
    }

    private func perform(_ word: String, _ arguments: [String]) async throws {
        switch word {
        case "?", "h", "help": Terminal.out(ShellCommand.help)
        case "d": try await self.run(ShellCommand.listing(of: arguments.first))
        case "org":
            if !arguments.isEmpty { self.settings.organizations = arguments == ["all"] ? [] : arguments }
            let now = self.settings.organizations
            Terminal.out((now.isEmpty ? "all organizations of the token" : now.joined(separator: " ")) + "\n")
        case "consistency":
            if let wanted = arguments.first {
                guard QueryCall.consistencyJSON(wanted) != nil else {
                    throw CommandFailure("linearizable, eventual or KEY=SEQUENCE,…")
                }
                self.settings.consistency = wanted
            }
            Terminal.out(self.settings.consistency + "\n")
        case "format":
            if let wanted = arguments.first {
                guard let format = QueryFormat(rawValue: wanted), !QueryCall.binaryFormats.contains(wanted) else {
                    throw CommandFailure("a format is box, table, markdown, csv, json or ndjson")
                }
                self.settings.format = format
            }
            Terminal.out(self.settings.format.rawValue + "\n")
        case "timing":
            self.settings.showsTime = arguments.first.map { $0 == "on" } ?? !self.settings.showsTime
            Terminal.out("timing is \(self.settings.showsTime ? "on" : "off")\n")
        case "o":
            try self.output?.commit()
            self.output = try arguments.first.map { try OutputFile(path: $0) }
        case "i":
            guard let path = arguments.first else { throw CommandFailure("\\i needs a file") }
            guard let file = FileHandle(forReadingAtPath: path) else { throw CommandFailure("cannot read \(path)") }
            let showsTime = self.settings.showsTime
            defer { self.settings.showsTime = showsTime }
            try await self.run(script: file)
        case "watch": try await self.watch(every: arguments.first.flatMap(Double.init) ?? Self.watchSeconds)
        case "explain":
            guard let last = self.last else { throw CommandFailure("there is no statement before") }
            try await self.run("EXPLAIN ANALYZE \(last)")
        case "queries":
            for query in try await self.client.runningQueries().queries {
                Terminal.out("\(query.id)  \(query.state)  \(query.runningMs) ms  \(TextTable.printable(query.sql))\n")
            }
        default: throw CommandFailure("there is no command \\\(word); \\? lists them")
        }
    }

    private func watch(every seconds: Double) async throws {
        guard let last = self.last else { throw CommandFailure("there is no statement before") }
        guard (0.1...86_400).contains(seconds) else { throw CommandFailure("\\watch takes 0.1 to 86400 seconds") }
        while !Task.isCancelled {
            Terminal.out("\u{1B}[2J\u{1B}[H")
            try await self.run(last)
            try await Task.sleep(for: .seconds(seconds))
        }
    }
}
