internal import HTTPTypes
internal import Primitives
internal import Testing

@testable internal import NodeRuntime

@Suite("What peers check of each other")
struct PeersHandshakeTests {
    private let here = PeerHandshake(cluster: "blue", node: NodeID(1), epoch: 4)

    private func refusal(
        cluster: String = "blue",
        node: UInt64 = 2,
        epoch: UInt64 = 4,
        anyEpoch: Bool = false,
        change: (inout HTTPFields) -> Void = { _ in }
    ) -> PeerRefusal.Code? {
        var fields = PeerHandshake(cluster: cluster, node: NodeID(node), epoch: epoch).fields
        change(&fields)
        do throws(PeerRefusal) {
            try self.here.check(fields, from: NodeID(2), anyEpoch: anyEpoch)
            return nil
        } catch {
            return error.code
        }
    }

    @Test func membersOfOneClusterAndEpochAcceptEachOther() {
        #expect(self.refusal() == nil)
    }

    @Test func everyMismatchHasItsReason() {
        #expect(self.refusal(cluster: "green") == .wrongCluster)
        #expect(self.refusal(node: 3) == .wrongCertificate)
        #expect(self.refusal(epoch: 3) == .wrongEpoch)
        #expect(self.refusal(epoch: 5) == .wrongEpoch)
        for version in ["1", "3", "4294967295"] {
            #expect(self.refusal { $0[PeerHandshake.versionHeader] = version } == .wrongVersion, "\(version)")
        }
    }

    @Test func aNodeThatJoinsMayNotKnowTheEpoch() {
        #expect(self.refusal(epoch: 0, anyEpoch: true) == nil)
        #expect(self.refusal(cluster: "green", epoch: 0, anyEpoch: true) == .wrongCluster)
    }

    @Test func whoSaysNothingOrNonsenseIsRefused() {
        let headers = [
            PeerHandshake.clusterHeader, PeerHandshake.nodeHeader, PeerHandshake.epochHeader,
            PeerHandshake.versionHeader,
        ]
        for header in headers { #expect(self.refusal { $0[header] = nil } == .malformed, "\(header)") }
        for header in headers.dropFirst() {
            #expect(self.refusal { $0[header] = "-1" } == .malformed, "\(header)")
            #expect(self.refusal { $0[header] = "18446744073709551616" } == .malformed, "\(header)")
        }
    }

    @Test func aRefusalIsReadAsItWasSaid() throws {
        let refusal = PeerRefusal(.removedNode, "node 2 was removed from cluster blue")
        #expect(PeerHandshake.refusal(in: self.here.fields(refusing: refusal)) == refusal)
        #expect(PeerHandshake.refusal(in: self.here.fields) == nil)
        var fields = self.here.fields(refusing: refusal)
        fields[PeerHandshake.refusalHeader] = "reason_to_come"
        #expect(PeerHandshake.refusal(in: fields)?.code == .other)
    }

    /// Text of a peer ends up in logs.
    @Test func aPeersTextIsCutAndCleaned() throws {
        var fields = self.here.fields(refusing: PeerRefusal(.unknownNode, "x"))
        fields[PeerHandshake.refusalMessageHeader] = String(repeating: "a\u{1B}é", count: 1000)
        let message = try #require(PeerHandshake.refusal(in: fields)).message
        #expect(message.utf8.count == PeerHandshake.messageBytesMax)
        #expect(message.utf8.allSatisfy { (0x20...0x7E).contains($0) })
    }
}

@Suite("Spreading bytes over time")
struct PeersTokenBucketTests {
    private let start = NodeClock.monotonic.now

    private func seconds(_ duration: Duration) -> Double {
        Double(duration.components.seconds) + Double(duration.components.attoseconds) / 1e18
    }

