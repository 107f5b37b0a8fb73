internal import AuditLedger
internal import Laboratory
internal import Primitives
internal import Shards

/// Rebuilds what entities were at a moment, by folding records; reads replicas and changes nothing.
struct HistoryReader: Sendable {
    /// Most entities of an organization whose whole state is built at once.
    static let entitiesMax = 1_000_000
    /// Records read at once.
    static let runRecords = 1000

    /// One entity at a moment.
    struct EntityView: Sendable {
        /// Nil when it did not exist yet.
        let state: EntityState?
        /// Records of it that were folded.
        let records: Int
    }

    let records: RecordReader
    let filter: RecordFilter

    /// An entity as it was.
    /// - Parameter moment: Nil for now.
    /// - Throws: What reading records and queries throw.
    func entity(
        _ name: EntityName,
        of entry: OrganizationEntry,
        at moment: HistoryMoment?,
        isLatest: Bool
    ) async throws -> EntityView {
        var state: EntityState?
        var count = 0
        var cursor: SequenceNumber?
        var before: Timestamp?
        if case .time(let time) = moment { before = Timestamp(microseconds: time.rawValue + 1) }
        pages: while true {
            let search = RecordSearch(
                equal: [
                    ("entity_type", String(decoding: name.type, as: UTF8.self)),
                    ("entity_id", String(decoding: name.id, as: UTF8.self)),
                ],
                before: before,
                cursor: cursor,
                isLatest: isLatest && cursor == nil
            )
            let sequences = try await self.filter.sequences(matching: search, in: entry)
            let page = try await self.records.read(.sequences(sequences), of: entry, isLatest: false)
            for record in page.records {
                let change = try EntityChange(record.bytes)
                if let moment, !moment.includes(change.sequence, recordedAt: change.recordedAt) { break pages }
                // What SQL takes as equal may differ in its bytes.
                guard change.name == name else { continue }
                state = EntityFold.apply(change, to: state)
                count += 1
            }
            guard sequences.count == RecordSearch.limitMax, let last = sequences.last else { break }
            cursor = last.next
        }
        return EntityView(state: state, records: count)
    }

    /// All entities as they were.
    /// - Parameter moment: Nil for now.
    /// - Throws: `OrganizationState.Failure` beyond ``entitiesMax``, and what reading records throws.
    func organization(
        _ entry: OrganizationEntry,
        at moment: HistoryMoment?,
        isLatest: Bool
    ) async throws -> OrganizationState {
        var state = OrganizationState(entitiesMax: Self.entitiesMax)
        try await self.advance(&state, of: entry, to: moment, isLatest: isLatest)
        return state
    }

    /// Folds on from where `state` is.
    func advance(
        _ state: inout OrganizationState,
        of entry: OrganizationEntry,
        to moment: HistoryMoment?,
        isLatest: Bool
    ) async throws {
        var isFirst = true
        while true {
            let page = try await self.records.read(
                .run(from: state.sequence.next, limit: Self.runRecords, isDescending: false),
                of: entry,
                isLatest: isLatest && isFirst
            )
            isFirst = false
            for record in page.records {
                let change = try EntityChange(record.bytes)
                if let moment, !moment.includes(change.sequence, recordedAt: change.recordedAt) { return }
                try state.apply(change)
            }
            guard let last = page.records.last, last.sequence.rawValue < page.size else { return }
            try Task.checkCancellation()
        }
    }
}
