package import AuditLedger
internal import Consensus
package import Primitives
internal import Storage

/// What verifying and repairing a replica need of the applier.
extension ShardApplier {
    /// Whether records of an unfinished snapshot lie beyond the organization's head. Reads the store.
    /// - Throws: ``StorageError``.
    package func hasStaged(_ organization: OrganizationID, in group: GroupID) throws -> Bool {
        try self.store.get(GroupStateKey.staged(group, organization), in: .groupState) != nil
    }

    /// What all keys of a group's state begin with, in the family `group_state`.
    package static func stateKeyPrefix(of group: GroupID) -> [UInt8] { GroupStateKey.all(group) }

    /// The organization that a key of the family `group_state` is about; nil when it is about the group.
    package static func organization(ofStateKey key: [UInt8]) -> OrganizationID? { GroupStateKey.organization(of: key) }

    /// Puts another head in the place of the one that the next append would follow, and clears what lies beyond it.
    ///
    /// On the group's lane only. The records and tree nodes up to the head must be there.
    /// - Throws: ``StorageError``; then nothing has changed.
    package func replaceHead(_ head: LedgerHead, group: GroupID) throws {
        var batch = WriteBatch()
        head.clearBeyond(into: &batch)
        batch.put(.ledgerHeads, key: LedgerKeys.head(head.organization), value: head.encode())
        batch.put(.groupState, key: GroupStateKey.organization(group, head.organization), value: [])
        try self.store.write(batch, durability: .unlogged)
        self.forget([head.organization])
    }
}
