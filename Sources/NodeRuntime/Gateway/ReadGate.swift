internal import Consensus
internal import Primitives

/// Makes reads linearizable: after ``linearize(_:)`` this node has applied everything that was acknowledged before the call.
///
/// Each call asks the group's leader for a barrier: an empty entry in the log, shared by all reads that wait at the moment.
struct ReadGate: Sendable {
    enum Failure: Error, Sendable {
        case noLeader
        case noQuorum
        /// This node has no replica of the group.
        case notHosted
        case stopping
    }

    let node: NodeID
    let host: RaftHost
    let links: PeerLinks
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
                try await withTimeLimit(left, "barrier", clock: clock) {
                    let index = try await self.barrier(group)
                    try await self.host.waitUntilApplied(group, index)
                }
                return
            } catch let error as Failure {
                failure = error
                if case .notHosted = error { throw error }
            } catch let error as ProposalError {
                switch error.code {
                case .groupNotHosted: throw .notHosted
                case .stopped, .failed: throw .stopping
                case .notLeader: failure = .noLeader
                case .overloaded, .outcomeUnknown, .tooLarge: failure = .noQuorum
                }
            } catch is TimedOut {
                throw .noQuorum
            } catch {
                failure = .noLeader
            }
            try? await clock.sleep(for: CommandGateway.pause)
            if Task.isCancelled { throw failure }
        } while clock.now < deadline
        throw failure
    }

    private func barrier(_ group: GroupID) async throws -> LogIndex {
        switch self.host.leader(of: group) {
        case nil: throw Failure.noLeader
        case self.node: return try await self.host.barrier(group)
        case let leader?:
            var request = WireBarrierRequest()
            request.group = group.rawValue
            let response: WireBarrierResponse = try await self.links.call(
                PeerPath.barrier,
                of: leader,
                request,
                timeout: self.timeout
            )
            guard response.hasFailure else { return LogIndex(response.index) }
            throw PeerFailureCode(rawValue: response.failure.code) == .notLeader ? Failure.noLeader : Failure.noQuorum
        }
    }
}
