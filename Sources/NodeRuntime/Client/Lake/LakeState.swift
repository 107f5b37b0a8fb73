internal import Foundation
package import Primitives

/// What a lake's log says so far: how far each organization is exported, and which files it ever named.
package struct LakeState: Sendable, Equatable {
    /// The last commit; -1 before the first.
    package private(set) var version: Int64 = -1
    package private(set) var metadata: DeltaAction.Metadata?
    /// The last sequence that is exported, by application; see ``appID(_:)``.
    package private(set) var exported: [String: UInt64] = [:]
    /// Paths of all files that a commit has ever added, decoded.
    package private(set) var named: Set<String> = []

    package init() {}

    /// The cluster in the table's configuration.
    package static let clusterKey = "flasktrack.cluster"
    /// Versions of the protocol that this program reads and writes.
    package static let versions = DeltaAction.VersionsNeeded(minReaderVersion: 1, minWriterVersion: 2)

    /// Under this name an organization's progress stands in the log.
    package static func appID(_ organization: OrganizationKey) -> String { "flasktrack:\(organization)" }

    /// The last exported sequence of an organization; 0 for none.
    package func exported(_ organization: OrganizationKey) -> UInt64 {
        self.exported[Self.appID(organization)] ?? 0
    }

    /// Takes the next commit.
    /// - Throws: ``ClientError`` `.badInput` for a table that another program has made or changed beyond what is read here.
    package mutating func apply(_ actions: [DeltaAction], version: Int64) throws(ClientError) {
        precondition(version == self.version + 1, "commits come in order")
        for action in actions {
            if let needed = action.protocol,
                needed.minReaderVersion > Self.versions.minReaderVersion
                    || needed.minWriterVersion > Self.versions.minWriterVersion
            {
                throw ClientError(
                    .badInput,
                    "another program has raised the lake's protocol to reader \(needed.minReaderVersion), writer "
                        + "\(needed.minWriterVersion): ftnode writes \(Self.versions.minReaderVersion) and "
                        + "\(Self.versions.minWriterVersion)"
                )
            }
            if let metadata = action.metaData {
                guard metadata.partitionColumns == LakeColumns.partition else {
                    throw ClientError(.badInput, "the lake's table is not partitioned by organization and month")
                }
                self.metadata = metadata
            }
            if let add = action.add { self.named.insert(add.path.removingPercentEncoding ?? add.path) }
            if let transaction = action.txn { self.exported[transaction.appId] = UInt64(clamping: transaction.version) }
        }
        self.version = version
    }

    /// Refuses a lake of another cluster: the same key would mean another organization.
    package func requireCluster(_ cluster: String) throws(ClientError) {
        guard self.version >= 0 else { return }
        guard let found = self.metadata?.configuration[Self.clusterKey] else {
            throw ClientError(.badInput, "the folder audit_log holds a table that ftnode has not made")
        }
        guard found == cluster else {
            throw ClientError(.badInput, "the lake is of cluster \(found), not of \(cluster)")
        }
    }
}

/// A stretch of one organization's records within one month: what one file holds.
package struct LakePiece: Sendable, Hashable {
    package let organization: OrganizationKey
    /// `YYYY-MM`, of `recorded_at` in UTC.
    package let month: String
    package let range: ClosedRange<UInt64>

    package init(organization: OrganizationKey, month: String, range: ClosedRange<UInt64>) {
        self.organization = organization
        self.month = month
        self.range = range
    }

    /// The folder of a partition, relative to the table.
    package var folder: String { "organization=\(self.organization)/month=\(self.month)" }

    /// Both halves, or nil when it is of one record.
    package var halves: (LakePiece, LakePiece)? {
        let (first, last) = (self.range.lowerBound, self.range.upperBound)
        guard first < last else { return nil }
        let middle = first + (last - first) / 2
        return (
            LakePiece(organization: self.organization, month: self.month, range: first...middle),
            LakePiece(organization: self.organization, month: self.month, range: middle + 1...last)
        )
    }

    /// The path of its file, which ends with the beginning of the file's SHA-256: a name never stands for other bytes.
    package func path(sha256: String) -> String {
        let first = Self.padded(self.range.lowerBound)
        let last = Self.padded(self.range.upperBound)
        return "\(self.folder)/part-\(first)-\(last)-\(sha256.prefix(Self.digestDigits)).parquet"
    }

    private static let digestDigits = 16
    private static let sequenceDigits = 12

    private static func padded(_ sequence: UInt64) -> String {
        let text = String(sequence)
        return String(repeating: "0", count: max(0, self.sequenceDigits - text.count)) + text
    }

    /// The last sequence of the file at `path`; nil for files that have no name of ours.
    package static func lastSequence(ofFile path: String) -> UInt64? {
        guard let name = path.split(separator: "/").last, name.hasPrefix("part-"), name.hasSuffix(".parquet") else {
            return nil
        }
        let parts = name.dropFirst(5).dropLast(8).split(separator: "-", omittingEmptySubsequences: false)
        guard parts.count == 3, parts[2].utf8.count == Self.digestDigits,
            parts[0].utf8.count >= Self.sequenceDigits, parts[1].utf8.count >= Self.sequenceDigits
        else { return nil }
        return UInt64(parts[1])
    }
}

