internal import Foundation

/// The table and the last line of a run.
struct Report: Sendable {
    let measurements: [Measurement]

    /// A row: ours against a peer's. Batches are compared with etcd's single puts at 64 clients, and with the best that those reach.
    private struct Row {
        var key: String
        var title: String
        var peer: String
        var peerName: String
        var isTime = false
        /// Our measurement, when it is not named as the key.
        var oursName: String?
    }

    private static let etcdBest = "append_best"
    private static let rows = [
        Row(key: "append_1", title: "appends, 1 client", peer: "etcd", peerName: "append_1"),
        Row(key: "append_16", title: "appends, 16 clients", peer: "etcd", peerName: "append_16"),
        Row(key: "append_64", title: "appends, 64 clients", peer: "etcd", peerName: "append_64"),
        Row(key: "append_256", title: "appends, 256 clients", peer: "etcd", peerName: "append_256"),
        Row(
            key: "append_64_spread",
            title: "appends, 64 clients, 8 organizations",
            peer: "etcd",
            peerName: "append_64"
        ),
        Row(key: "append_64_any", title: "appends, 64 clients, any node", peer: "etcd", peerName: "append_64"),
        Row(
            key: "append_1000_groups",
            title: "appends, 1000 groups / one",
            peer: "ours",
            peerName: "append_one_of_1000"
        ),
        Row(key: "append_batched", title: "records in batches of 500", peer: "etcd", peerName: "append_64"),
        Row(
            key: "append_batched_loaded",
            title: "the same, after the appends above",
            peer: "etcd",
            peerName: "append_64"
        ),
        Row(
            key: "append_batched_best",
            title: "batches, etcd at its best",
            peer: "etcd",
            peerName: Self.etcdBest,
            oursName: "append_batched"
        ),
        Row(key: "ledger_verify", title: "verification, MB/s", peer: "openssl", peerName: "ledger_verify"),
        Row(
            key: "ledger_verify_one",
            title: "verification, MB/s of CPU time",
            peer: "openssl",
            peerName: "ledger_verify_one"
        ),
        Row(
            key: "ledger_verify_all",
            title: "verification, as many openssl as cores",
            peer: "openssl",
            peerName: "ledger_verify_all"
        ),
        Row(
            key: "ledger_apply_single",
            title: "apply with chain and tree / without",
            peer: "bare",
            peerName: "ledger_apply_single",
            isTime: true
        ),
        Row(
            key: "ledger_apply_batched",
            title: "the same in batches of 500",
            peer: "bare",
            peerName: "ledger_apply_batched",
            isTime: true
        ),
        Row(key: "get", title: "GET, 8 connections x 32 streams", peer: "nghttpd", peerName: "get"),
        Row(key: "get_1", title: "GET, 8 connections x 1 stream", peer: "nghttpd", peerName: "get_1"),
        Row(key: "flight", title: "Flight DoGet over TLS, MB/s", peer: "pyarrow", peerName: "flight"),
        Row(key: "flight_kept", title: "the same from a kept answer", peer: "pyarrow", peerName: "flight_kept"),
        Row(
            key: "query_one",
            title: "query, one organization (time)",
            peer: "duckdb",
            peerName: "query_one",
            isTime: true
        ),
    ]
    /// The driver has one thread; from this share on it may have held the servers back.
    private static let driverBusyMax = 0.9

    private func find(_ system: String, _ name: String) -> Measurement? {
        if name == Self.etcdBest {
            return self.measurements.filter { $0.system == system && $0.name.hasPrefix("append_") }
                .max { ($0.rate ?? 0) < ($1.rate ?? 0) }
        }
        return self.measurements.last { $0.system == system && $0.name == name }
    }

    private func value(_ measurement: Measurement?) -> Double? { measurement?.rate ?? measurement?.milliseconds }

