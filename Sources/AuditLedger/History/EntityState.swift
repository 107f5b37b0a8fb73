package import Primitives

/// Names an entity within an organization.
package struct EntityName: Sendable, Hashable {
    /// Kind of thing, such as `sample`. Bytes, because `String` takes canonically equivalent texts as equal.
    package let type: [UInt8]
    package let id: [UInt8]

    package init(type: [UInt8], id: [UInt8]) {
        self.type = type
        self.id = id
    }

    package init(type: String, id: String) { self.init(type: Array(type.utf8), id: Array(id.utf8)) }
}

extension EntityName: Comparable {
    /// By type, then by id, both as bytes.
    package static func < (left: Self, right: Self) -> Bool {
        if left.type != right.type { return left.type.lexicographicallyPrecedes(right.type) }
        return left.id.lexicographicallyPrecedes(right.id)
    }
}

/// Whether an entity is in use.
package enum EntityStatus: String, Sendable, Hashable, CaseIterable {
    case present
    case archived
    case deleted
}

/// An entity as its records leave it.
package struct EntityState: Sendable, Hashable {
    package let name: EntityName
    package var status: EntityStatus
    /// What the records say of it; null when none ever said anything.
    package var value: JSONValue
    /// Records of it whose outcome was success.
    package var version: UInt64
    /// Its first such record, and the last.
    package let firstSequence: SequenceNumber
    package var lastSequence: SequenceNumber
    package let firstRecordedAt: Timestamp
    package var lastRecordedAt: Timestamp
    /// The action and the actor of the last one.
    package var lastAction: String
    package var lastActor: String

    /// Takes a state that was stored.
    package init(
        name: EntityName,
        status: EntityStatus,
        value: JSONValue,
        version: UInt64,
        firstSequence: SequenceNumber,
        lastSequence: SequenceNumber,
        firstRecordedAt: Timestamp,
        lastRecordedAt: Timestamp,
        lastAction: String,
        lastActor: String
    ) {
        self.name = name
        self.status = status
        self.value = value
        self.version = version
        self.firstSequence = firstSequence
        self.lastSequence = lastSequence
        self.firstRecordedAt = firstRecordedAt
        self.lastRecordedAt = lastRecordedAt
        self.lastAction = lastAction
        self.lastActor = lastActor
    }

    /// The state as canonical JSON, the form over which digests are taken.
    package var json: JSONValue {
        .object([
            JSONMember("entity_type", .string(self.name.type)),
            JSONMember("entity_id", .string(self.name.id)),
            JSONMember("status", .text(self.status.rawValue)),
            JSONMember("state", self.value),
            JSONMember("version", .text(String(self.version))),
            JSONMember("first_sequence", .text(self.firstSequence.description)),
            JSONMember("last_sequence", .text(self.lastSequence.description)),
            JSONMember("first_recorded_at", .text(self.firstRecordedAt.description)),
            JSONMember("last_recorded_at", .text(self.lastRecordedAt.description)),
            JSONMember("last_action", .text(self.lastAction)),
            JSONMember("last_actor", .text(self.lastActor)),
        ])
    }
}

/// What folding takes from one record.
package struct EntityChange: Sendable, Hashable {
    package var name: EntityName
    package var sequence: SequenceNumber
    package var recordedAt: Timestamp
    package var action: String
    package var actor: String
    package var outcome: Outcome
    package var before: JSONValue
    package var after: JSONValue

    package init(
        name: EntityName,
        sequence: SequenceNumber,
        recordedAt: Timestamp,
        action: String,
        actor: String,
        outcome: Outcome,
        before: JSONValue,
        after: JSONValue
    ) {
        self.name = name
        self.sequence = sequence
        self.recordedAt = recordedAt
        self.action = action
        self.actor = actor
        self.outcome = outcome
        self.before = before
        self.after = after
    }

    /// Whether it is an act upon the ledger or upon people's data, which changes no state.
    package var isReserved: Bool {
        ReservedRecords.contains(action: self.action.utf8, entityType: self.name.type)
    }

    /// Reads a stored record.
    /// - Throws: ``LedgerError`` `.damaged` when the bytes are no record.
    package init(_ bytes: [UInt8]) throws(LedgerError) {
        let record = try LedgerRecord(bytes)
        self.init(
            name: EntityName(type: record.entityType, id: record.entityID),
            sequence: record.sequence,
            recordedAt: record.recordedAt,
            action: record.action,
            actor: record.actor.id,
            outcome: record.outcome,
            before: record.before,
            after: record.after
        )
    }
}

