internal import Primitives

/// The name of a witness or group within one policy: opaque bytes without spaces, tabs and control characters.
package struct PolicyName: Hashable, Sendable, CustomStringConvertible {
    package static let bytesMax = 512
    private static let none = Array("none".utf8)

    package let bytes: [UInt8]

    /// - Throws: ``NoteError`` `.malformedLine`; also for `none`, which the format keeps for itself.
    package init(_ bytes: some Collection<UInt8>) throws(NoteError) {
        self.bytes = Array(bytes)
        guard !self.bytes.isEmpty, self.bytes.count <= Self.bytesMax, self.bytes != Self.none,
            self.bytes.allSatisfy({ $0 > 0x20 && $0 != 0x7F })
        else {
            throw NoteError(.malformedLine, "a name is 1 to \(Self.bytesMax) bytes without spaces, and not «none»")
        }
    }

    package init(_ text: String) throws(NoteError) { try self.init(text.utf8) }

    package var description: String { String(decoding: self.bytes, as: UTF8.self) }
}

/// Whose signatures make a checkpoint valid: one of the logs, and a quorum of witnesses (C2SP tlog-policy).
///
/// Replicas are witnesses too, in a group of their own. A policy obeys all rules of the format: names are defined once
/// and before they are used, no public key is twice a log's or twice a witness's, no name is in two groups.
package struct TrustPolicy: Hashable, Sendable {
    package static let bytesMax = 1 << 20
    /// At most this many logs, witnesses and groups, and members of a group.
    package static let entriesMax = 1024

    /// A log that is accepted.
    package struct Log: Hashable, Sendable {
        package let key: NoteVerifierKey
        package let url: [UInt8]?

        package init(key: NoteVerifierKey, url: [UInt8]? = nil) {
            self.key = key
            self.url = url
        }
    }

    /// A replica or witness.
    package struct Witness: Hashable, Sendable {
        package let name: PolicyName
        package let key: NoteVerifierKey
        package let url: [UInt8]?

        package init(name: PolicyName, key: NoteVerifierKey, url: [UInt8]? = nil) {
            self.name = name
            self.key = key
            self.url = url
        }
    }

    /// Witnesses a checkpoint when at least `threshold` of its members do.
    package struct Group: Hashable, Sendable {
        package let name: PolicyName
        package let threshold: Int
        package let members: [PolicyName]

        package init(name: PolicyName, threshold: Int, members: [PolicyName]) {
            self.name = name
            self.threshold = threshold
            self.members = members
        }
    }

    package private(set) var logs: [Log] = []
    package private(set) var witnesses: [Witness] = []
    package private(set) var groups: [Group] = []
    /// The witness or group that must witness a checkpoint; nil when none need.
    package private(set) var quorum: PolicyName?

    private var names: Set<PolicyName> = []
    private var members: Set<PolicyName> = []
    private var logKeys: Set<[UInt8]> = []
    private var witnessKeys: Set<[UInt8]> = []

    private init() {}

    /// - Throws: ``NoteError`` `.tooLarge`, `.repeatedName`, `.repeatedKey`, `.undefinedName`, `.badThreshold`,
    ///   `.unsupportedSignatureType`.
    package init(
        logs: [Log],
        witnesses: [Witness],
        groups: [Group],
        quorum: PolicyName?
    ) throws(NoteError) {
        for log in logs { try self.add(log) }
        for witness in witnesses { try self.add(witness) }
        for group in groups { try self.add(group) }
        try self.set(quorum: quorum)
    }

    private mutating func add(_ log: Log) throws(NoteError) {
        guard log.key.type == .ed25519 else {
            throw NoteError(.unsupportedSignatureType, "key \(log.key) is not one of a log")
        }
        // The key of a log may also be a witness's: what it signs as one is never what it signs as the other.
        guard self.logKeys.insert(log.key.publicKey).inserted else {
            throw NoteError(.repeatedKey, "the public key of \(log.key) is there twice")
        }
        self.logs.append(log)
        try self.checkCount(self.logs.count)
    }

    private mutating func add(_ witness: Witness) throws(NoteError) {
        guard witness.key.type == .cosignature else {
            throw NoteError(.unsupportedSignatureType, "key \(witness.key) is not one of a witness")
        }
        guard self.witnessKeys.insert(witness.key.publicKey).inserted else {
            throw NoteError(.repeatedKey, "the public key of \(witness.key) is there twice")
        }
        try self.define(witness.name)
        self.witnesses.append(witness)
        try self.checkCount(self.witnesses.count)
    }

    private mutating func add(_ group: Group) throws(NoteError) {
        try self.checkCount(group.members.count)
        guard (1...max(1, group.members.count)).contains(group.threshold), !group.members.isEmpty else {
            throw NoteError(
                .badThreshold,
                "group \(group.name) asks for \(group.threshold) of \(group.members.count)"
            )
        }
        for member in group.members {
            guard self.names.contains(member) else {
                throw NoteError(.undefinedName, "group \(group.name) names \(member), which is not defined before")
            }
            guard self.members.insert(member).inserted else {
                throw NoteError(.repeatedName, "\(member) is a member twice")
            }
        }
        try self.define(group.name)
        self.groups.append(group)
        try self.checkCount(self.groups.count)
    }

    private mutating func set(quorum name: PolicyName?) throws(NoteError) {
        guard name.map({ self.names.contains($0) }) ?? true else {
            throw NoteError(.undefinedName, "the quorum is not defined before")
        }
        self.quorum = name
    }

    private mutating func define(_ name: PolicyName) throws(NoteError) {
        guard self.names.insert(name).inserted else { throw NoteError(.repeatedName, "\(name) is defined twice") }
    }

    private func checkCount(_ count: Int) throws(NoteError) {
        guard count <= Self.entriesMax else { throw NoteError(.tooLarge, "more than \(Self.entriesMax) entries") }
    }

    /// How far a group, or a witness that is the quorum by itself, was satisfied.
    package struct GroupVerdict: Hashable, Sendable {
        package let name: PolicyName
        package let threshold: Int
        package let memberCount: Int
        /// How many members witnessed.
        package let witnessedCount: Int

        package var isMet: Bool { self.witnessedCount >= self.threshold }
    }

    /// Applies the groups and the quorum to the witnesses that cosigned.
    package func evaluate(cosigners: Set<PolicyName>) -> (groups: [GroupVerdict], quorumIsMet: Bool) {
        var witnessed = cosigners
        var verdicts: [GroupVerdict] = []
        for group in self.groups {
            let verdict = GroupVerdict(
                name: group.name,
                threshold: group.threshold,
                memberCount: group.members.count,
                witnessedCount: group.members.count { witnessed.contains($0) }
            )
            if verdict.isMet { witnessed.insert(group.name) }
            verdicts.append(verdict)
        }
        return (verdicts, self.quorum.map { witnessed.contains($0) } ?? true)
    }

    package static func == (left: Self, right: Self) -> Bool {
        left.logs == right.logs && left.witnesses == right.witnesses && left.groups == right.groups
            && left.quorum == right.quorum
    }

    package func hash(into hasher: inout Hasher) {
        hasher.combine(self.logs)
        hasher.combine(self.witnesses)
        hasher.combine(self.groups)
        hasher.combine(self.quorum)
    }
}

