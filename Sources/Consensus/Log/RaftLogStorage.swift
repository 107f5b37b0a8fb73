package import Primitives

/// Keeps the logs and hard states of all groups of a node durably.
///
/// Calls block; they are safe from any thread, but writes must come from one. After a write that failed what is on disk
/// is unknown: every later one fails, and the node must stop.
package protocol RaftLogStorage: Sendable {
    /// Writes for any number of groups as one atomic step; returns when all of it survives a power failure.
    /// - Throws: ``ConsensusError`` `.store`.
    func write(_ writes: [LogWrite]) throws(ConsensusError)

    /// What a group had when it was written last; an empty log in term zero for a group that was never written.
    /// - Throws: ``ConsensusError`` `.hole`, `.corruption`, `.logLost`, `.incompatible` or `.store`; it names the group
    ///   and the first bad index.
    func load(_ group: GroupID) throws(ConsensusError) -> RestoredLog

    /// The groups with a replica on the disk, ascending.
    /// - Throws: As ``load(_:)``.
    func groups() throws(ConsensusError) -> [GroupID]

    /// The groups whose replica was removed and has not come back, ascending.
    /// - Throws: As ``load(_:)``.
    func tombstones() throws(ConsensusError) -> [LogTombstone]

    /// Reads and checks the whole log of a group.
    /// - Returns: The number of its entries.
    /// - Throws: As ``load(_:)``.
    func verify(_ group: GroupID) throws(ConsensusError) -> Int

    /// A reader of the entries of `group`.
    func reader(of group: GroupID) -> any LogReader

    /// Ends the use of what was opened for it; a store that others use too stays open. Idempotent.
    func close() throws(ConsensusError)
}
