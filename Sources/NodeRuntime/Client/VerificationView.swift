internal import HTTPTypes
internal import NIOCore
internal import Transport

/// One line of the answer to a verification.
package struct VerificationView: Sendable, Decodable, Equatable {
    package struct Finding: Sendable, Decodable, Equatable {
        package var sequence: Int?
        package var kind: String
        package var detail: String?
        package var place: String?
    }

    package struct Replica: Sendable, Decodable, Equatable {
        package var node: Int
        package var status: String
        package var size: Int?
        package var root: String?
        package var finding: Finding?
        /// Why the node still does not serve it although nothing was found.
        package var marked: Finding?
    }

    package struct Summary: Sendable, Decodable, Equatable {
        package var organizations: Int
        package var replicas: Int
        package var records: Int
        package var failed: Int
        package var elapsedMs: Double
    }

    package var organization: String?
    package var status: String?
    package var size: Int?
    package var root: String?
    package var replicas: [Replica]?
    package var summary: Summary?

    /// True when every replica answered and holds the same, unchanged history.
    package var isGood: Bool {
        self.status == "ok" && (self.replicas ?? []).allSatisfy { $0.status == "ok" && $0.finding == nil }
    }
}

/// What a whole verification came to, as text.
package struct VerificationReport: Sendable {
    package private(set) var organizations: [VerificationView] = []
    package private(set) var summary: VerificationView.Summary?

    package init() {}

    package mutating func add(_ view: VerificationView) {
        if let summary = view.summary { self.summary = summary }
        if view.organization != nil { self.organizations.append(view) }
    }

    /// True when the answer was complete and nothing is wrong.
    package var isGood: Bool {
        guard let summary = self.summary else { return false }
        return summary.failed == 0 && summary.organizations == self.organizations.count
            && self.organizations.allSatisfy(\.isGood)
    }

    /// One row an organization with a mark for each node, then every finding, then one line that sums up.
    package var text: String {
        let nodes = Set(self.organizations.flatMap { ($0.replicas ?? []).map(\.node) }).sorted()
        var table = TextTable(
            columns: ["organization", "records", "root"] + nodes.map { "n\($0)" } + ["result"],
            right: [1]
        )
        var findings: [String] = []
        for view in self.organizations.sorted(by: { ($0.organization ?? "") < ($1.organization ?? "") }) {
            let marks = nodes.map { node in
                view.replicas?.first { $0.node == node }.map(Self.mark) ?? "-"
            }
            table.append(
                [view.organization ?? "", Grouped.number(view.size ?? 0), String((view.root ?? "").prefix(16))]
                    + marks + [view.isGood ? "ok" : "FAILED"]
            )
            findings += (view.replicas ?? []).compactMap { Self.finding($0, view.organization ?? "") }
            if findings.isEmpty, !view.isGood { findings.append("organization \(view.organization ?? ""): failed") }
        }
        var text = table.isEmpty ? "no organization to verify\n" : table.rendered()
        if !findings.isEmpty { text += "\nfindings:\n" + findings.map { "  \(TextTable.printable($0))\n" }.joined() }
        if let summary = self.summary {
            text +=
                "\n\(summary.organizations) organizations, \(summary.replicas) replicas, "
                + "\(Grouped.number(summary.records)) records checked in \(Grouped.seconds(summary.elapsedMs / 1000)): "
                + (self.isGood ? "all good\n" : "\(max(1, summary.failed)) FAILED\n")
        } else {
            text += "\nthe answer broke off: NOT verified\n"
        }
        return text
    }

    private static func mark(_ replica: VerificationView.Replica) -> String {
        switch replica.status {
        case "ok": replica.finding == nil ? "ok" : "BAD"
        case "unreachable": "GONE"
        case "marked": "MARKED"
        default: "BAD"
        }
    }

    private static func finding(_ replica: VerificationView.Replica, _ organization: String) -> String? {
        if replica.status == "ok", replica.finding == nil { return nil }
        let place = "node \(replica.node), organization \(organization)"
        if replica.finding == nil, let marked = replica.marked {
            let key = marked.place.map { " at \($0)" } ?? ""
            return
                "\(place): sound, but still marked as \(marked.kind)\(key) and not served: `ftnode audit repair` ends that"
        }
        guard let finding = replica.finding else {
            return "\(place): \(replica.status == "unreachable" ? "unreachable, not verified" : replica.status)"
        }
        let sequence = finding.sequence.map { ", sequence \($0)" } ?? ""
        let key = finding.place.map { " at \($0)" } ?? ""
        return "\(place)\(sequence): \(finding.kind)\(key)" + (finding.detail.map { ": \($0)" } ?? "")
    }
}

