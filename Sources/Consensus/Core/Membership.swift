package import Primitives

/// The replicas of a group and what each may do, as a pure value (Ongaro's thesis, chapter 4, in etcd's form).
///
/// All arrays are ascending by node without doubles. A node is a voter (of one or both halves), a learner, or neither;
/// `learnersNext` are voters of the outgoing half that become learners when the joint configuration is left.
package struct Membership: Sendable, Hashable {
    /// When a replica came into the group.
    package struct Session: Sendable, Hashable {
        package var node: NodeID
        /// The index of the entry that added the replica; zero for those of the first membership.
        package var added: LogIndex

        package init(node: NodeID, added: LogIndex) {
            self.node = node
            self.added = added
        }
    }

    /// The voters; in a joint configuration those of the incoming half.
    package private(set) var voters: [NodeID]
    /// The voters of the outgoing half; empty unless joint.
    package private(set) var outgoing: [NodeID]
    package private(set) var learners: [NodeID]
    package private(set) var learnersNext: [NodeID]
    /// The leader leaves the joint configuration by itself.
    package private(set) var autoLeave: Bool
    /// One for each replica, ascending by node.
    package private(set) var sessions: [Session]

    /// Nodes in one membership, over all roles.
    package static let replicasMax = 64
    private static let format: UInt8 = 1

    /// A first membership; without voters that of a blank replica, which knows of nobody.
    package init(voters: [NodeID], learners: [NodeID] = []) {
        self.voters = Set(voters).sorted()
        self.outgoing = []
        self.learners = Set(learners).subtracting(voters).sorted()
        self.learnersNext = []
        self.autoLeave = false
        self.sessions = []
        precondition(!self.voters.isEmpty || self.learners.isEmpty, "a membership has a voter")
        precondition(self.voters.count + self.learners.count <= Self.replicasMax, "a membership is small")
        self.sessions = self.roleHolders.map { Session(node: $0, added: .zero) }
    }

    package var isJoint: Bool { !self.outgoing.isEmpty }
    /// Whether the membership names nobody: the replica waits for a snapshot.
    package var isBlank: Bool { self.sessions.isEmpty }
    /// All replicas, ascending.
    package var replicas: [NodeID] { self.sessions.map(\.node) }

    /// Whether `node` votes in either half.
    package func isVoter(_ node: NodeID) -> Bool { self.voters.contains(node) || self.outgoing.contains(node) }
    package func isLearner(_ node: NodeID) -> Bool { self.learners.contains(node) }
    package func contains(_ node: NodeID) -> Bool { self.session(of: node) != nil }

    /// - Returns: The index of the entry that added `node`, nil when it is no replica.
    package func session(of node: NodeID) -> LogIndex? {
        for session in self.sessions where session.node == node { return session.added }
        return nil
    }

    private var roleHolders: [NodeID] {
        Set(self.voters).union(self.outgoing).union(self.learners).union(self.learnersNext).sorted()
    }

    // MARK: - Changes

    /// The membership after `change`, which the entry at `index` carries.
    ///
    /// - Throws: ``MembershipError`` when the change is refused; it then has no effect, the same on every replica.
    package func applying(
        _ change: MembershipChange,
        at index: LogIndex
    ) throws(MembershipError) -> Membership {
        var next = self
        if change.isLeave {
            guard self.isJoint else { throw .notJoint }
            next.leave()
        } else {
            guard !self.isJoint else { throw .alreadyJoint }
            guard !self.voters.isEmpty else { throw .noVoters }
            if change.isJoint {
                next.outgoing = next.voters
                next.autoLeave = change.transition != .explicit
            }
            for step in change.steps { next.take(step) }
            guard !next.voters.isEmpty else { throw .noVoters }
            if !change.isJoint {
                let changed = Set(self.voters).symmetricDifference(next.voters).count
                guard changed <= 1 else { throw .needsJoint }
            }
        }
        next.renewSessions(index)
        guard next.sessions.count <= Self.replicasMax else { throw .tooManyReplicas }
        return next
    }

    private mutating func leave() {
        self.learners = Set(self.learners).union(self.learnersNext).sorted()
        self.learnersNext = []
        self.outgoing = []
        self.autoLeave = false
    }

    private mutating func take(_ step: MembershipChange.Step) {
        switch step {
        case .addVoter(let node):
            Self.remove(node, from: &self.learners)
            Self.remove(node, from: &self.learnersNext)
            Self.insert(node, into: &self.voters)
        case .addLearner(let node):
            if self.learners.contains(node) || self.learnersNext.contains(node) { return }
            Self.remove(node, from: &self.voters)
            if self.outgoing.contains(node) {
                // Still a voter of the outgoing half: learner and voter at once is not possible.
                Self.insert(node, into: &self.learnersNext)
            } else {
                Self.insert(node, into: &self.learners)
            }
        case .remove(let node):
            Self.remove(node, from: &self.voters)
            Self.remove(node, from: &self.learners)
            Self.remove(node, from: &self.learnersNext)
        }
    }

    private mutating func renewSessions(_ index: LogIndex) {
        self.sessions = self.roleHolders.map { node in
            Session(node: node, added: self.session(of: node) ?? index)
        }
    }

    private static func insert(_ node: NodeID, into nodes: inout [NodeID]) {
        if nodes.contains(node) { return }
        nodes.insert(node, at: nodes.firstIndex { $0 > node } ?? nodes.count)
    }

    private static func remove(_ node: NodeID, from nodes: inout [NodeID]) { nodes.removeAll { $0 == node } }

    // MARK: - Form

    /// The form on disk and on the wire: a format byte, flags, and the lists.
    package func encoded() -> [UInt8] {
        var writer = ByteWriter(capacity: 16 + self.sessions.count * 32)
        writer.write(Self.format)
        writer.write(UInt8(self.autoLeave ? 1 : 0))
        for nodes in [self.voters, self.outgoing, self.learners, self.learnersNext] {
            writer.write(UInt8(nodes.count))
            for node in nodes { writer.write(node.rawValue) }
        }
        writer.write(UInt8(self.sessions.count))
        for session in self.sessions {
            writer.write(session.node.rawValue)
            writer.write(session.added.rawValue)
        }
        return writer.bytes
    }

    /// Reads what ``encoded()`` wrote and checks every invariant of the type.
    package init(bytes: some Collection<UInt8>) throws(MalformedBytes) {
        var reader = ByteReader(Array(bytes))
        guard try reader.read(UInt8.self) == Self.format else {
            throw MalformedBytes(what: "format of a membership", offset: 0)
        }
        let flags = try reader.read(UInt8.self)
        guard flags <= 1 else { throw MalformedBytes(what: "flags of a membership", offset: 1) }
        self.autoLeave = flags == 1
        self.voters = try Self.readNodes(&reader)
        self.outgoing = try Self.readNodes(&reader)
        self.learners = try Self.readNodes(&reader)
        self.learnersNext = try Self.readNodes(&reader)
        self.sessions = []
        let count = try reader.read(UInt8.self)
        for _ in 0..<count {
            let node = NodeID(try reader.read(UInt64.self))
            self.sessions.append(Session(node: node, added: LogIndex(try reader.read(UInt64.self))))
        }
        try reader.finish("membership")
        guard self.isSound else { throw MalformedBytes(what: "membership", offset: reader.offset) }
    }

    private static func readNodes(_ reader: inout ByteReader) throws(MalformedBytes) -> [NodeID] {
        let count = try reader.read(UInt8.self)
        var nodes: [NodeID] = []
        for _ in 0..<count {
            let node = NodeID(try reader.read(UInt64.self))
            guard nodes.last.map({ $0 < node }) ?? true else {
                throw MalformedBytes(what: "order of nodes", offset: reader.offset)
            }
            nodes.append(node)
        }
        return nodes
    }

    private var isSound: Bool {
        let anyVoters = Set(self.voters).union(self.outgoing)
        return self.sessions.map(\.node) == self.roleHolders && self.sessions.count <= Self.replicasMax
            && (!self.voters.isEmpty || self.sessions.isEmpty)
            && anyVoters.isDisjoint(with: self.learners)
            && Set(self.learnersNext).isSubset(of: self.outgoing)
            && Set(self.learnersNext).isDisjoint(with: self.voters)
            && (self.isJoint || (!self.autoLeave && self.learnersNext.isEmpty))
    }
}

