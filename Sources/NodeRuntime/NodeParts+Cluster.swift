internal import AuditLedger
internal import Consensus
internal import Logging
internal import Primitives
internal import ServiceLifecycle
internal import Shards
internal import Storage

/// Hands the leadership of all groups over before anything else is stopped, so that clients notice nothing.
struct HandOverService: Service {
    /// Tries, as a transfer may miss its target.
    static let triesMax = 3

    let host: RaftHost
    /// Whether consensus runs.
    let hasBegun: @Sendable () -> Bool
    let health: HealthReport
    let logger: Logger

    func run() async throws {
        try await gracefulShutdown()
        self.health.stop()
        guard self.hasBegun() else { return }
        for _ in 0..<Self.triesMax {
            let left = await self.host.transferAllLeaderships()
            if left == 0 { break }
            self.logger.info("leadership not handed over yet", metadata: ["raft.groups": "\(left)"])
        }
    }
}

extension NodeParts {
    /// Follows the cluster's table of nodes: who the peers are.
    func followDirectory(_ manager: ClusterManager) async {
        self.updatePeers()
        var keys: [NodeKeyEntry] = []
        for await _ in self.directoryChanges {
            self.updatePeers()
            let known = self.applier.directory.current.keys
            if known != keys {
                keys = known
                self.audit.service.keysChanged()
            }
            manager.wake()
        }
    }

    private func updatePeers() {
        let state = self.applier.directory.current
        var peers: [PeerLinks.Peer] = []
        for entry in state.nodes where entry.state != .removed {
            guard let address = NodeConfiguration.HostPort(entry.peer) else { continue }
            peers.append(
                PeerLinks.Peer(
                    id: entry.id,
                    host: address.host,
                    port: address.port,
                    cluster: self.configuration.clusterID
                )
            )
        }
        self.links.update(nodes: peers, removed: state.nodes.filter { $0.state == .removed }.map(\.id))
    }

    /// Makes what is applied durable whenever the applier says that enough has gathered; the logs can be cut up to there.
    func flushWhenDue() async {
        for await _ in self.flushes {
            let applier = self.applier
            do {
                try await self.threads.run { try applier.flush() }
            } catch is CancellationError {
                return
            } catch {
                // The store is poisoned: the host fails at its next write.
                self.logger.error("flush failed", metadata: ["error.chain": "\(errorChain(error))"])
            }
        }
    }

    /// Deletes the columnar stores of organizations that are no longer on this node.
    func discardColumnarStores(_ subjects: SubjectKeeper) async {
        for await organization in self.discards {
            self.audit.service.discarded(organization)
            subjects.discarded(organization)
            do {
                try await self.columnarStores.reset(organization)
                self.projector.forgetPosition(of: organization)
            } catch {
                self.logger.warning(
                    "columnar store not deleted",
                    metadata: ["organization.id": "\(organization)", "error.chain": "\(errorChain(error))"]
                )
            }
        }
    }

    /// Begins the cluster, once, from whichever founding node can; ends when it has begun.
    func beginCluster(_ gateway: CommandGateway) async {
        guard case .founded(let nodes, let replicas) = self.identity.origin else { return }
        let founding = FoundingPlacement(nodes: nodes, dataGroups: self.identity.dataGroups, replicas: replicas)
        let command = BootstrapCommand(
            clusterID: self.identity.clusterID,
            dataGroups: self.identity.dataGroups,
            operatorToken: self.configuration.bootstrapTokenSHA256.flatMap { Digest(hex: $0) },
            replicas: replicas,
            nodes: self.configuration.members.filter { nodes.contains($0.id) }.map { member in
                RegisterNodeCommand(
                    node: member.id,
                    api: member.apiAddress.description,
                    peer: member.peerAddress.description,
                    region: member.region,
                    priority: UInt8(member.priority)
                )
            },
            placements: founding.groups.map { group in
                BootstrapCommand.Placement(group: group, replicas: founding.membership(of: group).voters)
            }
        )
        let pause = Duration.milliseconds(200)
        while !Task.isCancelled, !self.applier.directory.isBootstrapped {
            if self.host.leader(of: .system) == self.configuration.nodeID {
                _ = try? await gateway.submit(
                    .bootstrap(command),
                    to: .system,
                    mayRepeat: true,
                    origin: .node(self.configuration.nodeID)
                )
            }
            try? await Task.sleep(for: pause)
        }
    }

    /// Writes into the cluster ledger that this node was recovered from a lost majority, once.
    func recordRecovery(_ gateway: CommandGateway) async {
        let store = self.store
        let pause = Duration.seconds(1)
        while !Task.isCancelled {
            guard let details = try? await self.threads.run({ try RecoveryNote.read(store) }) else { return }
            let command = ClusterEventCommand(
                action: "cluster.recovered",
                entityType: "node",
                entityID: self.configuration.nodeID.description,
                details: details,
                severity: .critical
            )
            do {
                let result = try await gateway.submit(
                    .recordClusterEvent(command),
                    to: .system,
                    mayRepeat: true,
                    origin: .node(self.configuration.nodeID)
                )
                if case .refused(let refusal) = result {
                    self.logger.error("recovery not recorded", metadata: ["refusal": "\(refusal)"])
                }
                try await self.threads.run { try RecoveryNote.remove(store) }
                return
            } catch {
                try? await Task.sleep(for: pause)
            }
        }
    }
}
