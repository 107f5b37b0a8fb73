internal import Consensus
internal import Primitives
internal import Shards

/// Takes commands to the leader of their group, wherever it is, and brings back what applying them led to.
///
/// A command that is surely not applied is tried again until its time is over; one with an unknown outcome only when it carries an idempotency
/// key, which makes that safe.
struct CommandGateway: Sendable {
    /// Why a command was not done, or may not have been.
    enum Failure: Error, Sendable {
        /// No leader was found in time: surely not applied.
        case noLeader
        /// A leader was there, but no majority confirmed in time.
        case noQuorum
        /// It may or may not be applied.
        case outcomeUnknown
        case overloaded
        case tooLarge
        case stopping
        /// Not every node's program knows it yet: surely not applied.
        case unsupported
    }

    let node: NodeID
    let proposer: CommandProposer
    let links: PeerLinks
    /// Which nodes hold a group that this node does not.
    let replicas: @Sendable (GroupID) -> [NodeID]
    let hints = LeaderHints()
    /// How long a command may take.
    let timeout: Duration
    /// How long an attempt may go on after the last moment at which one may begin: a leader without a majority steps down within it.
    let attemptMax: Duration
    /// By which attempts and pauses are measured.
    var clock: any Clock<Duration> = NodeClock.monotonic
    /// Pause between attempts, while an election goes on.
    static let pause = Duration.milliseconds(20)

    /// Proposes `command` to `group`; returns what applying it led to.
    /// - Throws: ``Failure``.
    /// - Parameter origin: Who wants it; recorded in the cluster ledger when it is for the system group.
    func submit(
        _ command: Command,
        to group: GroupID,
        mayRepeat: Bool,
        origin: CommandOrigin? = nil
    ) async throws -> CommandResult {
        let bytes = command.encoded(origin: origin)
        // The clock of every node, as a type that is known when this is compiled.
        if let clock = self.clock as? ContinuousClock {
            return try await self.submit(bytes, to: group, mayRepeat: mayRepeat, by: clock)
        }
        return try await self.submit(bytes, to: group, mayRepeat: mayRepeat, by: self.clock)
    }

    private func submit(
        _ bytes: [UInt8],
        to group: GroupID,
        mayRepeat: Bool,
        by clock: some Clock<Duration>
    ) async throws -> CommandResult {
        let lastStart = clock.now.advanced(by: max(.zero, self.timeout - self.attemptMax))
        var failure = Failure.noLeader
        var mayBeApplied = false
        repeat {
            do {
                return try await self.attempt(bytes, group)
            } catch .retry(let reason) {
                // What an earlier attempt left open stays open.
                if !mayBeApplied { failure = reason }
            } catch .unknown {
                guard mayRepeat else { throw Failure.outcomeUnknown }
                mayBeApplied = true
                failure = .noQuorum
            } catch .final(let reason) {
                throw reason
            }
            try await clock.sleep(for: Self.pause)
        } while clock.now < lastStart
        throw failure
    }

    /// How one attempt ended without an answer.
    private enum AttemptError: Error {
        /// Surely not applied.
        case retry(Failure)
        case unknown
        case final(Failure)
    }

    private func attempt(_ bytes: [UInt8], _ group: GroupID) async throws(AttemptError) -> CommandResult {
        let answer: [UInt8]
        if self.proposer.host.status(of: group) == nil {
            // No replica here: peers know.
            guard let peer = self.hints.candidate(for: group, among: self.replicas(group)) else {
                throw .retry(.noLeader)
            }
            answer = try await self.forward(bytes, group, to: peer)
        } else {
            switch self.proposer.host.leader(of: group) {
            case nil: throw .retry(.noLeader)
            case self.node: answer = try await self.proposeHere(bytes, group)
            case let leader?: answer = try await self.forward(bytes, group, to: leader)
            }
        }
        do {
            return try CommandResult.decode(answer)
        } catch {
            throw .unknown
        }
    }

    private func proposeHere(_ bytes: [UInt8], _ group: GroupID) async throws(AttemptError) -> [UInt8] {
        do {
            return try await self.proposer.propose(bytes, to: group)
        } catch {
            throw Self.meaning(of: error.code)
        }
    }

    private static func meaning(of code: ProposalError.Code) -> AttemptError {
        switch code {
        case .notLeader, .groupNotHosted: .retry(.noLeader)
        case .refusedChange: .final(.unsupported)
        case .changePending, .notTransferred, .staleSnapshot: .final(.outcomeUnknown)
        case .overloaded: .final(.overloaded)
        case .outcomeUnknown: .unknown
        case .tooLarge: .final(.tooLarge)
        case .stopped: .final(.stopping)
        case .failed: .final(.outcomeUnknown)
        }
    }

    private func forward(_ bytes: [UInt8], _ group: GroupID, to leader: NodeID) async throws(AttemptError) -> [UInt8] {
        var request = WireProposeRequest()
        request.group = group.rawValue
        request.command = .init(bytes)
        let response: WireProposeResponse
        do {
            response = try await self.links.call(PeerPath.propose, of: leader, request, timeout: self.timeout)
        } catch let error as PeerError where error.code == .unreachable {
            self.hints.learn(group, leader: nil)
            throw .retry(.noLeader)
        } catch {
            self.hints.learn(group, leader: nil)
            throw .unknown
        }
        guard response.hasFailure else {
            self.hints.learn(group, leader: leader)
            return [UInt8](response.result)
        }
        let named = response.failure.leader == 0 ? nil : NodeID(response.failure.leader)
        self.hints.learn(group, leader: named)
        switch PeerFailureCode(rawValue: response.failure.code) {
        case .notLeader, .notHosted: throw .retry(.noLeader)
        case .overloaded: throw .final(.overloaded)
        case .tooLarge: throw .final(.tooLarge)
        case .refusedChange: throw .final(.unsupported)
        case .stopped: throw .retry(.noLeader)
        default: throw .unknown
        }
    }
}
