internal import Synchronization

/// Numbers that a statement's scope reads from every snapshot, remembered until the next write that may change them.
///
/// A snapshot that was fixed while no such write ran has the numbers of the last one: reading them anew costs as much as a
/// short statement. Safe to call from any thread.
final class SnapshotNumbers: Sendable {
    /// What the store has since its last write.
    struct Known: Sendable {
        /// Writes that had begun, and ended, when this was read.
        fileprivate let writes: UInt64
        let position: UInt64
        /// By their statements; inside nil: no row, or null.
        let numbers: [String: UInt64?]
    }

    private struct State {
        var begun: UInt64 = 0
        var ended: UInt64 = 0
        var known: Known?
        /// Statements that shall read the numbers themselves.
        var pause = 0
    }

    /// Numbers beside the position.
    private static let numbersMax = 4
    /// After one statement that a write came between, so many do without: else each would be begun twice under a steady load.
    private static let pauseStatements = 16

    private let state = Mutex(State())

    /// A write begins that may change numbers; one at a time.
    func beginWriting() {
        self.state.withLock { state in
            state.begun += 1
            state.known = nil
        }
    }

    /// That write is there for all snapshots that begin now, or was given up.
    func endWriting() { self.state.withLock { $0.ended += 1 } }

    /// What a snapshot will have that is fixed from here on, if ``isStill(_:)`` says so then.
    func known() -> Known? {
        self.state.withLock { state in
            if state.pause > 0 {
                state.pause -= 1
                return nil
            }
            return state.known
        }
    }

    /// Whether no write has begun since; asked once the snapshot is fixed.
    func isStill(_ known: Known) -> Bool {
        self.state.withLock { state in
            let isStill = state.begun == known.writes
            if !isStill { state.pause = Self.pauseStatements }
            return isStill
        }
    }

    /// The number of writes, to be asked before a snapshot is fixed from which ``keep(position:_:since:)`` remembers; nil while
    /// one runs.
    func quietWrites() -> UInt64? { self.state.withLock { $0.begun == $0.ended ? $0.begun : nil } }

    /// Remembers what a snapshot had that was fixed after `writes` was asked for; nothing when a write has begun since.
    func keep(position: UInt64, _ numbers: [String: UInt64?], since writes: UInt64?) {
        guard let writes, numbers.count <= Self.numbersMax else { return }
        self.state.withLock { state in
            guard state.begun == writes, state.ended == writes else { return }
            var all = state.known?.numbers ?? [:]
            all.merge(numbers) { _, new in new }
            guard all.count <= Self.numbersMax else { return }
            state.known = Known(writes: writes, position: position, numbers: all)
        }
    }
}