/// How a record changes what is known of its entity: the one rule by which history is rebuilt.
///
/// A record whose outcome is not success changes nothing, nor does one that is reserved (``ReservedRecords``). Otherwise:
///
/// | action | status | value |
/// | --- | --- | --- |
/// | `create` | present | `after` |
/// | `delete` | deleted | merged |
/// | `archive` | archived | merged |
/// | `restore` | present | merged |
/// | any other | as it was; present when new | merged |
///
/// Merged: when `after` is an object, each of its members takes the place of the one of that name, objects within objects
/// likewise; members that `before` has and `after` lacks are removed. Any other `after` but null takes the place of the whole value.
/// A null `after` changes nothing, or removes the members that `before` names. Records may thus show whole states or only what changed.
package enum EntityFold {
    /// Objects are merged to this depth; deeper ones are replaced whole. Records are at most 32 deep.
    package static let depthMax = 32

    /// The state after `change`.
    /// - Parameter state: The state before it; nil when it is the entity's first record.
    /// - Returns: nil only when there was no state and the record changes none.
    package static func apply(_ change: EntityChange, to state: EntityState?) -> EntityState? {
        guard change.outcome == .success, !change.isReserved else { return state }
        let value = Self.value(after: change, from: state?.value ?? .null)
        let status = Self.status(after: change.action, from: state?.status ?? .present)
        guard var next = state else {
            return EntityState(
                name: change.name,
                status: status,
                value: value,
                version: 1,
                firstSequence: change.sequence,
                lastSequence: change.sequence,
                firstRecordedAt: change.recordedAt,
                lastRecordedAt: change.recordedAt,
                lastAction: change.action,
                lastActor: change.actor
            )
        }
        next.status = status
        next.value = value
        next.version += 1
        next.lastSequence = change.sequence
        next.lastRecordedAt = change.recordedAt
        next.lastAction = change.action
        next.lastActor = change.actor
        return next
    }

    private static func status(after action: String, from status: EntityStatus) -> EntityStatus {
        switch action {
        case "create", "restore": .present
        case "archive": .archived
        case "delete": .deleted
        default: status
        }
    }

    private static func value(after change: EntityChange, from value: JSONValue) -> JSONValue {
        if change.action == "create" { return change.after.isNull ? value : change.after }
        return self.merged(value, before: change.before, after: change.after, depth: self.depthMax)
    }

    /// `value` with what `after` says in it and without what only `before` says.
    static func merged(_ value: JSONValue, before: JSONValue, after: JSONValue, depth: Int) -> JSONValue {
        guard case .object(let changed) = after else {
            guard after.isNull else { return after }
            guard case .object(let gone) = before, case .object(let members) = value else { return value }
            return .object(members.filter { member in !gone.contains { $0.key == member.key } })
        }
        guard case .object(var members) = value, depth > 0 else { return after }
        if case .object(let gone) = before {
            members.removeAll { member in
                gone.contains { $0.key == member.key } && !changed.contains { $0.key == member.key }
            }
        }
        for change in changed {
            guard let place = members.firstIndex(where: { $0.key == change.key }) else {
                // In canonical order, so that equal values are equal.
                let place = members.firstIndex { JSONText.comesBefore(change.key, $0.key) } ?? members.endIndex
                members.insert(change, at: place)
                continue
            }
            guard case .object = change.value else {
                members[place].value = change.value
                continue
            }
            let earlier = Self.member(change.key, of: before)
            members[place].value = self.merged(
                members[place].value,
                before: earlier,
                after: change.value,
                depth: depth - 1
            )
        }
        return .object(members)
    }

    private static func member(_ key: [UInt8], of value: JSONValue) -> JSONValue {
        guard case .object(let members) = value else { return .null }
        return members.first { $0.key == key }?.value ?? .null
    }
}