    @Test func aBurstGoesAtOnceAndTheRestAtTheRate() {
        let bucket = TokenBucket(bytesPerSecond: 1000, burst: .seconds(1), now: self.start)
        #expect(bucket.take(1000, at: self.start) == .zero)
        #expect(abs(self.seconds(bucket.take(500, at: self.start)) - 0.5) < 1e-6)
        // The next waits behind it.
        #expect(abs(self.seconds(bucket.take(500, at: self.start)) - 1) < 1e-6)
        // After two seconds one second's worth is there again.
        #expect(bucket.take(1000, at: self.start.advanced(by: .seconds(2))) == .zero)
    }

    @Test func silenceSavesNoMoreThanABurst() {
        let bucket = TokenBucket(bytesPerSecond: 1000, burst: .seconds(1), now: self.start)
        let later = self.start.advanced(by: .seconds(3600))
        #expect(bucket.take(1000, at: later) == .zero)
        #expect(bucket.take(1, at: later) > .zero)
    }

    @Test func aClockThatGoesBackGivesNothing() {
        let bucket = TokenBucket(bytesPerSecond: 1000, burst: .seconds(1), now: self.start)
        #expect(bucket.take(1000, at: self.start.advanced(by: .seconds(5))) == .zero)
        #expect(bucket.take(1000, at: self.start) > .milliseconds(999))
        #expect(bucket.take(0, at: self.start.advanced(by: .seconds(5))) > .milliseconds(999))
    }

    @Test(arguments: [UInt64(1), 2, 3])
    func theAverageNeverExceedsTheRate(seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        let bucket = TokenBucket(bytesPerSecond: 1_000_000, now: self.start)
        var now = self.start
        var sent = 0
        for _ in 0..<2000 {
            let count = Int.random(in: 1...20_000, using: &generator)
            now = now.advanced(by: bucket.take(count, at: now))
            if Bool.random(using: &generator) {
                now = now.advanced(by: .microseconds(Int64.random(in: 0...5000, using: &generator)))
            }
            sent += count
            let passed = self.seconds(self.start.duration(to: now))
            #expect(Double(sent) <= passed * 1_000_000 + 100_000 + 1, "seed \(seed)")
        }
        #expect(sent > 10_000_000)
    }
}

@Suite("What an answer tells about a peer's clock")
struct PeersClockSampleTests {
    @Test func theOffsetIsHalfTheDifferenceOfTheWays() throws {
        // 30 ms there, 10 ms back, 5 ms of work, the peer 1 s ahead.
        let sample = try #require(
            ClockSample(
                sentAt: 1_000_000,
                peerReceivedAt: 2_030_000,
                peerAnsweredAt: 2_035_000,
                receivedAt: 1_045_000
            )
        )
        #expect(sample.offsetMicroseconds == 1_010_000)
        #expect(sample.roundTripMicroseconds == 40_000)
    }

    @Test func numbersThatAreNoTimesGiveNothing() {
        for (sent, received, answered, back) in [
            (Int64(5), Int64.max, Int64.max, Int64(6)), (5, .min, 5, 6), (6, 5, 5, 5), (5, 6, 5, 7),
        ] {
            #expect(
                ClockSample(sentAt: sent, peerReceivedAt: received, peerAnsweredAt: answered, receivedAt: back) == nil
            )
        }
    }
}

@Suite("Reports that repeat")
struct RepeatGuardTests {
    /// Which of the reports, each with its time in milliseconds, are let through.
    private func passed(_ reports: [(key: Int, at: Int)]) -> [Bool] {
        let start = NodeClock.monotonic.now
        var guarded = RepeatGuard<Int>(interval: .seconds(60))
        return reports.map { guarded.lets($0.key, at: start.advanced(by: .milliseconds($0.at))) }
    }

    @Test func oneInEachIntervalIsLetThrough() {
        let reports = [(1, 0), (1, 59_000), (2, 59_000), (1, 60_000), (1, 61_000)]
        #expect(self.passed(reports) == [true, false, true, true, false])
    }

    @Test func manyKeysDoNotPileUp() {
        let most = RepeatGuard<Int>.keysMax
        let passed = self.passed((0...most).map { ($0, $0) } + [(0, 1000), (most, 1000)])
        // The oldest was forgotten, the youngest was not.
        #expect(passed == [Bool](repeating: true, count: most + 2) + [false])
    }
}
