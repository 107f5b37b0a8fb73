internal import AuditLedger
package import Primitives
internal import Storage

/// What nodes read of data subjects; every call reads the store and may block.
extension ShardApplier {
    /// What is known of a data subject here; nil when nothing is.
    /// - Throws: ``StorageError`` or ``MalformedBytes``.
    package func subject(
        _ subject: Digest,
        of organization: OrganizationID,
        in group: GroupID
    ) throws -> SubjectEntry? {
        try self.store.get(GroupStateKey.subject(group, organization, subject), in: .groupState)
            .map { try SubjectEntry($0) }
    }

    /// Up to `limit` data subjects of an organization, in the order of their digests, after one of them.
    /// - Throws: ``StorageError`` or ``MalformedBytes``.
    package func subjects(
        of organization: OrganizationID,
        in group: GroupID,
        after: Digest?,
        limit: Int
    ) throws -> [SubjectEntry] {
        let prefix = GroupStateKey.subjects(group, organization)
        let from = after.map { GroupStateKey.subject(group, organization, $0) + [0] } ?? prefix
        var found: [SubjectEntry] = []
        guard limit > 0 else { return found }
        try self.store.scan(.groupState, from: from, to: keyAfter(prefix: prefix)) { _, value in
            found.append(try SubjectEntry(value))
            return found.count < limit
        }
        return found
    }

    /// Up to `limit` erasures of a group of which not every replica has confirmed that its keys are gone.
    /// - Throws: ``StorageError`` or ``MalformedBytes``.
    package func pendingErasures(
        of group: GroupID,
        limit: Int
    ) throws -> [(organization: OrganizationID, key: OrganizationKey, subject: Digest)] {
        var found: [(organization: OrganizationID, key: OrganizationKey, subject: Digest)] = []
        guard limit > 0 else { return found }
        try self.store.scan(.groupState, prefix: GroupStateKey.pendingErasures(group)) { key, value in
            let (organization, subject) = try GroupStateKey.organizationAndSubject(key)
            guard let name = OrganizationKey(String(decoding: value, as: UTF8.self)) else {
                throw MalformedBytes(what: "organization of an erasure", offset: 0)
            }
            found.append((organization, name, subject))
            return found.count < limit
        }
        return found
    }

    /// The canonical bytes of a record within the ledger's head; nil when there is none.
    /// - Throws: ``LedgerError``.
    package func record(at sequence: SequenceNumber, of organization: OrganizationID) throws -> [UInt8]? {
        guard try sequence <= self.head(of: organization).lastSequence else { return nil }
        return try LedgerReader(store: self.store, organization: organization).record(at: sequence)
    }

    /// The sealed values of one record that belong to a data subject.
    /// - Throws: ``StorageError`` or ``MalformedBytes``.
    package func sealedValues(
        of subject: Digest,
        in organization: OrganizationID,
        at sequence: SequenceNumber
    ) throws -> [SealedRow] {
        var found: [SealedRow] = []
        try self.store.scan(.sealedValues, prefix: SealedRow.prefix(organization, subject, sequence)) { _, value in
            found.append(try SealedRow(value))
            return true
        }
        return found
    }
}
