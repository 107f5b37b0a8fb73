internal import Primitives

/// Compares this node's clock with itself and with its peers'; pure: moments come in as values.
///
/// A peer's offset is that of the exchange with the shortest way among the last few (RFC 5905, section 10). The node's own
/// offset is against the median of all clocks, its own among them.
struct ClockComparison: Sendable {
    /// Exchanges with one peer of which the best is taken.
    static let samplesMax = 8

    /// What has changed.
    enum Event: Equatable, Sendable {
        /// The wall clock moved by this much more than time passed, in microseconds.
        case jumped(Int64)
        /// The clock is now beyond the limit from the median of all, in microseconds; positive: ahead.
        case drifted(Int64)
        /// It is within the limit again.
        case returned(Int64)
    }

    let limitMicroseconds: Int64
    private var samples: [NodeID: [ClockSample]] = [:]
    private var lastLook: (wall: Int64, monotonic: Int64)?
    private(set) var isDrifted = false
    /// Jumps since the start.
    private(set) var jumps = 0

    init(limitMicroseconds: Int64) { self.limitMicroseconds = limitMicroseconds }

    /// Looks at both clocks of this machine at one moment, in microseconds of each.
    mutating func look(wall: Int64, monotonic: Int64) -> Event? {
        defer { self.lastLook = (wall, monotonic) }
        guard let last = self.lastLook else { return nil }
        let jump = (wall - last.wall) - (monotonic - last.monotonic)
        guard abs(jump) > self.limitMicroseconds else { return nil }
        self.jumps += 1
        // Older comparisons are of another clock.
        self.samples = [:]
        return .jumped(jump)
    }

    /// Takes one exchange with a peer.
    mutating func take(_ sample: ClockSample, of peer: NodeID) {
        var some = self.samples[peer] ?? []
        if some.count == Self.samplesMax { some.removeFirst() }
        some.append(sample)
        self.samples[peer] = some
    }

    /// Peers that are no longer asked.
    mutating func keepOnly(_ peers: [NodeID]) { self.samples = self.samples.filter { peers.contains($0.key) } }

    /// The shortest way to each peer and back among the last few, in microseconds.
    var roundTrips: [NodeID: Int64] {
        self.samples.compactMapValues { $0.lazy.map(\.roundTripMicroseconds).min() }
    }

    /// How far each peer's clock is ahead of this node's, in microseconds.
    var peerOffsets: [NodeID: Int64] {
        self.samples.compactMapValues { samples in
            samples.min { $0.roundTripMicroseconds < $1.roundTripMicroseconds }?.offsetMicroseconds
        }
    }

    /// How far this node's clock is ahead of the median of all, in microseconds; zero without peers.
    var ownOffset: Int64 {
        let all = (self.peerOffsets.values + [0]).sorted()
        return 0 - (all[(all.count - 1) / 2] + all[all.count / 2]) / 2
    }

    /// Whether the clock left or came back into the limit.
    mutating func judge() -> Event? {
        let offset = self.ownOffset
        let isBeyond = abs(offset) > self.limitMicroseconds
        guard isBeyond != self.isDrifted else { return nil }
        self.isDrifted = isBeyond
        return isBeyond ? .drifted(offset) : .returned(offset)
    }
}
