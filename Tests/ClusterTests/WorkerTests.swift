internal import AuditLedger
internal import Columnar
internal import Foundation
internal import Logging
internal import Primitives
internal import QueryRouter
internal import Shards
internal import Storage
internal import Synchronization
internal import Testing

@testable internal import NodeRuntime

extension RealCluster {
    /// Worker processes without a node around them: the test is their node.
    @Suite("Worker processes", .timeLimit(.minutes(2)))
    struct WorkerTests {
        private static let one = OrganizationID(1)

        private static func withPool(
            count: Int = 1,
            sandboxed: Bool = true,
            memoryBytesMax: UInt64 = 2 << 30,
            timeLimitMilliseconds: Int = 30_000,
            _ body: (WorkerPool, TestFolder) async throws -> Void
        ) async throws {
            try await withFolder("worker") { folder in
                var settings = WorkerSettings(role: .stores, directory: folder.path)
                settings.isSandboxed = sandboxed
                settings.memoryBytesMax = memoryBytesMax
                settings.timeLimitMilliseconds = timeLimitMilliseconds
                let pool = WorkerPool(
                    count: count,
                    settings: settings,
                    launch: WorkerLaunch(executable: Programs.ftnode),
                    logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
                )
                do {
                    try await body(pool, folder)
                } catch {
                    await pool.closeAll()
                    throw error
                }
                await pool.closeAll()
            }
        }

        private static func records(_ range: ClosedRange<Int>) throws -> [StoredRecord] {
            var appender = LedgerAppender(head: LedgerHead(empty: self.one))
            var batch = WriteBatch()
            let context = EventContext(
                organization: try #require(OrganizationKey("lab-a")),
                request: RequestInfo(id: "r-1", ip: "127.0.0.1:5", userAgent: "test", authentication: "bearer"),
                defaultActor: Actor(kind: .apiKey, id: "t-1", name: "scanner", role: "writer")
            )
            let all = try (1...range.upperBound).map { number in
                let event = #"{"action":"weigh","entity_type":"sample","entity_id":"s-\#(number)"}"#
                let draft = try EventDraft.parse(Array(event.utf8), defaults: context)
                let stamp = Timestamp(microseconds: Int64(number) * 1_000_000)
                let record = appender.append(draft, stampedAt: stamp, into: &batch)
                return StoredRecord(sequence: record.sequence, bytes: record.bytes)
            }
            return Array(all.dropFirst(range.lowerBound - 1))
        }

        private static func rows(
            _ pool: WorkerPool,
            _ sql: String,
            of organization: OrganizationID = one,
            limits: QueryLimits = QueryLimits()
        ) async throws -> [[ArrowValue]] {
            let result = try await pool.query(StoreQuestion(sql: sql, limits: limits), of: organization)
            var rows: [[ArrowValue]] = []
            for batch in try await result.batches.collect() {
                for row in 0..<batch.rowCount {
                    rows.append(batch.columns.indices.map { batch.value(row: row, column: $0) })
                }
            }
            return rows
        }

        private static func status(of pid: pid_t) throws -> [String: String] {
            let text = try String(contentsOfFile: "/proc/\(pid)/status", encoding: .utf8)
            return Dictionary(
                text.split(separator: "\n").compactMap { line in
                    let parts = line.split(separator: ":", maxSplits: 1)
                    guard parts.count == 2 else { return nil }
                    return (String(parts[0]), parts[1].trimmingCharacters(in: .whitespaces))
                },
                uniquingKeysWith: { first, _ in first }
            )
        }

        private static func pid(_ pool: WorkerPool) async throws -> pid_t {
            // A worker that answers has entered its sandbox.
            _ = try await pool.position(of: Self.one)
            return try #require(pool.slots[0].pid)
        }

        @Test func haveNothingOfTheirNode() async throws {
            try await Self.withPool { pool, _ in
                let pid = try await Self.pid(pool)
                let status = try Self.status(of: pid)
                #expect(status["Seccomp"] == "2" && status["NoNewPrivs"] == "1")
                #expect(status["CapEff"] == "0000000000000000" && status["CapPrm"] == "0000000000000000")
                let environment = try String(contentsOfFile: "/proc/\(pid)/environ", encoding: .utf8)
                #expect(
                    environment.split(separator: "\0").allSatisfy {
                        ["TZ=UTC", "SWIFT_BACKTRACE=enable=no"].contains($0) || $0.hasPrefix("LD_LIBRARY_PATH=")
                    }
                )
                let limits = try String(contentsOfFile: "/proc/\(pid)/limits", encoding: .utf8).split(separator: "\n")
                #expect(limits.contains { $0.hasPrefix("Max core file size") && $0.contains(" 0 ") })
                #expect(limits.contains { $0.hasPrefix("Max data size") && $0.contains("2147483648") })
                let files = try FileManager.default.contentsOfDirectory(atPath: "/proc/\(pid)/fd").map { name in
                    (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(pid)/fd/\(name)")) ?? ""
                }
                #expect(files.count { $0.hasPrefix("socket:") } == 1, "\(files)")
            }
        }