    /// The table, the remarks and, as the last line, the JSON object.
    func text() throws -> String {
        var lines = [
            Format.column("", 38, left: true) + Format.column("ours", 12) + Format.column("p50/p99 ms", 16)
                + Format.column("peer", 10) + Format.column("", 12) + Format.column("p50/p99 ms", 16)
                + Format.column("ours/peer", 11)
        ]
        var ratios: [String: Double?] = [:]
        for row in Self.rows {
            let ours = self.find("ours", row.oursName ?? row.key)
            let peer = self.find(row.peer, row.peerName)
            var ratio: Double?
            if let a = self.value(ours), let b = self.value(peer), b > 0 { ratio = a / b }
            ratios[row.key] = .some(ratio)
            lines.append(
                Format.column(row.title, 38, left: true) + Format.column(self.shown(ours), 12)
                    + Format.column(self.latency(ours), 16) + Format.column(row.peer, 10)
                    + Format.column(self.shown(peer), 12) + Format.column(self.latency(peer), 16)
                    + Format.column(ratio.map { Format.fixed($0, 2) } ?? "-", 11)
            )
        }
        lines.append("Rates are a second; more is better. Times are in milliseconds; less is better.")
        lines.append("Batches are compared with single puts of etcd: with 64 clients, and at its best.")
        lines += self.remarks()
        lines.append(try self.json(ratios))
        return lines.joined(separator: "\n")
    }

    private func shown(_ measurement: Measurement?) -> String {
        if let rate = measurement?.rate { return Format.rate(rate) }
        if let milliseconds = measurement?.milliseconds { return Format.fixed(milliseconds, 2) + " ms" }
        return "-"
    }

    private func latency(_ measurement: Measurement?) -> String {
        guard let p50 = measurement?.p50Microseconds, let p99 = measurement?.p99Microseconds else { return "" }
        return "\(Format.fixed(p50 / 1000, 2))/\(Format.fixed(p99 / 1000, 2))"
    }

    private func remarks() -> [String] {
        var lines: [String] = []
        let driven = self.measurements.filter { $0.cpu != nil }
        if let busiest = driven.max(by: { ($0.cpu?.driverOfOneCore ?? 0) < ($1.cpu?.driverOfOneCore ?? 0) }),
            let share = busiest.cpu?.driverOfOneCore
        {
            let verdict = share < Self.driverBusyMax ? "it was not the bottleneck" : "it MAY HAVE BEEN the bottleneck"
            lines.append(
                "The driver used at most \(Format.percent(share)) of one core (\(busiest.system) \(busiest.name)): \(verdict)."
            )
        }
        for failed in self.measurements where (failed.errors ?? 0) > 0 {
            lines.append(
                "\(failed.system) \(failed.name): \(failed.errors ?? 0) errors, the first: \(failed.firstError ?? "?")"
            )
        }
        return lines
    }

    private func json(_ ratios: [String: Double?]) throws -> String {
        var figures: [String: Any] = [:]
        for measurement in self.measurements {
            let key = "\(measurement.system).\(measurement.name)"
            if let rate = measurement.rate { figures["\(key).per_second"] = Self.rounded(rate) }
            if let milliseconds = measurement.milliseconds { figures["\(key).ms"] = Self.rounded(milliseconds) }
            if let p50 = measurement.p50Microseconds { figures["\(key).p50_us"] = Self.rounded(p50) }
            if let p99 = measurement.p99Microseconds { figures["\(key).p99_us"] = Self.rounded(p99) }
            if let errors = measurement.errors, errors > 0 { figures["\(key).errors"] = errors }
            if let cpu = measurement.cpu {
                figures["\(key).driver_of_one_core"] = Self.rounded(cpu.driverOfOneCore)
                figures["\(key).servers_in_cores"] = Self.rounded(cpu.serversInCores)
            }
        }
        let shown = ratios.mapValues { ratio -> Any in ratio.map { Self.rounded($0) as Any } ?? NSNull() }
        let data = try JSONSerialization.data(
            withJSONObject: ["ratios": shown, "figures": figures],
            options: [.sortedKeys]
        )
        return String(decoding: data, as: UTF8.self)
    }

    private static func rounded(_ value: Double) -> NSDecimalNumber {
        NSDecimalNumber(string: Format.fixed(value, 3))
    }
}
