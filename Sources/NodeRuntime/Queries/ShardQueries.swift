internal import AuditLedger
internal import Columnar
internal import Consensus
internal import Foundation
internal import HTTPTypes
internal import Laboratory
internal import NIOCore
internal import Primitives
internal import QueryRouter
internal import Shards
internal import Storage
internal import Transport

/// Runs statements on columnar stores: here when this node has a replica of the organization, otherwise on a peer that has one.
struct ShardQueries: ShardQueryService {
    let node: NodeID
    let directory: ShardDirectory
    let placement: Placement
    let applier: ShardApplier
    let projector: Projector
    let stores: any OrganizationStores
    let reads: ReadGate
    let storeThreads: StoreThreads
    let keyValueStore: any KeyValueStore
    let links: PeerLinks
    /// How far the peers are.
    let distances: PeerDistances
    /// How long a statement waits for the columnar store to reach the wanted sequence.
    let freshnessMax: Duration
    /// Whether statements see no reserved records, whatever they say: those of callers who may not.
    var hidesReserved = false

    /// The same shards for callers who may not see reserved records.
    var withoutReserved: ShardQueries {
        var queries = self
        queries.hidesReserved = true
        return queries
    }

    func query(
        organization key: OrganizationKey,
        statement: ShardStatement,
        requirement: ReadRequirement,
        limits: ShardQueryLimits
    ) async throws -> ShardResult {
        guard let entry = self.directory.organization(key) else {
            throw QueryError(.unavailable, "organization \(key) is not known on this node", names: [key.rawValue])
        }
        let request = try self.request(entry, statement, requirement, limits)
        var here: (() async throws -> ShardResult)?
        if self.placement.servesHere(entry) {
            here = {
                let result = try await self.queryHere(
                    entry,
                    statement: statement,
                    requirement: requirement,
                    limits: limits
                )
                return try await result.started()
            }
        }
        return try await ReplicaFailover(organization: key).run(here: here, others: self.nearest(entry.group)) { peer in
            let response = try await self.links.open(
                request.path,
                of: peer,
                request.message,
                timeout: limits.timeLimit + self.freshnessMax
            )
            return try await RemoteShardResult.read(response, of: key, from: peer)
        }
    }

    /// The other nodes with a replica of `group` to ask, the nearest first; none that is not connected.
    private func nearest(_ group: GroupID) -> [NodeID] {
        self.placement.others(of: group, roundTrips: self.distances.roundTrips).filter {
            self.links.isConnected(to: $0)
        }
    }

    func tables(of key: OrganizationKey, isCurrent: Bool) async throws -> ShardTables {
        guard let entry = self.directory.organization(key) else {
            throw QueryError(.unavailable, "organization \(key) is not known on this node", names: [key.rawValue])
        }
        let others = self.nearest(entry.group)
        var reason: (any Error)?
        if self.placement.servesHere(entry) {
            do {
                return try await self.tablesHere(entry, isCurrent: isCurrent)
            } catch let error as ShardError where !others.isEmpty {
                reason = error
            }
        }
        return try await self.tablesElsewhere(entry, among: others, isCurrent: isCurrent, reason: reason)
    }

    // MARK: Where organizations stand

    /// The last sequence of each organization, as new as `consistency` asks; nil when one of them is not served here.
    /// - Throws: ``QueryError`` `.unavailable` when no majority confirms the newest.
    func sequences(
        of keys: [OrganizationKey],
        _ consistency: QueryConsistency
    ) async throws -> [OrganizationKey: SequenceNumber]? {
        var entries: [OrganizationEntry] = []
        for key in keys {
            guard let entry = self.directory.organization(key), self.placement.servesHere(entry) else { return nil }
            entries.append(entry)
        }
        if case .linearizable = consistency {
            // One round for each group, however many of its organizations are asked for.
            let firsts = Dictionary(entries.map { ($0.group, $0) }) { first, _ in first }
            try await withThrowingTaskGroup(of: Void.self) { group in
                for entry in firsts.values { group.addTask { try await self.linearize(entry) } }
                try await group.waitForAll()
            }
        }
        var sequences: [OrganizationKey: SequenceNumber] = [:]
        for entry in entries {
            let last = try await self.localHead(entry.id).lastSequence
            if case .atLeast(let wanted) = consistency, let least = wanted[entry.key], last < least { return nil }
            sequences[entry.key] = last
        }
        return sequences
    }

