package import Primitives

/// A place in a log: an index and the term of the entry there.
package struct LogMark: Sendable, Hashable {
    package var index: LogIndex
    package var term: Term

    package init(index: LogIndex, term: Term) {
        self.index = index
        self.term = term
    }

    /// The place before the first entry of any log.
    package static let zero = LogMark(index: .zero, term: .zero)
}