        @Test func liveThroughSecondsOfManyStatementsAtOnce() async throws {
            try await Self.withPool { pool, _ in
                let pid = try await Self.pid(pool)
                // libdispatch looks after its threads once a second while more of them are wanted than there are.
                try await withThrowingTaskGroup(of: Void.self) { group in
                    for number in 0..<8 {
                        group.addTask {
                            let sql = "SELECT count(DISTINCT hash(i + \(number))) FROM range(1500000) t(i)"
                            for _ in 0..<2 { _ = try await Self.rows(pool, sql) }
                        }
                    }
                    try await group.waitForAll()
                }
                #expect(pool.slots[0].pid == pid)
            }
        }

        @Test(arguments: [true, false]) func sayWhichDoorsAreOpen(sandboxed: Bool) async throws {
            try await withFolder("worker-doors") { folder in
                var settings = WorkerSettings(role: .stores, directory: folder.path)
                settings.isSandboxed = sandboxed
                let (ours, theirs) = try #require(FramePipe.pair())
                let (said, say) = AsyncStream.makeStream(of: String.self, bufferingPolicy: .bufferingNewest(1))
                let link = WorkerLink(socket: ours) {
                    say.yield($0)
                    say.finish()
                }
                link.start(settings)
                let thread = Thread {
                    // The worker ends with the thread that started it.
                    guard
                        case .success(let pid) = WorkerLaunch(executable: Programs.ftnode)
                            .start(socket: theirs, name: "test")
                    else { return say.finish() }
                    close(theirs)
                    _ = link.run { true }
                    kill(pid, SIGKILL)
                    _ = WorkerLaunch.wait(for: pid)
                    say.finish()
                }
                thread.start()
                var report = ""
                for await text in said { report = text }
                link.close()
                if sandboxed {
                    #expect(report.hasPrefix("seccomp, "))
                    for door in ["socket", "process", "program", "signal"] {
                        #expect(!report.contains(door), "\(report)")
                    }
                } else {
                    #expect(report == "off; open: socket, process, program, signal, file")
                }
            }
        }

        @Test func keepWhatTheyHaveWhenTheyAreKilled() async throws {
            try await Self.withPool(count: 2) { pool, _ in
                let organizations = (1...6).map { OrganizationID(.init($0)) }
                for organization in organizations {
                    try await pool.project(try Self.records(1...20), to: organization, isUrgent: true)
                }
                for round in 1...3 {
                    let pids = pool.slots.compactMap(\.pid)
                    #expect(pids.count == 2)
                    for pid in pids { kill(pid, SIGKILL) }
                    for organization in organizations {
                        let from = round * 20 + 1
                        try await pool.project(try Self.records(from...from + 19), to: organization, isUrgent: true)
                        #expect(try await pool.position(of: organization) == SequenceNumber(UInt64(from + 19)))
                    }
                }
                for organization in organizations {
                    let found = try await Self.rows(
                        pool,
                        "select count(*)::bigint, count(distinct sequence)::bigint, max(sequence)::bigint from audit_log",
                        of: organization
                    )
                    #expect(found == [[.int(80), .int(80), .int(80)]])
                }
                #expect(pool.slots.allSatisfy { $0.counters.restarts[.ended] ?? 0 >= 3 })
            }
        }

