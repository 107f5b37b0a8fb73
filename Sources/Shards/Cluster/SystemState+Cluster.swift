internal import AuditLedger
internal import Consensus
package import Laboratory
package import Primitives
internal import Storage

/// The beginning of the cluster, its nodes and its groups.
extension SystemState {
    /// The node with this id, also when it was removed; nil when it never was.
    package func node(_ id: NodeID) -> NodeEntry? { self.nodes.first { $0.id == id } }

    /// Where a group is; nil when the system group was never told.
    package func placement(of group: GroupID) -> PlacementEntry? { self.placements.first { $0.group == group } }

    /// The cluster's own ledger as an organization; nil before the cluster has begun.
    package var clusterLedger: OrganizationEntry? {
        guard self.clusterID != nil else { return nil }
        return OrganizationEntry(
            id: Self.ledgerID,
            key: Self.ledgerKey,
            name: "Cluster",
            group: .system,
            createdAt: Timestamp(microseconds: 0)
        )
    }

    mutating func bootstrap(_ command: BootstrapCommand, _ turn: inout Turn) -> CommandResult {
        guard self.clusterID == nil else { return .done }
        let groups = command.placements.map(\.group)
        guard command.dataGroups >= 1, Self.replicaCounts.contains(command.replicas),
            command.nodes.count <= Self.nodesMax, command.nodes.allSatisfy(Self.isValid),
            Set(command.nodes.map(\.node)).count == command.nodes.count,
            zip(groups, groups.dropFirst()).allSatisfy({ $0 < $1 }),
            groups.allSatisfy({ $0.rawValue <= command.dataGroups })
        else { return .refused(.malformed) }
        self.clusterID = command.clusterID
        self.dataGroups = command.dataGroups
        var writer = ByteWriter()
        writer.write(prefixed: command.clusterID)
        writer.write(UInt32(command.dataGroups))
        turn.put(.cluster, [], writer.bytes)
        if let hash = command.operatorToken {
            self.add(
                TokenEntry(
                    id: Self.bootstrapTokenID,
                    hash: hash,
                    name: "created with the cluster",
                    grant: Grant(role: .operator),
                    createdAt: self.lastStamp
                ),
                &turn
            )
        }
        self.replicas = command.replicas
        if command.replicas != 3 { self.putSettings(&turn) }
        if command.featureLevel > .one { self.put(level: command.featureLevel, &turn) }
        for node in command.nodes.sorted(by: { $0.node < $1.node }) {
            self.put(NodeEntry(node, state: .active, addedAt: self.lastStamp), &turn)
        }
        for placement in command.placements {
            self.put(
                PlacementEntry(group: placement.group, membership: Membership(voters: placement.replicas)),
                &turn
            )
        }
        if turn.origin != nil {
            let after = [
                JSONMember("data_groups", .count(UInt64(command.dataGroups))),
                JSONMember("replicas", .count(UInt64(command.replicas))),
                JSONMember("feature_level", .count(UInt64(command.featureLevel.rawValue))),
                JSONMember("nodes", .nodes(self.nodes.map(\.id))),
            ]
            turn.record(
                ClusterRecord(
                    action: "cluster.created",
                    entityType: "cluster",
                    entityID: command.clusterID,
                    after: after
                )
            )
        }
        return .done
    }

    // MARK: Nodes

    private static func isValid(_ command: RegisterNodeCommand) -> Bool {
        let texts = [command.api, command.peer]
        return command.node.rawValue > 0 && texts.allSatisfy { (1...Self.nodeTextBytesMax).contains($0.utf8.count) }
            && command.region.utf8.count <= Self.nodeTextBytesMax
    }

