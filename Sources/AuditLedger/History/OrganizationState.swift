package import Primitives

/// All entities of an organization as its records up to ``sequence`` leave them: the fold of the ledger.
package struct OrganizationState: Sendable {
    /// Why folding stopped.
    package struct Failure: Error, Sendable, Hashable, CustomStringConvertible {
        package enum Code: String, Sendable {
            /// Records must come in order, without a gap.
            case outOfOrder
            /// More entities than the caller allows.
            case tooManyEntities
        }

        package let code: Code
        package let message: String
        package var description: String { "history \(self.code.rawValue): \(self.message)" }
    }

    /// The last record that was folded; zero before the first.
    package private(set) var sequence = SequenceNumber.zero
    /// When that record was recorded; nil before the first.
    package private(set) var recordedAt: Timestamp?
    private var entities: [EntityName: EntityState] = [:]
    private let entitiesMax: Int

    /// Creates the state before the first record.
    package init(entitiesMax: Int = .max) { self.entitiesMax = entitiesMax }

    package var count: Int { self.entities.count }

    package subscript(_ name: EntityName) -> EntityState? { self.entities[name] }

    /// Folds the next record.
    /// - Throws: ``Failure``; then nothing was changed.
    package mutating func apply(_ change: EntityChange) throws(Failure) {
        guard change.sequence == self.sequence.next else {
            throw Failure(code: .outOfOrder, message: "record \(change.sequence) comes after \(self.sequence)")
        }
        let state = EntityFold.apply(change, to: self.entities[change.name])
        if let state {
            if self.entities.count >= self.entitiesMax, self.entities[change.name] == nil {
                throw Failure(code: .tooManyEntities, message: "more than \(self.entitiesMax) entities")
            }
            self.entities[change.name] = state
        }
        self.sequence = change.sequence
        self.recordedAt = change.recordedAt
    }

    /// Entities by name, ascending.
    package var sorted: [EntityState] { self.entities.values.sorted { $0.name < $1.name } }

    /// SHA-256 over the canonical JSON of every entity in order, each with a line feed, after the line of the sequence.
    ///
    /// Equal on every replica that has the same records.
    package var digest: Digest { Self.digest(of: self.sorted, at: self.sequence) }

    /// The ``digest`` of a fold that came to these entities.
    /// - Parameters:
    ///   - entities: By name, ascending.
    ///   - sequence: The last record.
    package static func digest(of entities: [EntityState], at sequence: SequenceNumber) -> Digest {
        var hash = TextHash()
        hash.update(Array("flasktrack state \(sequence)\n".utf8))
        var line: [UInt8] = []
        for state in entities {
            line.removeAll(keepingCapacity: true)
            CanonicalJSON.append(state.json, to: &line)
            line.append(UInt8(ascii: "\n"))
            hash.update(line)
        }
        return hash.finalize()
    }

    /// What differs between `earlier` and this state, by name ascending.
    package func changes(since earlier: OrganizationState) -> [EntityDifference] {
        var differences: [EntityDifference] = []
        for (name, state) in self.entities {
            let past = earlier.entities[name]
            if past == state { continue }
            differences.append(EntityDifference(name: name, from: past, to: state))
        }
        for (name, state) in earlier.entities where self.entities[name] == nil {
            differences.append(EntityDifference(name: name, from: state, to: nil))
        }
        return differences.sorted { $0.name < $1.name }
    }
}

/// One place at which two values differ.
package struct ValueDifference: Sendable, Hashable {
    /// JSON Pointer (RFC 6901) to the place; empty for the whole value.
    package let path: String
    /// Nil when it is absent.
    package let from: JSONValue?
    package let to: JSONValue?
}

/// How an entity differs between two moments.
package struct EntityDifference: Sendable, Hashable {
    package let name: EntityName
    /// Nil when it did not exist yet.
    package let from: EntityState?
    package let to: EntityState?

    package init(name: EntityName, from: EntityState?, to: EntityState?) {
        self.name = name
        self.from = from
        self.to = to
    }

    /// The places at which its value differs, in the order of canonical JSON.
    package var values: [ValueDifference] {
        var differences: [ValueDifference] = []
        Self.compare(self.from?.value, self.to?.value, path: "", into: &differences)
        return differences
    }

    private static func compare(
        _ from: JSONValue?,
        _ to: JSONValue?,
        path: String,
        into differences: inout [ValueDifference]
    ) {
        if from == to { return }
        guard case .object(let left) = from, case .object(let right) = to else {
            differences.append(ValueDifference(path: path, from: from, to: to))
            return
        }
        let keys = Set(left.map(\.key)).union(right.map(\.key))
        for key in keys.sorted(by: JSONText.comesBefore) {
            self.compare(
                left.first { $0.key == key }?.value,
                right.first { $0.key == key }?.value,
                path: JSONPointer.child(of: path, key),
                into: &differences
            )
        }
    }
}

/// A moment of an organization's history.
package enum HistoryMoment: Sendable, Hashable {
    /// After this record; one beyond the last means the last.
    case sequence(SequenceNumber)
    /// After every record recorded at or before this time.
    case time(Timestamp)

    /// Reads a sequence (digits) or a time (RFC 3339).
    package init?(_ text: String) {
        if let number = UInt64(text) {
            self = .sequence(SequenceNumber(number))
        } else if let time = Timestamp(text) {
            self = .time(time)
        } else {
            return nil
        }
    }

    /// Whether a record belongs to what had happened by this moment.
    package func includes(_ sequence: SequenceNumber, recordedAt: Timestamp) -> Bool {
        switch self {
        case .sequence(let last): sequence <= last
        case .time(let time): recordedAt <= time
        }
    }
}