// MARK: - The policy of a cluster

extension TrustPolicy {
    /// The policy that a cluster publishes: a quorum of its replicas and, when asked for, of outside witnesses.
    ///
    /// Several keys with one name are one signer whose key was rotated: any of them speaks for it. The groups are
    /// named `replicas`, `witnesses` and, over both, `all`.
    /// - Parameters:
    ///   - logs: Keys of the log, named as its origin.
    ///   - replicasNeeded: How many different replicas must have signed, at least one.
    ///   - witnessesNeeded: How many different witnesses must have signed; 0 for none.
    /// - Throws: ``NoteError`` `.badThreshold` and the others of a policy.
    package static func cluster(
        logs: [NoteVerifierKey],
        replicas: [NoteVerifierKey],
        replicasNeeded: Int,
        witnesses: [NoteVerifierKey] = [],
        witnessesNeeded: Int = 0
    ) throws(NoteError) -> TrustPolicy {
        var policy = TrustPolicy()
        for key in logs { try policy.add(Log(key: key)) }
        let replicaGroup = try PolicyName("replicas")
        try policy.addSigners(replicas, group: replicaGroup, needed: replicasNeeded)
        guard witnessesNeeded > 0 else {
            try policy.set(quorum: replicaGroup)
            return policy
        }
        let witnessGroup = try PolicyName("witnesses")
        try policy.addSigners(witnesses, group: witnessGroup, needed: witnessesNeeded)
        let all = try PolicyName("all")
        try policy.add(Group(name: all, threshold: 2, members: [replicaGroup, witnessGroup]))
        try policy.set(quorum: all)
        return policy
    }