        @Test func costRunningStatementsARetriableErrorWhenTheyDie() async throws {
            try await Self.withPool { pool, _ in
                try await pool.project(try Self.records(1...5), to: Self.one, isUrgent: true)
                let result = try await pool.query(
                    StoreQuestion(sql: "select a.range from range(1000000) a, range(1000000) b"),
                    of: Self.one
                )
                let pid = try #require(pool.slots[0].pid)
                kill(pid, SIGKILL)
                let failure = await #expect(throws: (any Error).self) { try await result.batches.collect() }
                let problem = QueryError.wrapping(try #require(failure), doing: "reading")
                #expect(problem.code == .unavailable && problem.isRetriable, "\(problem)")
                #expect(try await Self.rows(pool, "select count(*)::bigint from audit_log") == [[.int(5)]])
                #expect(try #require(pool.slots[0].pid) != pid)
            }
        }

        /// A statement that is named by its beginning: whole, the longest would fill the log of the tests.
        struct Statement: CustomTestStringConvertible, ExpressibleByStringLiteral {
            let text: String
            var testDescription: String { self.text.count > 80 ? "\(self.text.prefix(80))…" : self.text }

            init(stringLiteral text: String) { self.text = text }
            init(_ text: String) { self.text = text }
        }

        /// Statements of which the engine's own limits do not hold; at most their own worker dies of them.
        @Test(
            arguments: [
                "select length(repeat(action, 1500000000)) from audit_log",
                "select len(range(200000000)) from audit_log",
                "select len(list_transform(range(300000000), x -> x || action)) from audit_log",
                "select len(string_agg(repeat(action, 100000), ',')) from audit_log, range(100000)",
                "select count(*) from range(100000000) a, range(100000000) b, range(100000000) c",
                "select regexp_matches(repeat('a', 100000) || 'b', '(a*)*(a*)*(a*)*c') from audit_log, range(100000000)",
                "with recursive t(n) as (select 1 union all select n + 1 from t) select max(n) from t",
                Statement(
                    "select " + String(repeating: "(", count: 20_000) + "1" + String(repeating: ")", count: 20_000)
                ),
                Statement(
                    "select " + String(repeating: "-", count: 100) + " 1" + String(repeating: " + 1", count: 100_000)
                ),
                Statement(
                    "select " + Array(repeating: "(select 1", count: 3_000).joined(separator: " + ")
                        + String(repeating: ")", count: 3_000)
                ),
            ] as [Statement]
        )
        func containWhatWouldTakeTheMachine(statement: Statement) async throws {
            try await Self.withPool(memoryBytesMax: 1 << 30, timeLimitMilliseconds: 1_500) { pool, _ in
                try await pool.project(try Self.records(1...5), to: Self.one, isUrgent: true)
                let limits = QueryLimits(timeLimit: .milliseconds(1_500))
                do {
                    _ = try await Self.rows(pool, statement.text, limits: limits)
                } catch {
                    let code = QueryError.wrapping(error, doing: "the query").code
                    #expect(code != .internal, "\(error)")
                }
                // Whatever became of it: the next one is answered, nothing is lost, and the memory was kept to.
                #expect(try await Self.rows(pool, "select count(*)::bigint from audit_log") == [[.int(5)]])
                let peak = try Self.status(of: try #require(pool.slots[0].pid))["VmHWM"]?.split(separator: " ").first
                #expect(try #require(peak.flatMap { Int($0) }) < 1_300_000, "\(peak ?? "")")
            }
        }

        @Test func areStartedAgainWhenTheyHang() async throws {
            try await Self.withPool { pool, _ in
                let pid = try await Self.pid(pool)
                kill(pid, SIGSTOP)
                // Not answered, not lost: asked again of the next worker.
                #expect(try await pool.position(of: Self.one) == .zero)
                #expect(try #require(pool.slots[0].pid) != pid)
                #expect(pool.slots[0].counters.restarts[.hung] == 1)
            }
        }

        @Test func endInGoodOrder() async throws {
            try await withFolder("worker-end") { folder in
                let settings = WorkerSettings(role: .stores, directory: folder.path)
                let pool = WorkerPool(
                    count: 1,
                    settings: settings,
                    launch: WorkerLaunch(executable: Programs.ftnode),
                    logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
                )
                try await pool.project(try Self.records(1...5), to: Self.one, isUrgent: true)
                let pid = try #require(pool.slots[0].pid)
                await pool.closeAll()
                #expect(kill(pid, 0) != 0 && errno == ESRCH)
                let files = try FileManager.default.contentsOfDirectory(atPath: folder.path)
                #expect(!files.contains { $0.hasSuffix(".wal") }, "the store was closed: \(files)")
                await #expect(throws: (any Error).self) { try await pool.position(of: Self.one) }
            }
        }

        @Test func thatCannotLiveAreNotTheStoresFault() async throws {
            try await withFolder("worker-bad") { folder in
                let settings = WorkerSettings(role: .stores, directory: folder.file("missing"))
                let pool = WorkerPool(
                    count: 1,
                    settings: settings,
                    launch: WorkerLaunch(executable: Programs.ftnode),
                    logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
                )
                // Nothing is known against the store, so nothing may be deleted for it.
                await #expect(throws: ProjectionUnavailable.self) { try await pool.position(of: Self.one) }
                #expect(pool.slots[0].counters.restarts[.ended] ?? 0 > 0)
                await pool.closeAll()
            }
        }
    }
}
