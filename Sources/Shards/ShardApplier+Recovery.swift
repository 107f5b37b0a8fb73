package import Consensus
package import Primitives
package import Storage

/// What a stopped node's store says of a group, and how its membership is replaced by hand.
extension ShardApplier {
    /// The state of `group` as it is in the store.
    /// - Throws: ``StorageError``, or ``MalformedBytes`` when a row does not have its form.
    package static func appliedState(
        of group: GroupID,
        reading store: any KeyValueReader
    ) throws -> AppliedState {
        var state = AppliedState()
        if let value = try store.get(GroupStateKey.applied(group), in: .groupState) {
            var reader = ByteReader(value)
            state.index = LogIndex(try reader.read())
            state.term = Term(try reader.read())
            if !reader.isAtEnd { state.isInstalled = try reader.read(UInt8.self) == 1 }
            try reader.finish("applied index")
        }
        if let bytes = try store.get(GroupStateKey.membership(group), in: .groupState) {
            state.membership = try Membership(bytes: bytes)
        }
        return state
    }

    /// Puts `membership` in the place of the one that `group` has applied; only for a node that does not run.
    package static func putMembership(_ membership: Membership, of group: GroupID, into batch: inout WriteBatch) {
        batch.put(.groupState, key: GroupStateKey.membership(group), value: membership.encoded())
    }
}
