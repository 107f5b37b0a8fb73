internal import Primitives
internal import Synchronization
internal import Testing

@testable internal import NodeRuntime

@Suite("Clocks are compared and stamps never go back")
struct ClusterClockTests {
    private static let limit: Int64 = 500_000

    /// An exchange with a peer whose clock is `offset` ahead, over a way of `way` in each direction.
    private static func sample(_ offset: Int64, way: Int64 = 100, back: Int64? = nil) throws -> ClockSample {
        let sent: Int64 = 1_770_000_000_000_000
        return try #require(
            ClockSample(
                sentAt: sent,
                peerReceivedAt: sent + way + offset,
                peerAnsweredAt: sent + way + offset,
                receivedAt: sent + way + (back ?? way)
            )
        )
    }

    @Test func aClockThatMovesWithTimeDoesNotJump() {
        var clocks = ClockComparison(limitMicroseconds: Self.limit)
        #expect(clocks.look(wall: 5_000_000, monotonic: 0) == nil)
        #expect(clocks.look(wall: 6_000_000, monotonic: 1_000_000) == nil)
        #expect(clocks.look(wall: 7_499_999, monotonic: 2_000_000) == nil)
        #expect(clocks.jumps == 0)
    }

    @Test(arguments: [Int64(600_000), -600_000, -3_600_000_000])
    func aJumpIsSeenOnce(jump: Int64) {
        var clocks = ClockComparison(limitMicroseconds: Self.limit)
        _ = clocks.look(wall: 10_000_000_000, monotonic: 0)
        #expect(clocks.look(wall: 10_001_000_000 + jump, monotonic: 1_000_000) == .jumped(jump))
        #expect(clocks.look(wall: 10_002_000_000 + jump, monotonic: 2_000_000) == nil)
        #expect(clocks.jumps == 1)
    }

    @Test func theWrongClockIsTheOneFarFromTheMedian() throws {
        // Two peers agree that this node is two seconds behind.
        var behind = ClockComparison(limitMicroseconds: Self.limit)
        for peer in [2, 3] { behind.take(try Self.sample(2_000_000), of: NodeID(UInt64(peer))) }
        #expect(behind.judge() == .drifted(-2_000_000))
        #expect(behind.judge() == nil, "said once")
        // One peer of two is wrong: this node is not.
        var right = ClockComparison(limitMicroseconds: Self.limit)
        right.take(try Self.sample(2_000_000), of: NodeID(2))
        right.take(try Self.sample(1000), of: NodeID(3))
        #expect(right.judge() == nil)
        #expect(right.peerOffsets == [NodeID(2): 2_000_000, NodeID(3): 1000])
    }

    @Test func aClockThatReturnsIsReportedToo() throws {
        var clocks = ClockComparison(limitMicroseconds: Self.limit)
        for peer in [2, 3] { clocks.take(try Self.sample(-900_000), of: NodeID(UInt64(peer))) }
        #expect(clocks.judge() == .drifted(900_000))
        for _ in 0..<ClockComparison.samplesMax {
            for peer in [2, 3] { clocks.take(try Self.sample(0), of: NodeID(UInt64(peer))) }
        }
        #expect(clocks.judge() == .returned(0))
    }

    @Test func theExchangeWithTheShortestWayCounts() throws {
        var clocks = ClockComparison(limitMicroseconds: Self.limit)
        // A slow way back makes the peer look behind by half of it.
        clocks.take(try Self.sample(1000, way: 100, back: 1_000_100), of: NodeID(2))
        clocks.take(try Self.sample(1000, way: 100), of: NodeID(2))
        clocks.take(try Self.sample(1000, way: 100, back: 800_100), of: NodeID(2))
        #expect(clocks.peerOffsets == [NodeID(2): 1000])
    }

    @Test func aPeerThatIsGoneNoLongerCounts() throws {
        var clocks = ClockComparison(limitMicroseconds: Self.limit)
        for peer in [2, 3] { clocks.take(try Self.sample(2_000_000), of: NodeID(UInt64(peer))) }
        clocks.keepOnly([])
        #expect(clocks.ownOffset == 0)
        #expect(clocks.judge() == nil)
    }

    @Test func stampsStandStillWhenTheClockIsSetBack() {
        let wall = Mutex([Int64(100), 200, 50, 60, 201])
        let stamps = StampClock { Timestamp(microseconds: wall.withLock { $0.removeFirst() }) }
        #expect((0..<5).map { _ in stamps.now().rawValue } == [100, 200, 200, 200, 201])
    }
}
