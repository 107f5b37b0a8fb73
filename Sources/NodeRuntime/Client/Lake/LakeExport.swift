package import Primitives

/// Where the records of a lake come from.
package protocol LakeSource: Sendable {
    /// The cluster, and how many records the organization's ledger has.
    func extent(of organization: OrganizationKey) async throws -> LakeExtent
    /// The pieces of a range by month, in order.
    func pieces(of organization: OrganizationKey, _ range: ClosedRange<UInt64>) async throws -> [LakePiece]
    /// Writes a piece as Parquet into `file` and says what was written.
    ///
    /// The digest is that of the bytes in the file and the one that the ledger has on record.
    /// - Throws: ``ClientError``, `.refused(problem: "result_too_large")` when the piece must be cut.
    func fetch(_ piece: LakePiece, into file: LakeStagedFile) async throws -> LakePlan.File
}

/// How far a ledger goes.
package struct LakeExtent: Sendable, Equatable {
    package var cluster: String
    package var size: UInt64

    package init(cluster: String, size: UInt64) {
        self.cluster = cluster
        self.size = size
    }
}

/// Brings a lake up to a cluster's ledgers, each record exactly once, wherever an earlier run ended.
///
/// Nothing but the log says what is exported. A range is fetched into staged files, which get their names, and then one
/// commit makes all of them part of the table and says how far the organization is: before it readers see none of the
/// range, after it all. Whoever finds the commit's version taken looks again at what is left to do. Safe to run twice at
/// a time, though everything is then fetched twice.
package struct LakeExport: Sendable {
    /// What was done for one organization.
    package struct Summary: Sendable, Equatable {
        package var organization: OrganizationKey
        /// Files and records that this run added.
        package var files = 0
        package var records: UInt64 = 0
        package var bytes: Int64 = 0
        /// The last sequence in the lake, and in the ledger when it was asked.
        package var exported: UInt64 = 0
        package var size: UInt64 = 0

        package init(organization: OrganizationKey) { self.organization = organization }
    }

    /// Times that a commit is tried against others who commit at the same time.
    static let commitTriesMax = 1_000

    private let source: any LakeSource
    private let storage: any LakeStorage
    private let rows: UInt64
    private let takesRest: Bool
    private let checkpointInterval: Int64
    private let tableID: String
    /// Milliseconds since 1970.
    private let now: @Sendable () -> Int64

    /// - Parameters:
    ///   - rows: Records of a sealed range, 1 to ``LakePlan/rowsMax``.
    ///   - takesRest: Whether the last records are exported too when they do not fill a range.
    ///   - checkpointInterval: Commits from one checkpoint of the log to the next, at least 1.
    ///   - tableID: The id that a new table gets.
    package init(
        source: any LakeSource,
        storage: any LakeStorage,
        rows: UInt64 = LakePlan.rowsDefault,
        takesRest: Bool = false,
        checkpointInterval: Int64 = DeltaCheckpoint.intervalDefault,
        tableID: String,
        now: @escaping @Sendable () -> Int64
    ) {
        precondition((1...LakePlan.rowsMax).contains(rows))
        precondition(checkpointInterval > 0)
        self.source = source
        self.storage = storage
        self.rows = rows
        self.takesRest = takesRest
        self.checkpointInterval = checkpointInterval
        self.tableID = tableID
        self.now = now
    }

    /// Exports what is to be exported of one organization now.
    ///
    /// The ledger's size is asked for once: what the export itself appends is not chased.
    /// - Parameter onCommit: Called after each commit with what is done so far.
    /// - Throws: ``ClientError``; what was committed before stays, and a later run goes on after it.
    package func run(
        _ organization: OrganizationKey,
        onCommit: @Sendable (Summary) -> Void = { _ in }
    ) async throws -> Summary {
        let extent = try await self.source.extent(of: organization)
        var state = LakeState()
        try await self.refresh(&state, cluster: extent.cluster)
        var summary = Summary(organization: organization)
        summary.size = extent.size
        try await self.sweep(organization, state)
        while true {
            let exported = state.exported(organization)
            summary.exported = exported
            guard exported <= extent.size else {
                throw ClientError(
                    .badInput,
                    "the lake has \(exported) records of \(organization), its ledger only \(extent.size): "
                        + "this is not the ledger that was exported"
                )
            }
            guard
                let range = LakePlan.next(
                    after: exported,
                    size: extent.size,
                    rows: self.rows,
                    takesRest: self.takesRest
                )
            else { return summary }
            let files = try await self.fetch(range, of: organization)
            if try await self.commit(files, range, of: organization, extent.cluster, &state) {
                summary.files += files.count
                summary.records += UInt64(range.count)
                summary.bytes += files.reduce(0) { $0 + $1.sizeBytes }
                summary.exported = range.upperBound
                onCommit(summary)
            }
            try await self.sweep(organization, state)
            try Task.checkCancellation()
        }
    }

    // MARK: Fetching

    private func fetch(_ range: ClosedRange<UInt64>, of organization: OrganizationKey) async throws -> [LakePlan.File] {
        let pieces = try await self.source.pieces(of: organization, range)
        var next = range.lowerBound
        for piece in pieces {
            guard piece.range.lowerBound == next, piece.range.upperBound <= range.upperBound else { break }
            next = piece.range.upperBound + 1
        }
        guard next == range.upperBound + 1 else {
            throw ClientError(
                .unexpectedAnswer,
                "the months of \(organization)'s records \(range.lowerBound) to \(range.upperBound) leave out records"
            )
        }
        var files: [LakePlan.File] = []
        var waiting = Array(pieces.reversed())
        while let piece = waiting.popLast() {
            do {
                files.append(try await self.fetch(piece))
            } catch let error as ClientError where error.code == .refused(problem: "result_too_large") {
                guard let (first, second) = piece.halves else { throw error }
                waiting += [second, first]
            }
            try Task.checkCancellation()
        }
        return files
    }

    private func fetch(_ piece: LakePiece) async throws -> LakePlan.File {
        let staged = try await self.storage.stage()
        let file = try await self.source.fetch(piece, into: staged)
        precondition(file.piece == piece, "a source writes what it is asked for")
        try await self.storage.place(staged, at: file.path)
        return file
    }

    // MARK: The log

    /// Reads the commits that are new.
    private func refresh(_ state: inout LakeState, cluster: String) async throws {
        if state.version < 0, let first = try await self.storage.firstVersion(), first > 0 {
            throw ClientError(
                .badInput,
                "the lake's log begins with commit \(first): another program has removed the commits before it"
            )
        }
        while let bytes = try await self.storage.commit(state.version + 1) {
            try state.apply(try DeltaCommit.decode(bytes, version: state.version + 1), version: state.version + 1)
        }
        try state.requireCluster(cluster)
    }

    /// Makes the files part of the table.
    /// - Returns: False when somebody else has exported beyond the beginning of the range.
    private func commit(
        _ files: [LakePlan.File],
        _ range: ClosedRange<UInt64>,
        of organization: OrganizationKey,
        _ cluster: String,
        _ state: inout LakeState
    ) async throws -> Bool {
        for _ in 0..<Self.commitTriesMax {
            try await self.refresh(&state, cluster: cluster)
            guard state.exported(organization) + 1 == range.lowerBound else { return false }
            let commit = LakePlan.Commit(
                cluster: cluster,
                organization: organization,
                range: range,
                files: files,
                tableID: self.tableID,
                nowMS: self.now()
            )
            let actions = try commit.actions(on: state)
            if try await self.storage.make(state.version + 1, try DeltaCommit.encode(actions)) {
                try state.apply(actions, version: state.version + 1)
                // Readers do without it: one that is not made costs them time.
                if state.version > 0, state.version % self.checkpointInterval == 0 {
                    try await DeltaCheckpoint.write(state.version, to: self.storage)
                }
                return true
            }
        }
        throw ClientError(.localFile, "other programs commit to the lake without a pause: \(Self.commitTriesMax) tries")
    }

    /// Removes files of ours that no commit has named and none ever will: their records are in the table already.
    private func sweep(_ organization: OrganizationKey, _ state: LakeState) async throws {
        let exported = state.exported(organization)
        for path in try await self.storage.files(of: organization.rawValue) {
            guard let last = LakePiece.lastSequence(ofFile: path), last <= exported, !state.named.contains(path) else {
                continue
            }
            try await self.storage.remove(path)
        }
    }
}
