internal import AuditLedger
internal import Primitives

/// The page that people read and print.
///
/// It shows what the package says; that this is true, only a verifier can tell, and the page says so.
struct ReportPage: Sendable {
    /// Rows and bytes of the table; what is beyond is in the package all the same.
    static let rowsMax = 2_000
    static let rowBytesMax = 4 << 20

    private var rows: [UInt8] = []
    private(set) var rowCount = 0
    private(set) var recordCount: UInt64 = 0

    /// Adds a record, while there is room.
    mutating func add(_ bytes: [UInt8]) {
        self.recordCount += 1
        guard self.rowCount < Self.rowsMax, self.rows.count < Self.rowBytesMax, let row = RecordSentence(bytes) else {
            return
        }
        self.rowCount += 1
        let cells = [String(row.sequence), row.time, row.actor, row.text, row.note]
        self.rows += Array("<tr>\(cells.map { "<td>\(Self.escaped($0))</td>" }.joined())</tr>\n".utf8)
    }

    /// The whole page.
    func page(_ manifest: PackageManifest, checkpoint: SignedCheckpoint, policy: TrustPolicy) -> [UInt8] {
        let title = "Audit package of \(manifest.organization)"
        var html = "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
        html +=
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        html += "<title>\(Self.escaped(title))</title>\n<style>\(Self.style)</style></head><body>\n"
        html +=
            "<h1>\(Self.escaped(title))</h1>\n<p class=\"warn\">This page proves nothing by itself. Check the package "
        html +=
            "with <code>ftverify</code>, with <code>verify.py</code> or with tools of other makers as VERIFY.txt says; "
        html += "only their verdict counts.</p>\n<table class=\"facts\">\n"
        for (name, value) in self.facts(manifest, checkpoint: checkpoint, policy: policy) {
            html += "<tr><th>\(Self.escaped(name))</th><td>\(Self.escaped(value))</td></tr>\n"
        }
        html += "</table>\n<h2>Records</h2>\n"
        if self.recordCount > UInt64(self.rowCount) {
            html += "<p>The first \(self.rowCount) of \(self.recordCount) records; all are in the package.</p>\n"
        }
        html += "<table class=\"records\"><thead><tr><th>No.</th><th>Recorded at (UTC)</th><th>By</th><th>What</th>"
        html += "<th>Note</th></tr></thead><tbody>\n"
        return Array(html.utf8) + self.rows + Array("</tbody></table>\n</body></html>\n".utf8)
    }

    private func facts(
        _ manifest: PackageManifest,
        checkpoint: SignedCheckpoint,
        policy: TrustPolicy
    ) -> [(String, String)] {
        let filters =
            manifest.filters.isEmpty
            ? "none" : String(decoding: CanonicalJSON.encode(.object(manifest.filters)), as: UTF8.self)
        let left = manifest.size - min(manifest.size, manifest.shownCount)
        var facts = [
            ("Organization", manifest.organization.rawValue),
            ("Log", manifest.origin.description),
            ("Asked for", "records \(manifest.first) to \(manifest.last)"),
            ("Filters", filters),
            ("Records shown", String(manifest.shownCount)),
            ("Records left out", left == 0 ? "none" : "\(left); the proofs show that they exist"),
            ("Exported by", Self.actor(manifest.exportedBy)),
            ("Exported at", manifest.exportedAt.description),
            ("Made by", manifest.node),
            ("Checkpoint", "\(manifest.size) records, root \(manifest.root)"),
            ("Signed by", checkpoint.note.signatures.map { $0.name.description }.joined(separator: ", ")),
            ("Quorum of the policy", policy.quorum?.description ?? "none"),
        ]
        if let record = manifest.record {
            facts.append(("Recorded as", "record \(record.sequence), checksum \(record.checksum)"))
        }
        return facts
    }

    private static func actor(_ value: JSONValue) -> String {
        let place = JSONPlace(value)
        let id = (try? place.string("id")) ?? ""
        let name = (try? place.optionalString("name")).flatMap { $0 }
        return name.map { "\($0) (\(id))" } ?? id
    }

    /// Text as HTML shows it, also inside attributes.
    static func escaped(_ text: String) -> String {
        var escaped = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "&": escaped += "&amp;"
            case "<": escaped += "&lt;"
            case ">": escaped += "&gt;"
            case "\"": escaped += "&quot;"
            case "'": escaped += "&#39;"
            // Marks that turn the direction of text would let one value pose as another.
            case "\u{202A}"..."\u{202E}", "\u{2066}"..."\u{2069}": escaped += "\u{FFFD}"
            default: escaped.unicodeScalars.append(scalar)
            }
        }
        return escaped
    }

    private static let style = """
        body{font:14px/1.4 sans-serif;margin:2em;color:#111}h1{font-size:1.5em}
        table{border-collapse:collapse;width:100%}td,th{border:1px solid #bbb;padding:.25em .5em;text-align:left;\
        vertical-align:top;overflow-wrap:anywhere}.facts th{width:14em;background:#f3f3f3}
        .warn{border:1px solid #b00;padding:.5em}thead{display:table-header-group}
        .records td:nth-child(1),.records td:nth-child(2){white-space:nowrap}
        @media print{body{margin:0;font-size:9pt}tr{break-inside:avoid}}
        """
}
