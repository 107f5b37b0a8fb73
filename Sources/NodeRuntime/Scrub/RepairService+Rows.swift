internal import AuditLedger
internal import Consensus
internal import Foundation
internal import Laboratory
internal import Primitives
internal import Shards
internal import Storage

/// Rows that no record and no hash vouches for: what damaged ones are replaced by.
extension RepairService {
    /// Rows of one organization that one repair replaces; when there are more the replica is better made anew.
    static let rowsMendedMax: UInt64 = 1024

    /// Replaces every row of the organization, and of its group, that is not as it was written.
    /// - Returns: How many, and the last node that one came from.
    /// - Throws: ``Failure``, ``StorageError``. What was written until then is right.
    func mendRows(_ entry: OrganizationEntry) async throws -> (rows: UInt64, source: NodeID?) {
        var rows = UInt64(0)
        var source: NodeID?
        let store = self.store
        while true {
            let audit = try await self.threads.run { try RowAudit(store: store.snapshot()).run(entry) }
            guard let (family, key) = audit.damaged else { return (rows, source) }
            let place = RowAudit.place(family, key)
            guard RowMending.canMend(family, key) else {
                throw Failure(.notMended, "\(place) is this node's own, no other has it: replace the node")
            }
            guard rows < Self.rowsMendedMax else {
                throw Failure(.notMended, "more than \(rows) rows are damaged: replace the node")
            }
            source = try await self.mend(family, key, of: entry)
            rows += 1
        }
    }

    private func mend(_ family: ColumnFamily, _ key: [UInt8], of entry: OrganizationEntry) async throws -> NodeID {
        let place = RowAudit.place(family, key)
        let replicas = self.placement.nodes(of: entry.group).count
        for _ in 0..<Self.headAttemptsMax {
            let answers = await self.replicas.row(family, key, of: entry, except: self.node)
            switch RowMending.decide(family, key, answers, replicas: replicas) {
            case .write(let value, let applied, let source):
                let (applier, store, group) = (self.applier, self.store, entry.group)
                let isWritten = try await self.host.withLane(group) {
                    // Only a replica that has applied as much has that row.
                    if let applied, try applier.appliedState(of: group).index.rawValue != applied { return false }
                    var batch = WriteBatch()
                    if let value {
                        batch.put(family, key: key, value: value)
                    } else {
                        batch.delete(family, key: key)
                    }
                    try store.write(batch, durability: .logged)
                    return true
                }
                if isWritten { return source }
            case .hopeless(let reason): throw Failure(.notMended, "\(place): \(reason); replace the node")
            case .undecided: break
            }
            try await Task.sleep(for: Self.headPause)
        }
        throw Failure(
            .notMended,
            "\(place): no majority of the replicas agrees while commands go on: repair again when the group is quiet"
        )
    }
}

extension ReplicaReader {
    /// A row as the other replicas have it; without those that cannot say.
    func row(
        _ family: ColumnFamily,
        _ key: [UInt8],
        of entry: OrganizationEntry,
        except own: NodeID
    ) async -> [RowMending.Answer] {
        var request = WireRowRequest()
        request.organization = entry.id.rawValue
        request.key = entry.key.rawValue
        request.family = family.rawValue
        request.row = Data(key)
        let question = request
        return await withTaskGroup(of: RowMending.Answer?.self) { group in
            for node in self.placement.nodes(of: entry.group) where node != own {
                group.addTask {
                    let response: WireRowResponse? = try? await self.links.call(
                        PeerPath.row,
                        of: node,
                        question,
                        timeout: self.timeout
                    )
                    guard let response, response.failure.isEmpty else { return nil }
                    return RowMending.Answer(
                        node: node,
                        value: response.found ? [UInt8](response.value) : nil,
                        applied: response.appliedIndex
                    )
                }
            }
            var answers: [RowMending.Answer] = []
            for await case let answer? in group { answers.append(answer) }
            return answers.sorted { $0.node < $1.node }
        }
    }
}

extension PeerService {
    /// Gives a peer one row of an organization or of its group, at one applied index.
    func row(_ request: WireRowRequest) async -> WireRowResponse {
        var response = WireRowResponse()
        let key = [UInt8](request.row)
        guard let entry = OrganizationKey(request.key).flatMap({ self.directory.organization($0) }),
            entry.id.rawValue == request.organization, self.placement.servesHere(entry.group),
            let family = ColumnFamily(rawValue: request.family), RowMending.canMend(family, key),
            RowAudit.isOwn(family, key, of: entry)
        else {
            response.failure = "node \(self.node) has no such row to give"
            return response
        }
        do {
            let (applier, store) = (self.applier, self.store)
            let (value, applied) = try await self.host.withLane(entry.group) {
                (try store.get(key, in: family), try applier.appliedState(of: entry.group).index.rawValue)
            }
            response.found = value != nil
            response.value = Data(value ?? [])
            response.appliedIndex = applied
        } catch {
            response.failure = errorChain(error)
        }
        return response
    }
}