    // MARK: Here

    /// The sequence that the columnar store must have reached, after waiting for the ledger to have it.
    private func wantedSequence(
        _ entry: OrganizationEntry,
        _ requirement: ReadRequirement
    ) async throws -> SequenceNumber {
        switch requirement {
        case .eventual: return .zero
        case .latest:
            try await self.linearize(entry)
            return try await self.localHead(entry.id).lastSequence
        case .atLeast(let sequence):
            if try await self.localHead(entry.id).lastSequence >= sequence { return sequence }
            try await self.linearize(entry)
            let last = try await self.localHead(entry.id).lastSequence
            guard last >= sequence else {
                throw QueryError(
                    .invalid,
                    "organization \(entry.key) has \(last) records, at least \(sequence) were asked for",
                    names: [entry.key.rawValue]
                )
            }
            return sequence
        }
    }

    private func linearize(_ entry: OrganizationEntry) async throws {
        do {
            try await self.reads.linearize(entry.group)
        } catch {
            throw QueryError(
                .unavailable,
                "no majority confirmed the newest records of organization \(entry.key); consistency \"eventual\" needs none",
                names: [entry.key.rawValue],
                cause: error
            )
        }
    }

    private func localHead(_ organization: OrganizationID) async throws -> LedgerHead {
        if let head = self.applier.knownHead(of: organization) { return head }
        let applier = self.applier
        return try await self.storeThreads.run { try applier.head(of: organization) }
    }

    func queryHere(
        _ entry: OrganizationEntry,
        statement: ShardStatement,
        requirement: ReadRequirement,
        limits: ShardQueryLimits
    ) async throws -> ShardResult {
        let needed = Self.strengthened(requirement, for: statement.asOf)
        try await self.waitUntilProjected(entry, try await self.wantedSequence(entry, needed))
        let limits = QueryLimits(
            timeLimit: limits.timeLimit,
            rowsMax: limits.resultRowsMax,
            bytesMax: limits.resultBytesMax,
            hidden: self.hidesReserved ? AuditLogDataset.reservedRows : []
        )
        let result = try await self.stores.query(StoreQuestion(statement, limits: limits), of: entry.id)
        return ShardResult(
            schema: result.schema,
            provenance: ShardProvenance(
                organization: entry.key,
                sequence: result.position,
                root: try await self.root(of: entry.id, at: result.position),
                node: self.node
            ),
            batches: result.batches
        )
    }

    /// The root of the ledger at `sequence`: mostly that of its head, which is known.
    private func root(of organization: OrganizationID, at sequence: SequenceNumber) async throws -> Digest {
        if let head = self.applier.knownHead(of: organization), head.size == sequence.rawValue { return head.root }
        let reader = LedgerReader(store: self.keyValueStore, organization: organization)
        return try await self.storeThreads.run { try reader.root(at: sequence.rawValue) }
    }

    /// A moment that is named by its record needs that record.
    private static func strengthened(_ requirement: ReadRequirement, for moment: QueryMoment?) -> ReadRequirement {
        guard case .sequence(let sequence) = moment else { return requirement }
        switch requirement {
        case .latest: return .latest
        case .atLeast(let other): return .atLeast(max(other, sequence))
        case .eventual: return .atLeast(sequence)
        }
    }

    private func waitUntilProjected(_ entry: OrganizationEntry, _ wanted: SequenceNumber) async throws {
        if self.projector.hasProjected(entry.id, wanted) { return }
        do {
            try await withTimeLimit(self.freshnessMax, "projection") {
                try await self.projector.waitUntilProjected(entry.id, wanted)
            }
        } catch let error as TimedOut {
            throw ShardError(code: .projectionBehind, message: "columnar store of \(entry.key)", cause: error)
        }
    }