extension ClusterClient {
    /// Longest a verification may take.
    static let verificationTimeout = Duration.seconds(3600)
    /// The longest line of the answer, in bytes.
    static let lineBytesMax = 1 << 20

    /// Verifies every replica of `organizations`, or of all the token may see.
    /// - Parameter onLine: Called with each line as it comes, raw and decoded.
    package func verify(
        organizations: [String],
        level: String = "tree",
        onLine: (_ json: [UInt8], _ view: VerificationView) throws -> Void
    ) async throws {
        let named = organizations.map(JSONText.quoted).joined(separator: ",")
        let members = organizations.isEmpty ? [] : ["\"organizations\":[\(named)]"]
        let body = "{" + (members + ["\"level\":\(JSONText.quoted(level))"]).joined(separator: ",") + "}"
        try await self.readLines("/v1/audit/verify", body, brokenOff: "the verification broke off", onLine: onLine)
    }

    /// Posts what changes nothing and takes long, and hands on each line of the answer as it comes.
    func readLines<View: Decodable>(
        _ path: String,
        _ body: String,
        brokenOff: String,
        onLine: (_ json: [UInt8], _ view: View) throws -> Void
    ) async throws {
        var request = APIRequest(.post, path, body: ByteBuffer(string: body))
        request.isReadOnly = true
        request.timeout = Self.verificationTimeout
        let response = try await self.open(request)
        var cutter = LineCutter(bytesMax: Self.lineBytesMax)
        let take = { (line: ArraySlice<UInt8>) throws -> Void in
            guard !line.isEmpty else { return }
            try onLine(Array(line), try Self.decode(View.self, from: line))
        }
        do {
            for try await chunk in response.body { try cutter.add(Array(chunk.readableBytesView), take) }
            try cutter.finish(take)
        } catch let error as TransportError {
            throw ClientError(.unreachable, brokenOff, cause: error)
        }
    }
}

/// Numbers for people.
package enum Grouped {
    /// `65533` as `65,533`.
    package static func number(_ value: Int) -> String {
        let digits = Array(String(value.magnitude))
        var text = value < 0 ? "-" : ""
        for (index, digit) in digits.enumerated() {
            if index > 0, (digits.count - index).isMultiple(of: 3) { text += "," }
            text.append(digit)
        }
        return text
    }

    /// Seconds with as many decimals as matter: `0.213 s`, `12.4 s`, `312 s`.
    package static func seconds(_ value: Double) -> String {
        let decimals = value < 1 ? 3 : value < 100 ? 1 : 0
        let scale = [1, 10, 100, 1000][decimals]
        let scaled = Int((max(0, value) * Double(scale)).rounded())
        guard decimals > 0 else { return "\(scaled) s" }
        let fraction = String(scaled % scale)
        return "\(scaled / scale).\(String(repeating: "0", count: decimals - fraction.count))\(fraction) s"
    }

    /// Bytes in units of 1024: `512 B`, `3.1 MiB`.
    package static func bytes(_ value: Int) -> String {
        let units = ["B", "KiB", "MiB", "GiB", "TiB"]
        var size = Double(value)
        var unit = 0
        while size >= 1024, unit < units.count - 1 {
            size /= 1024
            unit += 1
        }
        guard unit > 0 else { return "\(value) B" }
        let tenths = Int((size * 10).rounded())
        return "\(tenths / 10).\(tenths % 10) \(units[unit])"
    }
}
