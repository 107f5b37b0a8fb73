package import Primitives

/// SHA-256 over all states that entities of an organization had, and over when they ended.
///
/// States are taken in the order of their records, ends in the order of the records that ended them: so both a fold of the
/// records and the rows of a table give it without holding more than one of them.
package struct HistoryDigest: Sendable {
    private var states = TextHash()
    private var ends = TextHash()
    private var line: [UInt8] = []
    /// States that were taken.
    package private(set) var count: UInt64 = 0

    package init() {
        self.states.update(Array("flasktrack entity states\n".utf8))
        self.ends.update(Array("flasktrack ends of states\n".utf8))
    }

    /// Takes the next state, by its last record ascending.
    package mutating func append(_ state: EntityState) {
        self.line.removeAll(keepingCapacity: true)
        CanonicalJSON.append(state.json, to: &self.line)
        self.line.append(UInt8(ascii: "\n"))
        self.states.update(self.line)
        self.count += 1
    }

    /// Takes the next end of a state, by the record that ended it ascending.
    /// - Parameters:
    ///   - sequence: The record that made the state.
    ///   - end: The record that ended it, and when that was recorded.
    package mutating func append(endOf sequence: SequenceNumber, at end: SequenceNumber, _ recordedAt: Timestamp) {
        self.ends.update(Array("\(sequence) \(end) \(recordedAt)\n".utf8))
    }

    /// The digest of what was taken up to now.
    package var digest: Digest {
        let (states, ends) = (self.states, self.ends)
        var hash = TextHash()
        hash.update(Array("flasktrack history \(self.count)\n".utf8))
        hash.update(states.finalize().bytes)
        hash.update(ends.finalize().bytes)
        return hash.finalize()
    }
}
