internal import Consensus
internal import Foundation
internal import Primitives
internal import SwiftProtobuf

/// Why a group's membership or leader was not changed.
struct GroupChangeError: CausedError, CustomStringConvertible {
    enum Code: String, Sendable {
        /// What was asked for cannot be done.
        case refused
        /// Another change is under way, or nobody answered in time: later.
        case busy
        /// The node asked does not lead the group.
        case noLeader
    }

    let code: Code
    let message: String
    let cause: (any Error)?

    var description: String { "change of a group \(self.code.rawValue): \(self.message)" }
}

/// Asks the leaders of groups, here or on peers, for changes of membership and leadership.
///
/// Each request says what shall be, so that one whose answer was lost may be repeated: the leader refuses what is done already.
struct GroupChanges: Sendable {
    let node: NodeID
    let host: RaftHost
    let links: PeerLinks
    /// How long a leader may take: a change is answered when it is applied.
    let timeout: Duration

    /// Changes the membership of `group`, which `leader` leads.
    /// - Throws: ``GroupChangeError``.
    func change(
        _ group: GroupID,
        _ change: MembershipChange,
        at leader: NodeID
    ) async throws(GroupChangeError) -> Membership {
        if leader == self.node {
            return try await self.here { () async throws(ProposalError) in
                try await self.host.changeMembership(group, change)
            }
        }
        var request = WireMembershipRequest()
        request.group = group.rawValue
        request.change = Data(change.encoded())
        let answer: WireMembershipResponse = try await self.ask(PeerPath.membership, leader, request)
        if answer.hasFailure { throw Self.error(answer.failure) }
        do {
            return try Membership(bytes: [UInt8](answer.membership))
        } catch {
            throw GroupChangeError(code: .busy, message: "node \(leader) answered nonsense", cause: error)
        }
    }

    /// Makes `target` the leader of `group`, which `leader` leads; returns when it is.
    /// - Throws: ``GroupChangeError``.
    func transfer(_ group: GroupID, from leader: NodeID, to target: NodeID) async throws(GroupChangeError) {
        if leader == self.node {
            return try await self.here { () async throws(ProposalError) in
                try await self.host.transferLeadership(group, to: target)
            }
        }
        var request = WireTransferRequest()
        request.group = group.rawValue
        request.to = target.rawValue
        let answer: WireTransferResponse = try await self.ask(PeerPath.transfer, leader, request)
        if answer.hasFailure { throw Self.error(answer.failure) }
    }

    private func here<Value>(
        _ body: () async throws(ProposalError) -> Value
    ) async throws(GroupChangeError) -> Value {
        do {
            return try await body()
        } catch {
            let code: GroupChangeError.Code =
                switch error.code {
                case .notLeader, .groupNotHosted: .noLeader
                case .refusedChange, .tooLarge: .refused
                default: .busy
                }
            throw GroupChangeError(code: code, message: error.message, cause: error)
        }
    }

    private func ask<Request: SwiftProtobuf.Message, Answer: SwiftProtobuf.Message>(
        _ path: String,
        _ leader: NodeID,
        _ request: Request
    ) async throws(GroupChangeError) -> Answer {
        do {
            return try await self.links.call(path, of: leader, request, timeout: self.timeout)
        } catch {
            throw GroupChangeError(code: .busy, message: "node \(leader) did not answer", cause: error)
        }
    }

    private static func error(_ failure: WirePeerFailure) -> GroupChangeError {
        let code: GroupChangeError.Code =
            switch PeerFailureCode(rawValue: failure.code) {
            case .notLeader, .notHosted: .noLeader
            case .refusedChange, .malformed: .refused
            default: .busy
            }
        return GroupChangeError(code: code, message: failure.message, cause: nil)
    }
}
