internal import AuditLedger
internal import AuditPackage
internal import Foundation
internal import Laboratory
internal import Primitives
internal import Shards

/// Finds what stands in a package beside the records: records about erasures, notes of re-readings, fork proofs and,
/// when they were asked for, personal values.
struct SupplementReader: Sendable {
    /// Notes of re-readings that a package gets: the last ones.
    static let scrubsShown = 16

    let directory: ShardDirectory
    let filter: RecordFilter
    let records: RecordReader
    let checkpoints: CheckpointReader
    let subjects: SubjectKeeper

    /// - Parameters:
    ///   - ranges: The records that the package shows.
    ///   - size: That of its checkpoint.
    /// - Throws: ``Problem`` and what reading throws.
    func supplement(
        of entry: OrganizationEntry,
        ranges: [ClosedRange<UInt64>],
        size: UInt64,
        opensPersonal: Bool
    ) async throws -> PackageSupplement {
        var supplement = PackageSupplement()
        supplement.forks = try await self.forks(entry)
        guard entry.key != SystemState.ledgerKey else { return supplement }
        for action in PackageSupplement.erasureActions {
            supplement.erasures += try await self.sequences(action, nil, entry, isLatest: true) { $0 <= size }
        }
        supplement.erasures.sort()
        supplement.scrubs = try await self.scrubs(entry, size)
        if opensPersonal { supplement.openings = try await self.openings(entry, ranges) }
        return supplement
    }

    private func sequences(
        _ action: String,
        _ entity: String?,
        _ entry: OrganizationEntry,
        isLatest: Bool,
        where isWanted: (UInt64) -> Bool
    ) async throws -> [UInt64] {
        var found: [UInt64] = []
        var cursor: SequenceNumber?
        while found.count < PackageSupplement.erasuresMax {
            let search = RecordSearch(
                equal: [("action", action)] + (entity.map { [("entity_id", $0)] } ?? []),
                before: nil,
                cursor: cursor,
                isLatest: isLatest && cursor == nil
            )
            let page = try await self.filter.sequences(matching: search, in: entry)
            found += page.map(\.rawValue).filter(isWanted)
            guard page.count == RecordSearch.limitMax, let last = page.last else { break }
            cursor = last.next
        }
        return found
    }

    /// The last notes on re-readings, out of the cluster's ledger.
    private func scrubs(_ entry: OrganizationEntry, _ size: UInt64) async throws -> [[UInt8]] {
        guard let system = self.directory.organization(SystemState.ledgerKey) else { return [] }
        let all = try await self.sequences("ledger.scrubbed", entry.key.rawValue, system, isLatest: false) { _ in true }
        let last = all.suffix(Self.scrubsShown).map { SequenceNumber($0) }
        guard !last.isEmpty else { return [] }
        let page = try await self.records.read(.sequences(last), of: system, isLatest: false)
        return page.records.compactMap { record in
            guard let after = try? LedgerRecord(record.bytes).after, case .string(let note)? = after["note"] else {
                return nil
            }
            return note
        }
    }

    private func forks(_ entry: OrganizationEntry) async throws -> [[UInt8]] {
        let answer = try await self.checkpoints.answer(.forks, about: entry)
        return try JSONPlace(try JSONParser.parse(answer.body, limits: JSONLimits(bytesMax: answer.body.count)))
            .array("forks").prefix(PackageSupplement.forksMax)
            .map { Array(try $0.string("proof").utf8) }
    }

    /// Every personal value of the shown records that can be opened.
    private func openings(
        _ entry: OrganizationEntry,
        _ ranges: [ClosedRange<UInt64>]
    ) async throws -> [PackageSupplement.Opening] {
        let mark = Data("\"personal\":[".utf8)
        var openings: [PackageSupplement.Opening] = []
        var bytes = 0
        var pages = SequencePages(ranges: ranges)
        while let sequences = pages.next(count: ExportService.pageRecords) {
            let page = try await self.records.read(.sequences(sequences), of: entry, isLatest: false)
            for record in page.records where Data(record.bytes).range(of: mark) != nil {
                for field in try await self.subjects.reveal(record.sequence, of: entry) {
                    guard let (value, salt) = field.opened else { continue }
                    bytes += value.count + field.path.utf8.count + field.subject.utf8.count + 256
                    openings.append(
                        PackageSupplement.Opening(
                            sequence: record.sequence.rawValue,
                            field: PersonalField(path: field.path, subject: field.subject),
                            value: value,
                            salt: salt
                        )
                    )
                }
                guard openings.count <= PackageSupplement.openingsMax, bytes <= PackageSupplement.openingsBytesMax
                else {
                    throw Problem(
                        .resultTooLarge,
                        "the records have more than \(PackageSupplement.openingsMax) personal values, or more than "
                            + "\(PackageSupplement.openingsBytesMax >> 20) MiB of them: export fewer records at once"
                    )
                }
            }
            try Task.checkCancellation()
        }
        return openings
    }
}
