internal import Consensus
internal import Primitives
internal import Shards

/// What follows from the system group's state and what all nodes say; pure.
enum ClusterUpkeep {
    /// What the system group should be told: nodes that have shown themselves, what they can do, where groups are, and the level that all support.
    static func commands(state: SystemState, sight: ClusterSight) -> [Command] {
        self.nodeCommands(state, sight) + self.levelCommands(state, sight) + self.placementCommands(state, sight)
    }

    private static func nodeCommands(_ state: SystemState, _ sight: ClusterSight) -> [Command] {
        var commands: [Command] = []
        for entry in state.nodes where entry.state != .removed {
            guard let status = sight.statuses[entry.id] else { continue }
            if entry.state == .joining {
                commands.append(.setNodeState(SetNodeStateCommand(node: entry.id, state: .active)))
            }
            guard let features = self.features(status), features != entry.features else { continue }
            commands.append(
                .registerNode(
                    RegisterNodeCommand(
                        node: entry.id,
                        api: entry.api,
                        peer: entry.peer,
                        region: entry.region,
                        priority: entry.priority,
                        features: features
                    )
                )
            )
        }
        return commands
    }

    private static func features(_ status: WireStatusResponse) -> FeatureRange? {
        guard status.featureMin >= 1, status.featureMin <= status.featureMax else { return nil }
        return FeatureRange(
            min: FeatureLevel(rawValue: status.featureMin),
            max: FeatureLevel(rawValue: status.featureMax)
        )
    }

    /// The level is raised when every node says so now; one that is down holds it back, as it may come back with an older program.
    private static func levelCommands(_ state: SystemState, _ sight: ClusterSight) -> [Command] {
        var common = FeatureLevel.current
        for entry in state.nodes where entry.state != .removed {
            guard let status = sight.statuses[entry.id], let features = self.features(status) else { return [] }
            common = min(common, features.max, entry.features.max)
        }
        return !state.nodes.isEmpty && common > state.featureLevel ? [.raiseFeatureLevel(common)] : []
    }

    private static func placementCommands(_ state: SystemState, _ sight: ClusterSight) -> [Command] {
        var commands: [Command] = []
        for placement in state.placements {
            guard let seen = sight.groups[placement.group], seen.membership != placement.membership,
                seen.status.applied > placement.index.rawValue
            else { continue }
            commands.append(
                .confirmPlacement(
                    ConfirmPlacementCommand(
                        group: placement.group,
                        membership: seen.membership,
                        index: LogIndex(seen.status.applied)
                    )
                )
            )
        }
        return commands
    }
}