    /// The tables as this node's store has them.
    func tablesHere(_ entry: OrganizationEntry, isCurrent: Bool) async throws -> ShardTables {
        if isCurrent {
            var wanted = try await self.localHead(entry.id).lastSequence
            // Without a majority the tables are those that this replica knows, as for a query that asks for no more.
            if let newest = try? await self.wantedSequence(entry, .latest) { wanted = max(wanted, newest) }
            try await self.waitUntilProjected(entry, wanted)
        }
        return try await self.stores.tables(of: entry.id, isCurrent: isCurrent)
    }

    // MARK: Elsewhere

    private func tablesElsewhere(
        _ entry: OrganizationEntry,
        among nodes: [NodeID],
        isCurrent: Bool,
        reason: (any Error)?
    ) async throws -> ShardTables {
        var request = WireTablesRequest()
        request.organization = entry.id.rawValue
        request.key = entry.key.rawValue
        request.current = isCurrent
        var failure: any Error = reason ?? QueryError(.unavailable, "no replica of \(entry.key) can be reached")
        for peer in nodes {
            do {
                let response: WireTablesResponse = try await self.links.call(
                    PeerPath.tables,
                    of: peer,
                    request,
                    timeout: self.freshnessMax * 2
                )
                if let code = QueryError.Code(rawValue: response.code) { throw QueryError(code, response.message) }
                return try ShardTables(encoded: [UInt8](response.tables))
            } catch {
                failure = error
            }
        }
        throw QueryError(
            .unavailable,
            "the tables of organization \(entry.key) cannot be listed now",
            names: [entry.key.rawValue],
            cause: failure
        )
    }

    /// The question as it goes to a peer, and where.
    private func request(
        _ entry: OrganizationEntry,
        _ statement: ShardStatement,
        _ requirement: ReadRequirement,
        _ limits: ShardQueryLimits
    ) throws -> (path: String, message: WireQueryRequest) {
        var request = WireQueryRequest()
        request.organization = entry.id.rawValue
        request.key = entry.key.rawValue
        request.sql = statement.sql
        request.parameters = try WireParameters.encode(statement.parameters)
        request.generated = statement.origin == .router
        request.whole = statement.delivery == .whole
        if let texts = statement.texts { request.texts = Data(texts.encoded()) }
        switch requirement {
        case .latest: request.latest = true
        case .atLeast(let sequence): request.atLeast = sequence.rawValue
        case .eventual: break
        }
        request.timeLimitMs = UInt32(clamping: limits.timeLimit.milliseconds)
        request.resultBytesMax = UInt64(limits.resultBytesMax)
        request.resultRowsMax = UInt64(limits.resultRowsMax)
        // A path of its own: a node whose program cannot hide them refuses instead of showing all.
        var path = self.hidesReserved ? PeerPath.queryWithoutReserved : PeerPath.query
        if let moment = statement.asOf {
            path = PeerPath.queryAsOf
            request.withoutReserved = self.hidesReserved
            request.moment = moment
        }
        return (path, request)
    }
}

extension WireQueryRequest {
    /// The moment to read; nil: now.
    var moment: QueryMoment? {
        get {
            switch self.asOf {
            case nil: nil
            case .asOfSequence(let sequence): .sequence(SequenceNumber(sequence))
            case .asOfTime(let time): .time(Timestamp(microseconds: time))
            }
        }
        set {
            switch newValue {
            case nil: self.asOf = nil
            case .sequence(let sequence): self.asOf = .asOfSequence(sequence.rawValue)
            case .time(let time): self.asOf = .asOfTime(time.rawValue)
            }
        }
    }
}

extension Duration {
    /// Whole milliseconds.
    var milliseconds: Int64 {
        self.components.seconds * 1000 + self.components.attoseconds / 1_000_000_000_000_000
    }
}