    private mutating func addSigners(
        _ keys: [NoteVerifierKey],
        group: PolicyName,
        needed: Int
    ) throws(NoteError) {
        var members: [PolicyName] = []
        var keysOf: [NoteKeyName: [NoteVerifierKey]] = [:]
        for key in keys { keysOf[key.name, default: []].append(key) }
        for key in keys {
            guard let all = keysOf.removeValue(forKey: key.name) else { continue }
            let name = try PolicyName(key.name.bytes)
            members.append(name)
            if all.count == 1 {
                try self.add(Witness(name: name, key: key))
                continue
            }
            var names: [PolicyName] = []
            for key in all {
                names.append(try PolicyName(key.description))
                try self.add(Witness(name: names[names.count - 1], key: key))
            }
            try self.add(Group(name: name, threshold: 1, members: names))
        }
        try self.add(Group(name: group, threshold: needed, members: members))
    }
}

// MARK: - Text

extension TrustPolicy {
    /// Reads a policy file.
    ///
    /// - Throws: ``NoteError``: `.tooLarge`, `.invalidText`, `.truncated`, `.malformedLine`, `.malformedNumber`,
    ///   `.numberTooLarge`, `.badThreshold`, `.undefinedName`, `.repeatedName`, `.repeatedKey`, `.badQuorum`, and
    ///   those of keys.
    package init(parsing bytes: some Collection<UInt8>) throws(NoteError) {
        let bytes = Array(bytes)
        self.init()
        var reader = try LineReader(bytes[...], bytesMax: Self.bytesMax)
        guard bytes.allSatisfy({ $0 == 0x09 || $0 == 0x0A || $0 >= 0x20 && $0 != 0x7F }) else {
            throw NoteError(.invalidText, "a control character other than tab and newline")
        }
        var hasQuorum = false
        while !reader.isAtEnd {
            let items = try reader.readLine().split { $0 == 0x20 || $0 == 0x09 }
            guard let keyword = items.first, keyword.first != UInt8(ascii: "#") else { continue }
            let operands = items.dropFirst()
            switch (String(decoding: keyword, as: UTF8.self), operands.count) {
            case ("log", 1...2):
                let key = try NoteVerifierKey(parsing: Array(operands[1]))
                try self.add(Log(key: key, url: operands.count > 1 ? Array(operands[2]) : nil))
            case ("witness", 2...3):
                let key = try NoteVerifierKey(parsing: Array(operands[2]))
                let url = operands.count > 2 ? Array(operands[3]) : nil
                try self.add(Witness(name: try PolicyName(operands[1]), key: key, url: url))
            case ("group", 3...):
                try self.addGroup(Array(operands), line: reader.line)
            case ("quorum", 1):
                guard !hasQuorum else {
                    throw NoteError(.badQuorum, "line \(reader.line): a second quorum line")
                }
                hasQuorum = true
                try self.set(quorum: operands[1].elementsEqual("none".utf8) ? nil : try PolicyName(operands[1]))
            default:
                throw NoteError(.malformedLine, "line \(reader.line): no such line in a policy")
            }
        }
        guard hasQuorum else { throw NoteError(.badQuorum, "the quorum line is missing") }
    }

    private mutating func addGroup(_ operands: [ArraySlice<UInt8>], line: Int) throws(NoteError) {
        var members: [PolicyName] = []
        for operand in operands[2...] { members.append(try PolicyName(operand)) }
        let threshold: Int
        switch String(decoding: operands[1], as: UTF8.self) {
        case "any": threshold = 1
        case "all": threshold = members.count
        default: threshold = Int(try StrictText.number(operands[1], line: line))
        }
        try self.add(Group(name: try PolicyName(operands[0]), threshold: threshold, members: members))
    }

    /// The policy as a file; thresholds are written as numbers.
    package var encoded: [UInt8] {
        var text: [UInt8] = []
        func line(_ items: [[UInt8]]) { text += Array(items.joined(separator: [0x20])) + [0x0A] }
        for log in self.logs { line([Array("log".utf8), log.key.text] + [log.url].compactMap { $0 }) }
        for witness in self.witnesses {
            line([Array("witness".utf8), witness.name.bytes, witness.key.text] + [witness.url].compactMap { $0 })
        }
        for group in self.groups {
            line(
                [Array("group".utf8), group.name.bytes, Array("\(group.threshold)".utf8)] + group.members.map(\.bytes)
            )
        }
        line([Array("quorum".utf8), self.quorum?.bytes ?? Array("none".utf8)])
        return text
    }
}
