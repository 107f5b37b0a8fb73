/// When ``ClusterManager`` looks at the cluster again; pure.
///
/// A look asks every node about every group, so a pause is always a multiple of what the look took: with thousands of
/// groups the manager slows down by itself.
struct ClusterPace: Sendable {
    /// How a turn ended.
    enum Outcome: Sendable, CaseIterable {
        /// Another node leads the system group.
        case following
        /// Nothing is to do.
        case atRest
        /// Something goes on, or could not be done now.
        case underWay
        /// Steps were taken: the next ones may be possible.
        case stepped
    }

    /// How long to wait: for `least` in any case, then until there is news, but no longer than `most`.
    struct Pause: Sendable, Equatable {
        let least: Duration
        let most: Duration
    }

    /// Until somebody asks again who leads.
    static let whileFollowing = Duration.seconds(1)
    /// Between two looks at a cluster that is as it should be: nodes that come or go are seen by them.
    static let atRest = Duration.seconds(4)
    /// The same when the system group's state changes all the time.
    static let atRestLeast = Duration.milliseconds(500)
    /// After steps.
    static let afterSteps = Duration.milliseconds(50)
    /// While replicas catch up: doubled from turn to turn in which nothing could be done, so that a large group, which
    /// takes minutes, is not looked at all the time.
    static let underWayLeast = Duration.milliseconds(100)
    static let underWayMost = Duration.seconds(1)
    /// A pause is at least so many times as long as the look before it.
    static let looksPerPause = 4

    /// Turns one after the other in which something went on and no step was taken.
    private var quietTurns = 0

    /// The pause after a turn whose look took `look`.
    mutating func pause(after outcome: Outcome, look: Duration) -> Pause {
        self.quietTurns = outcome == .underWay ? self.quietTurns + 1 : 0
        let floor = look * Self.looksPerPause
        switch outcome {
        case .following: return Pause(least: .zero, most: Self.whileFollowing)
        case .atRest: return Pause(least: max(Self.atRestLeast, floor), most: max(Self.atRest, floor))
        case .stepped: return Pause(least: max(Self.afterSteps, floor), most: max(Self.afterSteps, floor))
        case .underWay:
            var pause = Self.underWayLeast
            for _ in 1..<self.quietTurns where pause < Self.underWayMost { pause *= 2 }
            pause = max(min(pause, Self.underWayMost), floor)
            return Pause(least: min(max(Self.underWayLeast, floor), pause), most: pause)
        }
    }
}