    mutating func registerNode(_ command: RegisterNodeCommand, _ turn: inout Turn) -> CommandResult {
        guard self.clusterID != nil else { return .refused(.notBootstrapped) }
        guard Self.isValid(command) else { return .refused(.malformed) }
        let isAddressUsed = self.nodes.contains {
            $0.id != command.node && $0.state != .removed && ($0.peer == command.peer || $0.api == command.api)
        }
        if let known = self.node(command.node) {
            guard known.state != .removed else { return .refused(.nodeRemoved) }
            // A repeat of a join whose answer was lost finds itself; another machine with the same id does not get in.
            if command.joinToken != nil {
                return known.api == command.api && known.peer == command.peer ? .done : .refused(.nodeExists)
            }
            guard !isAddressUsed else { return .refused(.addressUsed) }
            return self.update(known, command, &turn)
        }
        guard !isAddressUsed else { return .refused(.addressUsed) }
        guard self.nodes.count < Self.nodesMax else { return .refused(.tooMany) }
        guard command.features.contains(self.featureLevel) else { return .refused(.featureUnsupported) }
        var state = NodeState.active
        if let hash = command.joinToken {
            guard let token = self.joinTokens.first(where: { $0.hash == hash }), token.node == command.node,
                token.expiresAt > self.lastStamp
            else { return .refused(.joinTokenInvalid) }
            self.joinTokens.removeAll { $0.hash == hash }
            turn.batch.delete(.groupState, key: Self.key(.joinToken, hash.bytes))
            state = .joining
        }
        let entry = NodeEntry(command, state: state, addedAt: self.lastStamp)
        self.put(entry, &turn)
        turn.record(
            ClusterRecord(
                action: "cluster.node_registered",
                entityType: "node",
                entityID: entry.id.description,
                after: entry.members
            )
        )
        return .done
    }

    private mutating func update(
        _ known: NodeEntry,
        _ command: RegisterNodeCommand,
        _ turn: inout Turn
    ) -> CommandResult {
        guard command.features.contains(self.featureLevel) else { return .refused(.featureUnsupported) }
        var entry = known
        entry.api = command.api
        entry.peer = command.peer
        entry.region = command.region
        entry.priority = command.priority
        entry.features = command.features
        guard entry != known else { return .done }
        self.put(entry, &turn)
        turn.record(
            ClusterRecord(
                action: "cluster.node_changed",
                entityType: "node",
                entityID: entry.id.description,
                before: known.members,
                after: entry.members
            )
        )
        return .done
    }

    mutating func createJoinToken(_ command: CreateJoinTokenCommand, _ turn: inout Turn) -> CommandResult {
        guard self.clusterID != nil else { return .refused(.notBootstrapped) }
        for expired in self.joinTokens where expired.expiresAt <= self.lastStamp {
            turn.batch.delete(.groupState, key: Self.key(.joinToken, expired.hash.bytes))
        }
        self.joinTokens.removeAll { $0.expiresAt <= self.lastStamp }
        guard self.joinTokens.count < Self.joinTokensMax else { return .refused(.tooMany) }
        guard !self.joinTokens.contains(where: { $0.hash == command.hash }) else { return .refused(.tokenExists) }
        let used = self.nodes.map(\.id) + self.joinTokens.map(\.node)
        let node = command.node ?? NodeID((used.map(\.rawValue).max() ?? 0) + 1)
        if let known = self.node(node) { return .refused(known.state == .removed ? .nodeRemoved : .nodeExists) }
        guard !self.joinTokens.contains(where: { $0.node == node }) else { return .refused(.nodeExists) }
        let entry = JoinTokenEntry(hash: command.hash, node: node, expiresAt: command.expiresAt)
        let place = self.joinTokens.firstIndex { $0.hash > entry.hash } ?? self.joinTokens.count
        self.joinTokens.insert(entry, at: place)
        turn.put(.joinToken, entry.hash.bytes, entry.encoded())
        turn.record(
            ClusterRecord(
                action: "cluster.join_token_created",
                entityType: "node",
                entityID: node.description,
                after: [JSONMember("expires_at", .text(command.expiresAt.description))]
            )
        )
        return .node(node)
    }