/// Which records become files, and what a commit says.
package enum LakePlan {
    /// Records of a sealed range unless the user says otherwise.
    package static let rowsDefault: UInt64 = 65_536
    /// Most records of a sealed range.
    package static let rowsMax: UInt64 = 1 << 20

    /// The next range to export of a ledger of `size` records, of which `exported` are in the lake.
    ///
    /// Ranges end at multiples of `rows`, whatever ended the one before.
    /// - Parameter takesRest: Whether the last records are taken too when they do not fill a range.
    package static func next(
        after exported: UInt64,
        size: UInt64,
        rows: UInt64,
        takesRest: Bool
    ) -> ClosedRange<UInt64>? {
        precondition(rows > 0)
        guard size > exported else { return nil }
        let end = (exported / rows + 1) * rows
        if end <= size { return exported + 1...end }
        return takesRest ? exported + 1...size : nil
    }

    /// A file as the log gets to know it.
    package struct File: Sendable, Equatable {
        package var piece: LakePiece
        package var sha256: String
        package var sizeBytes: Int64
        /// Where the ledger says what was exported: the record `export`, and `export_completed` with the digest.
        package var exportRecord: UInt64
        package var completionRecord: UInt64

        package init(
            piece: LakePiece,
            sha256: String,
            sizeBytes: Int64,
            exportRecord: UInt64,
            completionRecord: UInt64
        ) {
            self.piece = piece
            self.sha256 = sha256
            self.sizeBytes = sizeBytes
            self.exportRecord = exportRecord
            self.completionRecord = completionRecord
        }

        package var path: String { self.piece.path(sha256: self.sha256) }
    }

    /// Everything that one commit is made of.
    package struct Commit: Sendable {
        package var cluster: String
        package var organization: OrganizationKey
        package var range: ClosedRange<UInt64>
        package var files: [File]
        /// Of the table, when this is its first commit.
        package var tableID: String
        /// Milliseconds since 1970.
        package var nowMS: Int64
        package var columns = LakeColumns.files

        package init(
            cluster: String,
            organization: OrganizationKey,
            range: ClosedRange<UInt64>,
            files: [File],
            tableID: String,
            nowMS: Int64
        ) {
            self.cluster = cluster
            self.organization = organization
            self.range = range
            self.files = files
            self.tableID = tableID
            self.nowMS = nowMS
        }

        /// The actions that add the files to a table in `state`.
        /// - Throws: ``ClientError`` `.badInput` when the table does not take them.
        package func actions(on state: LakeState) throws -> [DeltaAction] {
            let tiling = self.files.map(\.piece.range)
            precondition(
                tiling.first?.lowerBound == self.range.lowerBound && tiling.last?.upperBound == self.range.upperBound
                    && zip(tiling, tiling.dropFirst()).allSatisfy { $0.upperBound + 1 == $1.lowerBound },
                "the files of a commit hold its range once and in order"
            )
            var actions = [DeltaAction.with { $0.commitInfo = self.info }]
            if let metadata = state.metadata {
                if let schema = try LakeColumns.evolved(metadata.schemaString, for: self.columns) {
                    var wider = metadata
                    wider.schemaString = schema
                    actions.append(.with { $0.metaData = wider })
                }
            } else {
                let metadata = try self.firstMetadata()
                actions.append(.with { $0.protocol = LakeState.versions })
                actions.append(.with { $0.metaData = metadata })
            }
            let transaction = DeltaAction.Transaction(
                appId: LakeState.appID(self.organization),
                version: Int64(clamping: self.range.upperBound),
                lastUpdated: self.nowMS
            )
            actions.append(.with { $0.txn = transaction })
            for file in self.files {
                let add = try self.add(file)
                actions.append(.with { $0.add = add })
            }
            return actions
        }

        private var info: DeltaAction.CommitInfo {
            DeltaAction.CommitInfo(
                timestamp: self.nowMS,
                operation: "WRITE",
                operationParameters: [
                    "mode": "Append", "organization": self.organization.rawValue,
                    "first": String(self.range.lowerBound), "last": String(self.range.upperBound),
                ],
                engineInfo: "ftnode/\(ProductVersion.text)"
            )
        }

        private func firstMetadata() throws -> DeltaAction.Metadata {
            DeltaAction.Metadata(
                id: self.tableID,
                name: "audit_log",
                description: "one row a record of an organization's ledger",
                format: DeltaAction.Format(provider: "parquet", options: [:]),
                schemaString: try LakeColumns.schemaString(self.columns),
                partitionColumns: LakeColumns.partition,
                configuration: [LakeState.clusterKey: self.cluster],
                createdTime: self.nowMS
            )
        }

        private func add(_ file: File) throws -> DeltaAction.Add {
            let range = file.piece.range
            let statistics = DeltaAction.Statistics(
                numRecords: Int64(range.count),
                minValues: ["sequence": Int64(clamping: range.lowerBound)],
                maxValues: ["sequence": Int64(clamping: range.upperBound)],
                nullCount: ["sequence": 0]
            )
            return DeltaAction.Add(
                path: file.path,
                partitionValues: [
                    "organization": file.piece.organization.rawValue, "month": file.piece.month,
                ],
                size: file.sizeBytes,
                modificationTime: self.nowMS,
                dataChange: true,
                stats: String(decoding: try DeltaCommit.json(statistics), as: UTF8.self),
                tags: [
                    "sha256": file.sha256, "export_record": String(file.exportRecord),
                    "completion_record": String(file.completionRecord),
                ]
            )
        }
    }
}
