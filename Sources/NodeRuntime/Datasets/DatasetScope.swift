internal import Columnar
internal import Primitives
internal import QueryRouter

extension QueryScope {
    /// Leaves out the rows of `audit_log` that are no candidates.
    ///
    /// The limit, which no table reaches, keeps the engine from moving the statement's own conditions into the same scan: there
    /// they would have it decompress the texts of all rows, not of the candidates alone.
    mutating func narrow(to candidates: TextCandidates, in database: String) {
        let table = AuditLogDataset.table.name
        self.replacements[table] = """
            SELECT * FROM \(quoteIdentifier(database)).main.\(table) WHERE \(candidates.condition) LIMIT \(Int64.max / 2)
            """
    }
}

/// What a statement sees of a store: everything as of one sequence.
struct DatasetScope: Sendable {
    /// Whether the statement reads what is folded.
    let readsFolded: Bool
    let moment: QueryMoment?

    /// - Throws: ``ColumnarError`` `.execution` for a sequence that the snapshot does not reach.
    func scope(_ snapshot: StoreSnapshot) throws -> QueryScope {
        let last = SequenceNumber(snapshot.position)
        var folded = last
        if self.readsFolded, let position = try snapshot.number(DatasetStorage.positionStatement) {
            folded = SequenceNumber(position)
        }
        // Records that came after the folding are not seen in `audit_log` either.
        let shown = try self.shown(snapshot, of: min(last, folded))
        var scope = QueryScope(position: shown.rawValue)
        let database = shown < last || shown < folded ? try snapshot.database() : ""
        if shown < last {
            let table = AuditLogDataset.table.name
            scope.replacements[table] =
                "SELECT * FROM \(quoteIdentifier(database)).main.\(table) WHERE sequence <= \(shown)"
        }
        if self.readsFolded, shown < folded {
            scope.replacements[EntityDataset.entities.name] = EntityDataset.entities(asOf: shown, in: database)
            scope.replacements[EntityDataset.history.name] = EntityDataset.history(asOf: shown, in: database)
        }
        return scope
    }

    private func shown(_ snapshot: StoreSnapshot, of last: SequenceNumber) throws -> SequenceNumber {
        switch self.moment {
        case nil: return last
        case .sequence(let sequence):
            guard sequence <= last else {
                throw ColumnarError(.execution, "there are \(last) records; a state as of \(sequence) was asked for")
            }
            return sequence
        case .time(let time):
            // Records of one organization are recorded in the order of their sequences.
            let found = try snapshot.number(
                """
                SELECT coalesce(max(sequence), 0::UBIGINT) FROM \(AuditLogDataset.table.name) \
                WHERE recorded_at <= make_timestamp(\(time.rawValue))
                """
            )
            return min(last, SequenceNumber(found ?? 0))
        }
    }
}
