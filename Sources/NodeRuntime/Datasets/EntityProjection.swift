internal import AuditLedger
internal import Primitives

/// Folds a run of records into states and the states that ended in it. Pure; the rule is ``EntityFold``.
struct EntityProjection {
    /// A state with its canonical JSON, which is written once.
    struct Entry {
        var state: EntityState
        /// The value's canonical JSON; nil when it was not written yet.
        var text: [UInt8]?

        /// Writes the text if it is not there.
        mutating func write() -> [UInt8] {
            if let text = self.text { return text }
            let text = CanonicalJSON.encode(self.state.value)
            self.text = text
            return text
        }
    }

    /// A state that another one followed.
    struct Ended {
        let state: EntityState
        let text: [UInt8]
        /// The record that ended it, and when that was recorded.
        let by: SequenceNumber
        let at: Timestamp
    }

    /// The states of the entities that were given, and of those that appeared.
    private(set) var entries: [EntityName: Entry] = [:]
    /// In the order in which they ended.
    private(set) var ended: [Ended] = []
    /// Bytes of ``Ended/text``.
    private(set) var endedBytes = 0

    /// - Parameter earlier: The states of all entities that the records name, as far as there are any.
    init(_ earlier: [Entry] = []) {
        for entry in earlier { self.entries[entry.state.name] = entry }
    }

    /// Folds the next record.
    /// - Returns: Whether it changed its entity.
    @discardableResult
    mutating func apply(_ change: EntityChange) -> Bool {
        var entry = self.entries[change.name]
        guard let next = EntityFold.apply(change, to: entry?.state), next.version != entry?.state.version else {
            return false
        }
        var text: [UInt8]?
        if entry != nil, let state = entry?.state {
            let earlier = entry?.write() ?? []
            self.ended.append(Ended(state: state, text: earlier, by: change.sequence, at: change.recordedAt))
            self.endedBytes += earlier.count
            if state.value == next.value { text = earlier }
        }
        self.entries[change.name] = Entry(state: next, text: text)
        return true
    }

    /// The states by name, each with its text.
    mutating func states() -> [(state: EntityState, text: [UInt8])] {
        self.entries.keys.sorted().compactMap { name in
            guard let text = self.entries[name]?.write(), let state = self.entries[name]?.state else { return nil }
            return (state, text)
        }
    }
}
