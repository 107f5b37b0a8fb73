internal import Foundation

/// One line of a run's results: the driver's commands append them to a file, `bench report` reads it.
struct Measurement: Codable, Sendable {
    /// `ours`, `etcd`, `nghttpd`, `duckdb`.
    var system: String
    /// What was measured, e.g. `append_64`.
    var name: String
    /// Operations or records a second; nil when a time was measured.
    var rate: Double?
    /// Milliseconds; nil when a rate was measured.
    var milliseconds: Double?
    var p50Microseconds: Double?
    var p99Microseconds: Double?
    var errors: Int?
    var firstError: String?
    var cpu: CPUShare?

    /// Appends this measurement to `file` and shows it.
    func record(in file: String) throws {
        try self.write(to: file)
        print(self.summary)
    }

    /// Appends this measurement to `file`.
    func write(to file: String) throws {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys]
        let line = try encoder.encode(self) + Data("\n".utf8)
        guard
            FileManager.default.fileExists(atPath: file) || FileManager.default.createFile(atPath: file, contents: nil),
            let handle = FileHandle(forWritingAtPath: file)
        else {
            throw BenchError(.badInput, "cannot write \(file)")
        }
        defer { try? handle.close() }
        try handle.seekToEnd()
        try handle.write(contentsOf: line)
    }

    /// All measurements of a file.
    static func read(_ file: String) throws -> [Measurement] {
        guard let data = FileManager.default.contents(atPath: file) else {
            throw BenchError(.badInput, "cannot read \(file)")
        }
        return try data.split(separator: UInt8(ascii: "\n")).map {
            try JSONDecoder().decode(Measurement.self, from: $0)
        }
    }

    private var summary: String {
        var parts = ["\(self.system) \(self.name):"]
        if let rate = self.rate { parts.append("\(Format.rate(rate))/s") }
        if let milliseconds = self.milliseconds { parts.append("\(Format.fixed(milliseconds, 2)) ms") }
        if let p50 = self.p50Microseconds, let p99 = self.p99Microseconds {
            parts.append("p50 \(Format.fixed(p50 / 1000, 2)) ms, p99 \(Format.fixed(p99 / 1000, 2)) ms")
        }
        if let cpu = self.cpu {
            parts.append(
                "(driver \(Format.percent(cpu.driverOfOneCore)) of one core, servers "
                    + "\(Format.fixed(cpu.serversInCores, 2)) cores, machine \(Format.percent(cpu.machineBusy)) busy)"
            )
        }
        if let errors = self.errors, errors > 0 { parts.append("\(errors) ERRORS: \(self.firstError ?? "?")") }
        return parts.joined(separator: " ")
    }
}

extension Measurement {
    /// What a closed loop measured.
    init(system: String, name: String, outcome: ClosedLoop.Outcome) {
        self.init(
            system: system,
            name: name,
            rate: Double(outcome.items) / outcome.seconds,
            p50Microseconds: outcome.latency.value(at: 0.5),
            p99Microseconds: outcome.latency.value(at: 0.99),
            errors: outcome.errors,
            firstError: outcome.firstError,
            cpu: outcome.cpu
        )
    }
}

/// Numbers for people.
enum Format {
    static func rate(_ value: Double) -> String { self.fixed(value, value < 100 ? 1 : 0) }

    static func percent(_ share: Double) -> String { self.fixed(share * 100, 0) + " %" }

    static func fixed(_ value: Double, _ digits: Int) -> String { String(format: "%.\(digits)f", value) }

    /// `text`, filled up with spaces on the left or right.
    static func column(_ text: String, _ width: Int, left: Bool = false) -> String {
        let fill = String(repeating: " ", count: max(0, width - text.count))
        return left ? text + fill : fill + text
    }
}
