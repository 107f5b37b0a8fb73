internal import Consensus
internal import Primitives

/// Makes reads linearizable: after ``linearize(_:)`` this node has applied everything that was acknowledged before the call.
///
/// The group's leader is asked for its read index, over the links of consensus; one round serves all reads that wait at the moment.
struct ReadGate: Sendable {
    enum Failure: Error, Sendable {
        case noLeader
        case noQuorum
        /// This node has no replica of the group.
        case notHosted
        case stopping
    }

    let host: RaftHost
    let timeout: Duration
    /// By which the time-out is measured.
    var clock: any Clock<Duration> = NodeClock.monotonic

    /// - Throws: ``Failure``.
    func linearize(_ group: GroupID) async throws(Failure) { try await self.linearize(group, by: self.clock) }

    private func linearize(_ group: GroupID, by clock: some Clock<Duration>) async throws(Failure) {
        let deadline = clock.now.advanced(by: self.timeout)
        var failure = Failure.noLeader
        repeat {
            do {
                let left = max(.milliseconds(1), clock.now.duration(to: deadline))
                try await withTimeLimit(left, "read index", clock: clock) {
                    let index = try await self.host.readIndex(group)
                    try await self.host.waitUntilApplied(group, index)
                }
                return
            } catch let error as ProposalError {
                switch error.code {
                case .groupNotHosted: throw .notHosted
                case .stopped, .failed: throw .stopping
                case .notLeader: failure = .noLeader
                default: failure = .noQuorum
                }
            } catch is TimedOut {
                throw self.host.leader(of: group) == nil ? .noLeader : .noQuorum
            } catch {
                failure = .noLeader
            }
            try? await clock.sleep(for: CommandGateway.pause)
            if Task.isCancelled { throw failure }
        } while clock.now < deadline
        throw failure
    }
}
