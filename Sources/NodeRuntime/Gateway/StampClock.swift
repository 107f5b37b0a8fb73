internal import Primitives
internal import Synchronization

/// The time that this node stamps into commands as a leader: the machine's time, but never earlier than a stamp before.
///
/// Across leaders the appliers see to it: what is recorded is never earlier than the record before. A clock that was
/// set back therefore stands still for a while, in stamps, and one that is far ahead pulls the group's stamps along;
/// ``ClockWatch`` reports both.
final class StampClock: Sendable {
    private let last: Mutex<Timestamp>
    private let wall: @Sendable () -> Timestamp

    /// - Parameter wall: The machine's time; may go back.
    init(wall: @escaping @Sendable () -> Timestamp = { SystemTime.now() }) {
        self.last = Mutex(Timestamp(microseconds: 0))
        self.wall = wall
    }

    /// The present moment, not before any other that was given.
    func now() -> Timestamp {
        let wall = self.wall()
        return self.last.withLock { last in
            if wall > last { last = wall }
            return last
        }
    }
}
