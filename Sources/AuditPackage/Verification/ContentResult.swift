internal import AuditLedger
internal import Primitives

/// What a check of a package's records found.
struct ContentResult: Sendable {
    var findings: [PackageFinding] = []
    /// Findings about whole parts; one gives way when another finding says more about the same part.
    var partFindings: [PackageFinding] = []
    /// Records found to be those that were signed.
    var checkedCount: UInt64 = 0
    /// Whether the records that are there, and what stands for those that are not, lead to the signed root.
    var leadsToRoot = false

    mutating func add(_ part: PackageParts.Part) {
        if let finding = part.finding { self.partFindings.append(finding) }
    }

    /// All findings, the first bad record first.
    var sorted: [PackageFinding] {
        let precise = Set(self.findings.compactMap(\.file))
        let parts = self.partFindings.filter { $0.file.map { !precise.contains($0) } ?? true }
        return (self.findings + parts).enumerated().sorted { left, right in
            let (a, b) = (left.element.sequence?.rawValue ?? .max, right.element.sequence?.rawValue ?? .max)
            return a == b ? left.offset < right.offset : a < b
        }.map(\.element)
    }
}