/// A wished change of a group's membership, as an entry of kind ``LogEntry/Kind/membership`` carries it.
package struct MembershipChange: Sendable, Hashable {
    /// One step; steps are taken in their order.
    package enum Step: Sendable, Hashable {
        /// Adds a voter, or makes a learner one.
        case addVoter(NodeID)
        /// Adds a learner, or makes a voter one.
        case addLearner(NodeID)
        case remove(NodeID)
    }

    /// How a change comes about; the raw value is the byte in the log.
    package enum Transition: UInt8, Sendable, Hashable {
        /// One step at once when there is only one, else joint with automatic leave.
        case auto = 0
        /// Joint; the leader leaves by itself.
        case implicit = 1
        /// Joint, left only on request.
        case explicit = 2
    }

    /// Empty: leave the joint configuration.
    package var steps: [Step]
    package var transition: Transition

    /// Steps of one change.
    package static let stepsMax = 64
    private static let format: UInt8 = 1

    package init(_ steps: [Step], transition: Transition = .auto) {
        precondition(steps.count <= Self.stepsMax, "a change is small")
        self.steps = steps
        self.transition = transition
    }

    /// The change that leaves a joint configuration.
    package static let leave = MembershipChange([])

    package var isLeave: Bool { self.steps.isEmpty }
    /// Whether the change goes through a joint configuration.
    package var isJoint: Bool { !self.isLeave && (self.transition != .auto || self.steps.count > 1) }

    /// The payload of the entry that carries the change.
    package func encoded() -> [UInt8] {
        var writer = ByteWriter(capacity: 3 + self.steps.count * 9)
        writer.write(Self.format)
        writer.write(self.transition.rawValue)
        writer.write(UInt8(self.steps.count))
        for step in self.steps {
            switch step {
            case .addVoter(let node):
                writer.write(UInt8(0))
                writer.write(node.rawValue)
            case .addLearner(let node):
                writer.write(UInt8(1))
                writer.write(node.rawValue)
            case .remove(let node):
                writer.write(UInt8(2))
                writer.write(node.rawValue)
            }
        }
        return writer.bytes
    }

    /// Reads what ``encoded()`` wrote.
    package init(bytes: some Collection<UInt8>) throws(MalformedBytes) {
        var reader = ByteReader(Array(bytes))
        guard try reader.read(UInt8.self) == Self.format else {
            throw MalformedBytes(what: "format of a membership change", offset: 0)
        }
        guard let transition = Transition(rawValue: try reader.read(UInt8.self)) else {
            throw MalformedBytes(what: "transition", offset: 1)
        }
        let count = try reader.read(UInt8.self)
        guard count <= Self.stepsMax else { throw MalformedBytes(what: "count of steps", offset: 2) }
        var steps: [Step] = []
        for _ in 0..<count {
            let kind = try reader.read(UInt8.self)
            let node = NodeID(try reader.read(UInt64.self))
            switch kind {
            case 0: steps.append(.addVoter(node))
            case 1: steps.append(.addLearner(node))
            case 2: steps.append(.remove(node))
            default: throw MalformedBytes(what: "kind of step", offset: reader.offset)
            }
        }
        try reader.finish("membership change")
        self.steps = steps
        self.transition = transition
    }
}

/// Why a membership change has no effect; the caller must ask for another change.
package enum MembershipError: String, Error, Sendable, Hashable {
    /// Any change but leaving must wait until the joint configuration is left.
    case alreadyJoint
    /// There is no joint configuration to leave.
    case notJoint
    /// Nobody would vote.
    case noVoters
    /// More than one voter changes: that needs a joint configuration.
    case needsJoint
    case tooManyReplicas
}
