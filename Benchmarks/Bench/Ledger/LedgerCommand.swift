internal import ArgumentParser
internal import AuditLedger
internal import Foundation
internal import RocksStorage

/// `bench ledger`: what the audit ledger costs and how fast it is verified, on RocksDB, in this process.
struct LedgerCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ledger",
        abstract: "Appends, verification, proofs, comparison, scrub and packages of a ledger in RocksDB.",
        discussion: "The folder is made, and keeps its ledgers: a second run with the same sizes uses them again."
    )

    /// About the least that an event of the benchmark has.
    private static let smallEventBytes = 320

    @Option(help: "Folder for the ledgers; on the disk that is to be measured.")
    var folder: String
    @Option(help: "Records of the ledger that is verified, scrubbed and packed.")
    var records = 1_000_000
    @Option(help: "Records of the ledger of which proofs are made, and that is compared with a rewritten one.")
    var large = 10_000_000
    @Option(help: "Bytes of an event, but for the large ledger, whose events are small.")
    var size = 600
    @Option(help: "Seconds of each run of openssl speed.")
    var seconds = 3
    @Option(
        parsing: .upToNextOption,
        help: "What is measured: append, verify, scrub, package, proof, compare; default all."
    )
    var only: [String] = []
    @OptionGroup var output: ResultsOption

    func run() async throws {
        try FileManager.default.createDirectory(atPath: self.folder, withIntermediateDirectories: true)
        func wants(_ part: String) -> Bool { self.only.isEmpty || self.only.contains(part) }
        if wants("append") {
            try LedgerAppendCost(folder: self.folder, records: self.records / 10, size: self.size)
                .measure(into: self.output.results)
        }
        if wants("verify") || wants("scrub") || wants("package") {
            let ledger = try self.ledger("plain", records: self.records, size: self.size)
            if wants("verify") {
                try LedgerVerifySpeed(ledger: ledger, seconds: self.seconds).measure(into: self.output.results)
            }
            if wants("scrub") { try LedgerVerifySpeed.measureScrub(ledger, into: self.output.results) }
            if wants("package") {
                try await LedgerPackageSpeed(ledger: ledger, path: self.folder + "/package.zip")
                    .measure(into: self.output.results)
            }
        }
        if wants("proof") || wants("compare") {
            let (large, rewritten) = try self.fork()
            if wants("proof") { try LedgerProofSpeed(ledger: large).measure(into: self.output.results) }
            if wants("compare") { try LedgerCompareRounds.measure(large, rewritten, into: self.output.results) }
        }
    }

    /// A ledger of so many records: one that is there, or a new one.
    private func ledger(_ name: String, records: Int, size: Int) throws -> LedgerFolder {
        let path = "\(self.folder)/\(name)-\(records)-\(size)"
        if FileManager.default.fileExists(atPath: path) {
            let ledger = try LedgerFolder(path: path, eventBytes: size)
            if try ledger.reader().head().size == UInt64(records) { return ledger }
            throw BenchError(.badInput, "\(path) holds another number of records: delete it")
        }
        let ledger = try LedgerFolder(path: path, eventBytes: size)
        let clock = ContinuousClock()  // ambient-ok: a benchmark measures time
        let begin = clock.now
        try ledger.append(records, batch: 500, commandsPerTurn: 8)
        try ledger.flush()
        let seconds = (clock.now - begin) / .seconds(1)
        print("ledger: \(records) records made in \(Format.fixed(seconds, 1)) s")
        return ledger
    }

    /// Two ledgers of so many small records that have the first nine tenths in common.
    private func fork() throws -> (LedgerFolder, LedgerFolder) {
        let paths = ["large", "rewritten"].map { "\(self.folder)/\($0)-\(self.large)" }
        let isThere = paths.allSatisfy { FileManager.default.fileExists(atPath: $0) }
        let common = self.large / 10 * 9 + self.large / 77
        let ledger = try LedgerFolder(path: paths[0], eventBytes: Self.smallEventBytes)
        if !isThere {
            try ledger.append(common, batch: 500, commandsPerTurn: 8)
            try ledger.flush()
            try ledger.store.checkpoint(to: paths[1])
            try ledger.append(self.large - common, batch: 500, commandsPerTurn: 8)
            try ledger.flush()
        }
        let rewritten = try LedgerFolder(path: paths[1], eventBytes: Self.smallEventBytes, firstEvent: 1)
        if !isThere {
            try rewritten.append(self.large - common, batch: 500, commandsPerTurn: 8)
            try rewritten.flush()
        }
        for side in [ledger, rewritten] where try side.reader().head().size != UInt64(self.large) {
            throw BenchError(.badInput, "\(side.store.path) has another number of records: delete \(self.folder)")
        }
        return (ledger, rewritten)
    }
}