    mutating func setNodeState(_ command: SetNodeStateCommand, _ turn: inout Turn) -> CommandResult {
        guard var entry = self.node(command.node) else { return .refused(.nodeNotFound) }
        if entry.state == command.state, entry.replacement == command.replacement { return .done }
        guard entry.state != .removed else { return .refused(.nodeRemoved) }
        guard command.isForced || entry.state == command.state || entry.state.allows(command.state) else {
            return .refused(.stateNotAllowed)
        }
        if let refusal = self.refusal(of: command, for: entry) { return .refused(refusal) }
        let before = entry
        entry.state = command.state
        entry.replacement = command.state == .leaving ? command.replacement : nil
        self.put(entry, &turn)
        var after = [JSONMember("state", .text(entry.state.name))]
        if let replacement = entry.replacement { after.append(JSONMember("replacement", .count(replacement.rawValue))) }
        if command.isForced { after.append(JSONMember("forced", .bool(true))) }
        turn.record(
            ClusterRecord(
                action: "cluster.node_state_changed",
                entityType: "node",
                entityID: entry.id.description,
                before: [JSONMember("state", .text(before.state.name))],
                after: after,
                severity: command.isForced ? .critical : .notice
            )
        )
        if entry.state == .removed { self.retireKeys(of: entry.id, &turn) }
        return .done
    }

    private func refusal(of command: SetNodeStateCommand, for entry: NodeEntry) -> Refusal? {
        if command.isForced { return nil }
        switch command.state {
        case .removed:
            let isReplica = self.placements.contains { $0.membership.replicas.contains(entry.id) }
            return isReplica ? .stateNotAllowed : nil
        case .draining, .leaving:
            if let replacement = command.replacement {
                guard let other = self.node(replacement), other.id != entry.id else { return .nodeNotFound }
                guard other.state == .active || other.state == .joining else { return .stateNotAllowed }
            }
            let left = self.nodes.count { $0.id != entry.id && ($0.state == .active || $0.state == .joining) }
            return left < self.replicas ? .notEnoughNodes : nil
        default: return nil
        }
    }

    // MARK: Groups

    mutating func confirmPlacement(_ command: ConfirmPlacementCommand, _ turn: inout Turn) -> CommandResult {
        guard self.clusterID != nil else { return .refused(.notBootstrapped) }
        guard command.group.rawValue <= self.dataGroups else { return .refused(.groupNotFound) }
        let known = self.placement(of: command.group)
        if let known {
            guard command.index >= known.index else { return .refused(.staleChange) }
            if command.membership == known.membership, command.index == known.index { return .done }
        }
        var entry = PlacementEntry(group: command.group, membership: command.membership, index: command.index)
        entry.target = known?.target ?? []
        self.put(entry, &turn)
        guard known?.membership != command.membership else { return .done }
        turn.record(
            ClusterRecord(
                action: "cluster.membership_changed",
                entityType: "group",
                entityID: command.group.description,
                before: known?.membership.members,
                after: command.membership.members
            )
        )
        return .done
    }

    mutating func setTarget(_ command: SetTargetCommand, _ turn: inout Turn) -> CommandResult {
        guard self.clusterID != nil else { return .refused(.notBootstrapped) }
        guard var entry = self.placement(of: command.group) else { return .refused(.groupNotFound) }
        guard command.replicas.isEmpty || Self.replicaCounts.contains(command.replicas.count) else {
            return .refused(.targetNotAllowed)
        }
        for id in command.replicas {
            guard let node = self.node(id) else { return .refused(.nodeNotFound) }
            if node.state == .removed { return .refused(.nodeRemoved) }
            let isHeld = entry.membership.replicas.contains(id)
            guard node.state == .active || node.state == .cordoned && isHeld else { return .refused(.targetNotAllowed) }
        }
        guard entry.target != command.replicas else { return .done }
        let before = entry.target
        entry.target = command.replicas
        self.put(entry, &turn)
        turn.record(
            ClusterRecord(
                action: "cluster.target_set",
                entityType: "group",
                entityID: entry.group.description,
                before: [JSONMember("replicas", .nodes(before))],
                after: [JSONMember("replicas", .nodes(entry.target))]
            )
        )
        return .done
    }

