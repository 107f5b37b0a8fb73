internal import Consensus
internal import Primitives
internal import Shards

extension ClusterAction {
    /// What it is called in answers and logs.
    var name: String {
        switch self {
        case .addLearner: "add_learner"
        case .changeVoters: "change_voters"
        case .removeLearner: "remove_learner"
        case .transferLeader: "transfer_leader"
        case .setNodeState(_, let state): "set_\(state.name)"
        }
    }

    /// The node that it is about, when it is one.
    var node: NodeID? {
        switch self {
        case .addLearner(_, let node), .removeLearner(_, let node), .setNodeState(let node, _): node
        case .transferLeader(_, _, let to): to
        case .changeVoters(_, let add, let remove, _): add.first ?? remove.first
        }
    }
}
