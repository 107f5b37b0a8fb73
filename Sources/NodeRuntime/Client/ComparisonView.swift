/// The comparison of two replicas as the API gives it, or of a replica and a package.
package struct ComparisonView: Sendable, Decodable, Equatable {
    package struct Difference: Sendable, Decodable, Equatable {
        package var sequence: Int
        package var checksumA: String
        package var checksumB: String
        package var recordA: String
        package var recordB: String
        package var members: [String]
        package var verdict: String
        package var checkpointSize: Int?
        package var laterTotal: Int
        package var laterCompared: Int
        package var laterDiffering: Int
    }

    /// The package, where one is compared.
    package struct Package: Sendable, Decodable, Equatable {
        package var file: String
        package var kind: String
        package var checkpointSize: Int
        /// Whether those whom the auditor trusts have signed it.
        package var checkpointIsSigned: Bool
        /// Where the keys come from: `keys`, `policy` or `cluster`.
        package var trust: String
        /// The first record that the package lacks.
        package var lacksFrom: Int?
        package var lacksFile: String?
        /// The size of a signed checkpoint that the package's records do not lead to, although both sides have them.
        package var contradictsCheckpoint: Int?
    }

    package var organization: String
    package var a: Int
    /// Absent when the other side is a package.
    package var b: Int?
    package var package: Package?
    package var sizeA: Int?
    package var sizeB: Int?
    package var outcome: String
    package var shorter: String?
    package var side: String?
    package var fault: String?
    package var detail: String?
    /// Records among which the sides part, of which one side shows none.
    package var first: Int?
    package var last: Int?
    package var verdict: String?
    package var checkpointSize: Int?
    package var roundTrips: Int
    package var difference: Difference?

    /// The same records, as far as both have them, and nobody lacks what was signed.
    package var isSound: Bool {
        guard self.outcome == "equal" || self.outcome == "prefix" else { return false }
        guard let package = self.package else { return true }
        let replicaLacks = self.shorter == "a" && package.checkpointIsSigned
        return package.lacksFrom == nil && package.contradictsCheckpoint == nil && !replicaLacks
    }

    private func name(_ side: String?) -> String {
        if side == "a" { return "node \(self.a)" }
        return self.b.map { "node \($0)" } ?? "the package"
    }

    /// What was found, for people.
    package var text: String {
        let sizes = [("a", self.sizeA), ("b", self.sizeB)].map { side, size in
            "\(self.name(side)): \(size.map(Grouped.number) ?? "?") records"
        }
        var lines = ["\(self.organization): \(sizes.joined(separator: ", ")), \(self.roundTrips) round trips"]
        lines += self.packageLines
        switch self.outcome {
        case "equal": lines.append("the same records by their hashes (audit verify reads the bytes too)")
        case "prefix": lines.append("the same records by their hashes as far as \(self.name(self.shorter)) has them")
        case "caught": lines.append("CAUGHT: \(self.name(self.side)) \(self.fault ?? "") in its own tree")
        case "unavailable": lines.append("\(self.name(self.side)) cannot be read: \(self.detail ?? "")")
        case "withheld":
            lines.append("DIFFERENT somewhere in records \(self.first ?? 0) to \(self.last ?? 0)")
            lines.append("  \(self.name(self.side)) does not show these records: a full package tells which one it is")
            lines.append(self.text(verdict: self.verdict ?? "", size: self.checkpointSize))
        default: break
        }
        lines += self.difference.map { self.lines(of: $0) } ?? []
        return lines.joined(separator: "\n") + "\n"
    }

    private var packageLines: [String] {
        guard let package = self.package else { return [] }
        let trust = package.trust == "cluster" ? "the keys that the cluster publishes" : "your \(package.trust)"
        let signed = package.checkpointIsSigned ? "signed by a quorum" : "NOT signed by a quorum"
        let kind = package.kind == "full" ? "every record" : "some records, and the tree around them"
        var lines = [
            "package \(package.file): \(kind); its checkpoint of \(Grouped.number(package.checkpointSize)) records is "
                + "\(signed), by \(trust)"
        ]
        if let lack = package.lacksFrom {
            lines.append("TRUNCATED: the package lacks record \(lack) and what follows (\(package.lacksFile ?? ""))")
        }
        if let size = package.contradictsCheckpoint {
            lines.append(
                "CHANGED on both sides: the first \(Grouped.number(size)) records are not those that were signed"
            )
        }
        if self.shorter == "a", package.checkpointIsSigned {
            lines.append("node \(self.a) LACKS records that were signed: it is behind, or was cut off")
        }
        return lines
    }

    private func lines(of difference: Difference) -> [String] {
        var lines = ["DIFFERENT from record \(difference.sequence) on"]
        lines.append("  \(self.name("a")): \(difference.checksumA) (\(difference.recordA))")
        lines.append("  \(self.name("b")): \(difference.checksumB) (\(difference.recordB))")
        if !difference.members.isEmpty { lines.append("  members: \(difference.members.joined(separator: ", "))") }
        lines.append(
            "  later records: \(Grouped.number(difference.laterTotal)), of the first "
                + "\(Grouped.number(difference.laterCompared)) \(Grouped.number(difference.laterDiffering)) "
                + "differ in more than their link"
        )
        lines.append(self.text(verdict: difference.verdict, size: difference.checkpointSize))
        return lines
    }

    private func text(verdict: String, size: Int?) -> String {
        let size = size.map { " of size \(Grouped.number($0))" } ?? ""
        return switch verdict {
        case "a", "b": "  the quorum-signed checkpoint\(size) supports \(self.name(verdict))"
        case "neither": "  the quorum-signed checkpoint\(size) supports NEITHER"
        case "both": "  quorums have signed BOTH histories: a fork, up to the checkpoint\(size)"
        default: "  no quorum-signed checkpoint covers this record: undecided"
        }
    }
}
