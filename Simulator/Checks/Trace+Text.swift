internal import Consensus
internal import Primitives
internal import Shards

// Messages as short texts.
extension GroupMessage {
    /// One line for whoever reads a trace.
    var traceText: String {
        "g\(self.group) \(self.message.from)>\(self.message.to) t\(self.message.term) \(self.message.body.traceText)"
    }
}

extension Membership {
    /// The voters, those of the outgoing half, and the learners.
    var traceText: String {
        func list(_ nodes: [NodeID]) -> String { nodes.map { "\($0)" }.joined(separator: " ") }
        let joint = self.isJoint ? " & \(list(self.outgoing))" : ""
        let learners = self.learners.isEmpty ? "" : ", learners \(list(self.learners))"
        return "voters \(list(self.voters))\(joint)\(learners)"
    }
}

extension PlannerView {
    /// What the planner knows.
    var traceText: String {
        let nodes = self.nodes.map { "\($0.id) \($0.state.name)\($0.isLive ? "" : " silent")" }
        let groups = self.groups.map { group in
            let target = group.target.isEmpty ? "" : ", wanted on \(group.target)"
            return
                "group \(group.id): \(group.membership.traceText), leader \(group.leader.map { "\($0)" } ?? "unknown"), "
                + "caught up \(group.caughtUp)\(target)"
        }
        return (nodes + groups).joined(separator: "; ")
    }
}

extension RaftMessage.Body {
    fileprivate var traceText: String {
        switch self {
        case .preVoteRequest(let request): "pre-vote? " + Self.text(request)
        case .preVoteResponse(let isGranted): "pre-vote \(isGranted ? "yes" : "no")"
        case .voteRequest(let request): "vote? " + Self.text(request)
        case .voteResponse(let answer):
            "vote \(answer.isGranted ? "yes" : "no") for \(answer.lastIndex)/\(answer.lastTerm)"
        case .append(let append):
            "append b\(append.beat) s\(append.session) after \(append.previousIndex)/\(append.previousTerm): "
                + "\(append.entries.count) entries, commit \(append.commit)\(append.wantsAnswer ? "" : ", no answer")"
        case .appendAccepted(let answer): "accepted b\(answer.beat) s\(answer.session) up to \(answer.match)"
        case .appendRejected(let answer):
            "rejected b\(answer.beat) s\(answer.session) after \(answer.previousIndex), "
                + "hint \(answer.hintIndex)/\(answer.hintTerm)"
        case .heartbeat(let beat):
            "heartbeat b\(beat.beat) s\(beat.session) commit \(beat.commit)"
                + (beat.sleepAt.map { ", sleep at \($0)" } ?? "")
        case .heartbeatResponse(let answer): "heartbeat answer b\(answer.beat) s\(answer.session)"
        case .snapshot(let offer):
            "snapshot offer b\(offer.beat) s\(offer.session) \(offer.mark.index)/\(offer.mark.term)"
        case .timeoutNow: "take over"
        case .readRequest(let token): "read? \(token)"
        case .readResponse(let token, let index): "read \(token) at \(index.map { "\($0)" } ?? "nothing")"
        }
    }

    private static func text(_ request: RaftMessage.VoteRequest) -> String {
        "log \(request.lastIndex)/\(request.lastTerm), commit \(request.commit)/\(request.commitTerm)"
            + (request.isTransfer ? ", transfer" : "")
    }
}
