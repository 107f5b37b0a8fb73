internal import AuditLedger
internal import Consensus
internal import Primitives

/// An act of the cluster's own on its way into a ledger, as a rule the cluster's.
struct ClusterRecord {
    var action: String
    var entityType: String
    var entityID: String
    var before: [JSONMember]?
    var after: [JSONMember]?
    var severity: Severity = .notice
    var reason: String?

    /// The record as the cluster's ledger takes it; nil when it cannot be one (a text that is empty or too long).
    ///
    /// The same bytes on every replica: everything comes from the command and the state.
    /// - Parameter organization: In whose ledger it goes.
    func draft(
        origin: CommandOrigin?,
        in organization: OrganizationKey = SystemState.ledgerKey
    ) -> EventDraft? {
        let origin = origin ?? .unknown
        var members = [
            JSONMember("action", .text(self.action)),
            JSONMember("entity_type", .text(self.entityType)),
            JSONMember("entity_id", .text(self.entityID)),
            JSONMember("severity", .text(self.severity.rawValue)),
        ]
        if let reason { members.append(JSONMember("reason", .text(reason))) }
        if let before { members.append(JSONMember("before", .object(before))) }
        if let after { members.append(JSONMember("after", .object(after))) }
        let context = EventContext(
            organization: organization,
            request: RequestInfo(id: origin.requestID, channel: origin.channel),
            defaultActor: Actor(kind: origin.kind, id: origin.actor)
        )
        return try? EventDraft.parse(CanonicalJSON.encode(.object(members)), defaults: context)
    }
}

extension JSONValue {
    /// A number that is exact up to 2^53, and text beyond.
    static func count(_ value: UInt64) -> JSONValue {
        Int64(exactly: value).flatMap { JSONNumber($0) }.map { .number($0) } ?? .text(String(value))
    }

    static func nodes(_ nodes: [NodeID]) -> JSONValue { .array(nodes.map { .count($0.rawValue) }) }
}

extension NodeEntry {
    /// What the cluster's ledger says of a node.
    var members: [JSONMember] {
        [
            JSONMember("api", .text(self.api)),
            JSONMember("peer", .text(self.peer)),
            JSONMember("region", .text(self.region)),
            JSONMember("priority", .count(UInt64(self.priority))),
            JSONMember("state", .text(self.state.name)),
            JSONMember("features", .text(self.features.description)),
        ]
    }
}

extension Membership {
    /// What the cluster's ledger says of a membership.
    var members: [JSONMember] {
        var members = [JSONMember("voters", .nodes(self.voters))]
        if !self.outgoing.isEmpty { members.append(JSONMember("outgoing", .nodes(self.outgoing))) }
        if !self.learners.isEmpty { members.append(JSONMember("learners", .nodes(self.learners))) }
        if !self.learnersNext.isEmpty { members.append(JSONMember("learners_next", .nodes(self.learnersNext))) }
        return members
    }
}
