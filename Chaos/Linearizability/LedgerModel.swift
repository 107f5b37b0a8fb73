/// One organization's ledger as clients see it: appends that get a sequence, reads that see the last record.
package enum LedgerModel: SequentialModel {
    package struct State: Hashable, Sendable {
        /// The number of records.
        package var size: UInt64
        /// What the last record carries; zero when there is none.
        package var last: UInt64
    }

    package enum Input: Hashable, Sendable {
        /// Appends one record that carries `marker`.
        case append(marker: UInt64)
        case read
    }

    package enum Output: Hashable, Sendable {
        case appended(sequence: UInt64)
        case read(size: UInt64, last: UInt64)
    }

    package static let initial = State(size: 0, last: 0)

    package static func step(_ state: State, _ input: Input, _ output: Output?) -> State? {
        switch (input, output) {
        case (.append(let marker), nil): return State(size: state.size + 1, last: marker)
        case (.append(let marker), .appended(let sequence)):
            return sequence == state.size + 1 ? State(size: sequence, last: marker) : nil
        case (.read, nil): return state
        case (.read, .read(let size, let last)): return size == state.size && last == state.last ? state : nil
        case (.append, .read), (.read, .appended): return nil
        }
    }
}
