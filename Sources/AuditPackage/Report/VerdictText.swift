internal import AuditLedger
internal import Primitives

/// A verifier's answer as lines for people and as JSON for programs.
package struct VerdictText {
    private let report: PackageReport
    private let file: String

    package init(_ report: PackageReport, file: String) {
        self.report = report
        self.file = file
    }

    // MARK: Words

    private var integrity: (word: String, detail: String) {
        let bad = self.report.findings.filter { !$0.isAbsence }
        guard let first = bad.first else {
            return ("SOUND", "\(self.report.checkedCount) records are those that were signed")
        }
        let place = first.sequence.map { "the first bad record is \($0)" } ?? "\(first.file ?? "the package") is bad"
        return ("TAMPERED", "\(place): \(first.kind.rawValue)")
    }

    private var completeness: (word: String, detail: String) {
        switch self.report.completeness {
        case .complete: return ("COMPLETE", "every record up to the checkpoint")
        case .completeRange(let range):
            return ("COMPLETE", "every record from \(range.lowerBound) to \(range.upperBound)")
        case .selection:
            let left = self.report.manifest.size - min(self.report.manifest.size, self.report.manifest.shownCount)
            return (
                "SELECTION", "\(left) records are left out and proven to exist; their choice is the exporter's word"
            )
        case .incomplete:
            let first = self.report.findings.first(where: \.isAbsence)
            let place = first.flatMap { $0.sequence.map { "from record \($0) on" } ?? $0.file } ?? "parts"
            return ("INCOMPLETE", "\(place): \(first?.kind.rawValue ?? "missing")")
        }
    }

    private var policy: (word: String, detail: String) {
        let problems = self.report.checkpointVerdict.findings.filter(\.isFatal).map(\.detail).joined(separator: "; ")
        let groups = self.report.checkpointVerdict.groups
            .map { "\($0.name) \($0.witnessedCount) of \($0.memberCount), \($0.threshold) needed" }
            .joined(separator: "; ")
        switch self.report.trustSource {
        case .package:
            let agrees = self.report.checkpointVerdict.isTrusted ? "consistent with its own keys" : problems
            return ("NOT PINNED", "keys taken from the package itself, which proves nothing: \(agrees)")
        case .keys, .policy:
            guard self.report.policyIsMet else { return ("NOT MET", problems) }
            let met = groups.isEmpty ? "no cosignatures asked for" : groups
            guard self.report.manifestIsVouchedFor else {
                return ("NOT MET", "\(met), but nobody known has signed the manifest")
            }
            return ("MET", met)
        }
    }

    private var verdict: String {
        switch self.report.exit {
        case .valid: "valid"
        case .tampered: "tampered"
        case .incomplete: "incomplete"
        case .policyNotMet:
            self.report.trustSource == .package ? "consistent with its own keys only" : "policy not met"
        case .unreadable: "unreadable"
        }
    }

    // MARK: Text

    /// Lines for a terminal; control characters of the package never reach it.
    package var text: String {
        let manifest = self.report.manifest
        let by = JSONPlace(manifest.exportedBy)
        let name = (try? by.optionalString("name")).flatMap { $0 }
        let id = (try? by.string("id")) ?? "?"
        let signers = self.report.manifestSigners.map(\.name.description).joined(separator: ", ")
        let verdict = self.report.checkpointVerdict
        var lines = [
            ("package", self.file),
            ("log", self.report.checkpoint.checkpoint.origin.description),
            (
                "checkpoint",
                "\(self.report.checkpoint.checkpoint.size) records, root \(self.report.checkpoint.checkpoint.root)"
            ),
            ("asked for", self.askedFor),
            ("exported", "\(manifest.exportedAt) by \(name.map { "\($0) (\(id))" } ?? id), made by \(manifest.node)"),
            ("manifest", signers.isEmpty ? "signed by nobody known" : "signed by \(signers)"),
            ("log key", verdict.logKeys.map(\.description).joined(separator: ", ")),
        ]
        for cosigner in verdict.cosigners {
            let time = Timestamp(
                microseconds: Int64(clamping: cosigner.timeSeconds.multipliedReportingOverflow(by: 1_000_000).0)
            )
            lines.append(("cosigned", "\(cosigner.name) at \(time)"))
        }
        for (title, part) in [
            ("integrity", self.integrity), ("completeness", self.completeness), ("policy", self.policy),
        ] {
            lines.append((title, "\(part.word): \(part.detail)"))
        }
        for remark in self.report.remarks { lines.append(("note", remark)) }
        var text = lines.filter { !$0.1.isEmpty }
            .map { $0.0 + String(repeating: " ", count: 14 - $0.0.count) + Self.printable($0.1) + "\n" }.joined()
        if !self.report.findings.isEmpty { text += "\n" + self.table }
        return text + "\nverdict: \(self.verdict)\n"
    }

    private var askedFor: String {
        let manifest = self.report.manifest
        let shown = "\(manifest.shownCount) shown of \(manifest.size)"
        guard !manifest.filters.isEmpty else { return "records \(manifest.first) to \(manifest.last), \(shown)" }
        let filters = String(decoding: CanonicalJSON.encode(.object(manifest.filters)), as: UTF8.self)
        return "records \(manifest.first) to \(manifest.last), \(shown), filters \(filters)"
    }

    private var table: String {
        var rows = [["RECORD", "KIND", "PART", "DETAIL"]]
        for finding in self.report.findings {
            rows.append([
                finding.sequence?.description ?? "-", finding.kind.rawValue, finding.file ?? "-", finding.detail,
            ])
        }
        let widths = (0..<3).map { column in rows.map { $0[column].count }.max() ?? 0 }
        return rows.map { row in
            (0..<3).map { row[$0] + String(repeating: " ", count: widths[$0] - row[$0].count + 2) }.joined()
                + Self.printable(row[3]) + "\n"
        }.joined()
    }

    /// Text of others, without what could command a terminal.
    package static func printable(_ text: String) -> String {
        String(
            String.UnicodeScalarView(
                text.unicodeScalars.map { scalar in
                    switch scalar.value {
                    case 0..<0x20, 0x7F..<0xA0, 0x202A...0x202E, 0x2066...0x2069: "\u{FFFD}"
                    default: scalar
                    }
                }
            )
        )
    }

    // MARK: JSON

    /// One canonical JSON object.
    package var json: [UInt8] {
        let manifest = self.report.manifest
        let checkpoint = self.report.checkpoint.checkpoint
        let findings = self.report.findings.map { finding -> JSONValue in
            var members = [
                JSONMember("detail", .text(finding.detail)), JSONMember("kind", .text(finding.kind.rawValue)),
            ]
            if let sequence = finding.sequence {
                members.append(JSONMember("sequence", Self.number(sequence.rawValue)))
            }
            if let file = finding.file { members.append(JSONMember("part", .text(file))) }
            return .object(members)
        }
        func part(_ part: (word: String, detail: String)) -> JSONValue {
            let word = part.word.lowercased().replacing(" ", with: "_")
            return .object([JSONMember("detail", .text(part.detail)), JSONMember("verdict", .text(word))])
        }
        return CanonicalJSON.encode(
            .object([
                JSONMember("checked", Self.number(self.report.checkedCount)),
                JSONMember("completeness", part(self.completeness)),
                JSONMember(
                    "cosigners",
                    .array(self.report.checkpointVerdict.cosigners.map { .string($0.key.name.bytes) })
                ),
                JSONMember("exit_code", Self.number(UInt64(self.report.exit.rawValue))),
                JSONMember("findings", .array(findings)),
                JSONMember("integrity", part(self.integrity)),
                JSONMember("manifest_signers", .array(self.report.manifestSigners.map { .string($0.name.bytes) })),
                JSONMember("notes", .array(self.report.remarks.map { .text($0) })),
                JSONMember("origin", .string(checkpoint.origin.bytes)),
                JSONMember("package", .text(self.file)),
                JSONMember("policy", part(self.policy)),
                JSONMember("root", .text(checkpoint.root.hex)),
                JSONMember("shown", Self.number(manifest.shownCount)),
                JSONMember("size", Self.number(checkpoint.size)),
                JSONMember("trust", .text(self.report.trustSource.rawValue)),
                JSONMember("verdict", .text(self.verdict)),
            ])
        )
    }

    /// The same for a package that could not be judged.
    package static func json(unreadable error: PackageError, file: String) -> [UInt8] {
        CanonicalJSON.encode(
            .object([
                JSONMember("detail", .text(error.message)),
                JSONMember("exit_code", self.number(UInt64(PackageReport.Exit.unreadable.rawValue))),
                JSONMember("kind", .text(error.code.rawValue)),
                JSONMember("package", .text(file)),
                JSONMember("verdict", .text("unreadable")),
            ])
        )
    }

    private static func number(_ value: UInt64) -> JSONValue {
        JSONNumber(Int64(clamping: value)).map { .number($0) } ?? .null
    }
}