    mutating func setRebalancing(_ isOn: Bool, _ turn: inout Turn) -> CommandResult {
        guard self.clusterID != nil else { return .refused(.notBootstrapped) }
        guard self.isRebalancing != isOn else { return .done }
        self.isRebalancing = isOn
        self.putSettings(&turn)
        turn.record(
            ClusterRecord(
                action: isOn ? "cluster.rebalance_started" : "cluster.rebalance_ended",
                entityType: "cluster",
                entityID: self.clusterID ?? "",
                severity: .info
            )
        )
        return .done
    }

    mutating func raiseFeatureLevel(_ level: FeatureLevel, _ turn: inout Turn) -> CommandResult {
        guard self.clusterID != nil else { return .refused(.notBootstrapped) }
        guard level != self.featureLevel else { return .done }
        let members = self.nodes.filter { $0.state != .removed }
        guard level > self.featureLevel, !members.isEmpty, members.allSatisfy({ $0.features.contains(level) }) else {
            return .refused(.featureUnsupported)
        }
        let before = self.featureLevel
        self.put(level: level, &turn)
        turn.record(
            ClusterRecord(
                action: "cluster.feature_level_raised",
                entityType: "cluster",
                entityID: self.clusterID ?? "",
                before: [JSONMember("feature_level", .count(UInt64(before.rawValue)))],
                after: [JSONMember("feature_level", .count(UInt64(level.rawValue)))]
            )
        )
        return .done
    }

    mutating func recordClusterEvent(_ command: ClusterEventCommand, _ turn: inout Turn) -> CommandResult {
        guard self.clusterID != nil else { return .refused(.notBootstrapped) }
        var record = ClusterRecord(
            action: command.action,
            entityType: command.entityType,
            entityID: command.entityID,
            severity: command.severity
        )
        if !command.details.isEmpty {
            guard command.details.count <= ClusterEventCommand.detailsBytesMax,
                case .object(let members)? = try? JSONParser.parse(command.details)
            else { return .refused(.malformed) }
            record.after = members
        }
        guard let draft = record.draft(origin: turn.origin) else { return .refused(.malformed) }
        turn.records.append(draft)
        return .done
    }

    // MARK: Writing

    private mutating func put(_ entry: NodeEntry, _ turn: inout Turn) {
        if let place = self.nodes.firstIndex(where: { $0.id >= entry.id }) {
            if self.nodes[place].id == entry.id {
                self.nodes[place] = entry
            } else {
                self.nodes.insert(entry, at: place)
            }
        } else {
            self.nodes.append(entry)
        }
        var writer = ByteWriter(capacity: 8)
        writer.write(entry.id.rawValue)
        turn.put(.node, writer.bytes, entry.encoded())
    }

    private mutating func put(_ entry: PlacementEntry, _ turn: inout Turn) {
        if let place = self.placements.firstIndex(where: { $0.group >= entry.group }) {
            if self.placements[place].group == entry.group {
                self.placements[place] = entry
            } else {
                self.placements.insert(entry, at: place)
            }
        } else {
            self.placements.append(entry)
        }
        var writer = ByteWriter(capacity: 4)
        writer.write(entry.group.rawValue)
        turn.put(.placement, writer.bytes, entry.encoded())
    }

    private mutating func put(level: FeatureLevel, _ turn: inout Turn) {
        self.featureLevel = level
        var writer = ByteWriter(capacity: 4)
        writer.write(level.rawValue)
        turn.batch.put(.groupState, key: GroupStateKey.featureLevel(.system), value: writer.bytes)
    }

    private func putSettings(_ turn: inout Turn) {
        var writer = ByteWriter(capacity: 2)
        writer.write(UInt8(self.replicas))
        writer.write(UInt8(self.isRebalancing ? 1 : 0))
        turn.put(.settings, [], writer.bytes)
    }
}
