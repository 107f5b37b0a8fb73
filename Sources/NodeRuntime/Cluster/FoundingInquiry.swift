internal import Consensus
internal import Foundation
internal import Logging
internal import Primitives

/// Asks all other members whether they have met this node, until it may take part or must not.
struct FoundingInquiry: Sendable {
    /// How long one member may take to answer in one round.
    static let timeout = Duration.seconds(1)
    /// Between two rounds; doubled each time, up to ``pauseMax``.
    static let pauseMin = Duration.milliseconds(50)
    static let pauseMax = Duration.seconds(1)
    /// Rounds before the log says whom the node waits for.
    static let silentRounds = 6

    let node: NodeID
    let members: [NodeID]
    let logger: Logger
    private let ask: @Sendable (NodeID) async throws -> WireStatusResponse

    /// - Parameters:
    ///   - members: All but this node.
    ///   - ask: How a member is, within ``timeout``; throws ``PeerError`` or ``TimedOut``.
    init(
        node: NodeID,
        members: [NodeID],
        logger: Logger,
        ask: @escaping @Sendable (NodeID) async throws -> WireStatusResponse
    ) {
        self.node = node
        self.members = members
        self.logger = logger
        self.ask = ask
    }

    init(configuration: NodeConfiguration, links: PeerLinks, logger: Logger) {
        var peers: [NodeID: PeerLinks.Peer] = [:]
        for member in configuration.members where member.id != configuration.nodeID {
            peers[member.id] = PeerLinks.Peer(
                id: member.id,
                host: member.peerAddress.host,
                port: member.peerAddress.port,
                cluster: configuration.clusterID
            )
        }
        let known = peers
        self.init(node: configuration.nodeID, members: known.keys.sorted(), logger: logger) { member in
            guard let peer = known[member] else {
                throw PeerError(code: .unreachable, peer: member, message: "node \(member) is not known", cause: nil)
            }
            var request = WireStatusRequest()
            request.withoutGroups = true
            let brief = request
            return try await withTimeLimit(Self.timeout, "node \(member)") {
                try await links.callOnce(PeerPath.status, at: peer, brief, timeout: Self.timeout)
            }
        }
    }

    /// Returns when this node may take part.
    /// - Throws: ``NodeError`` `.join` when it must not; `CancellationError`.
    func run(clock: any Clock<Duration>) async throws {
        var pause = Self.pauseMin
        for round in 1... {
            let answers = await self.round()
            switch FoundingCheck.verdict(answers, node: self.node) {
            case .enter: return
            case .refuse(let reason): throw NodeError(.join, reason)
            case .wait: break
            }
            if round == Self.silentRounds {
                let silent = answers.filter { $0.value == .isSilent }.keys.sorted()
                self.logger.notice(
                    "the data directory was empty: waiting for more members to say that the cluster has not met this node",
                    metadata: ["node.id": "\(self.node)", "peers.silent": "\(silent)"]
                )
            }
            try await clock.sleep(for: pause)
            pause = min(pause * 2, Self.pauseMax)
        }
    }

    private func round() async -> [NodeID: FoundingCheck.Answer] {
        await withTaskGroup(of: (NodeID, FoundingCheck.Answer).self) { group in
            for member in self.members { group.addTask { (member, await self.answer(of: member)) } }
            return await group.reduce(into: [:]) { $0[$1.0] = $1.1 }
        }
    }

    private func answer(of member: NodeID) async -> FoundingCheck.Answer {
        do {
            let status = try await self.ask(member)
            if status.askerMet { return .hasMet }
            return status.isFresh ? .isFresh : .hasNotMet
        } catch let error as PeerError {
            // Who was removed, or is of an earlier recovery, is refused for ever; other refusals may be mistakes that are mended.
            guard let refusal = error.cause as? PeerRefusal, [.removedNode, .wrongEpoch].contains(refusal.code) else {
                return .isSilent
            }
            return .refuses(refusal.message)
        } catch {
            return .isSilent
        }
    }
}
