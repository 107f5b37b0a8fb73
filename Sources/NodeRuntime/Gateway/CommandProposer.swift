internal import Consensus
internal import Primitives
internal import Shards

/// Stamps commands and proposes them on this node, for clients here and for peers.
struct CommandProposer: Sendable {
    let host: RaftHost
    let stamps: StampClock
    /// Whether a command's form is allowed at its group's feature level.
    let admits: @Sendable ([UInt8], GroupID) -> Bool

    /// Returns what applying `bytes` led to.
    /// - Throws: ``ProposalError``, also `.notLeader` when this node does not lead, and `.refusedChange` for a command that not every
    ///   node of the cluster understands yet.
    func propose(_ bytes: [UInt8], to group: GroupID) async throws(ProposalError) -> [UInt8] {
        var bytes = bytes
        do {
            try Command.stamp(&bytes, at: self.stamps.now())
        } catch {
            throw ProposalError(code: .tooLarge, message: "not a command", cause: error)
        }
        guard self.admits(bytes, group) else {
            throw ProposalError(
                code: .refusedChange,
                message: "not every node of the cluster understands the command yet"
            )
        }
        return try await self.host.propose(bytes, to: group)
    }
}
