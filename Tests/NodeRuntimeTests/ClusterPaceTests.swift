internal import Consensus
internal import Primitives
internal import Shards
internal import Testing

@testable internal import NodeRuntime

@Suite("When the cluster's manager looks again")
struct ClusterPaceTests {
    private static let quick = Duration.milliseconds(1)

    @Test func afterStepsTheNextTurnIsSoon() {
        var pace = ClusterPace()
        for _ in 0..<5 {
            let pause = pace.pause(after: .stepped, look: Self.quick)
            #expect(pause == ClusterPace.Pause(least: ClusterPace.afterSteps, most: ClusterPace.afterSteps))
        }
    }

    @Test func whileNothingCanBeDonePausesGrowToABound() {
        var pace = ClusterPace()
        let pauses = (0..<8).map { _ in pace.pause(after: .underWay, look: Self.quick).most }
        #expect(pauses.first == ClusterPace.underWayLeast)
        #expect(pauses == pauses.sorted())
        #expect(pauses.last == ClusterPace.underWayMost)
        _ = pace.pause(after: .stepped, look: Self.quick)
        #expect(pace.pause(after: .underWay, look: Self.quick).most == ClusterPace.underWayLeast)
    }

    @Test func newsEndARestButNotAtOnce() {
        var pace = ClusterPace()
        let pause = pace.pause(after: .atRest, look: Self.quick)
        #expect(pause == ClusterPace.Pause(least: ClusterPace.atRestLeast, most: ClusterPace.atRest))
    }

    @Test(arguments: ClusterPace.Outcome.allCases.filter { $0 != .following })
    func whoeverTakesLongToLookLooksSeldom(outcome: ClusterPace.Outcome) {
        var pace = ClusterPace()
        let look = Duration.seconds(3)
        for _ in 0..<3 {
            let pause = pace.pause(after: outcome, look: look)
            #expect(pause.least >= look * ClusterPace.looksPerPause)
            #expect(pause.most >= pause.least)
        }
    }

    @Test func aNodeThatOnlyFollowsAsksWhoLeads() {
        var pace = ClusterPace()
        #expect(pace.pause(after: .following, look: .zero).most == ClusterPace.whileFollowing)
    }

    // MARK: What goes on

    private static func sight(_ groups: [GroupID: Membership], lags: [UInt64: UInt64] = [:]) -> ClusterSight {
        var sight = ClusterSight()
        sight.take(ClusterBench.status(leads: groups, lags: lags), of: NodeID(1), clock: nil)
        sight.take(ClusterBench.status(follows: [.system: (10, false)]), of: NodeID(2), clock: nil)
        return sight
    }

    @Test func movesAndJointMembershipsAreUnderWay() throws {
        let voters = [1, 2, 3].map { NodeID($0) }
        let bench = ClusterBench()
        let settled = Membership(voters: voters)
        #expect(
            !ClusterUpkeep.isUnderWay(
                state: bench.state,
                survey: Self.sight([.system: settled, GroupID(1): settled]).survey
            )
        )
        let learning = Membership(voters: voters, learners: [NodeID(4)])
        #expect(ClusterUpkeep.isUnderWay(state: bench.state, survey: Self.sight([GroupID(1): learning]).survey))
        let joint = try learning.applying(
            MembershipChange([.addVoter(NodeID(4)), .remove(NodeID(3))]),
            at: LogIndex(5)
        )
        #expect(joint.isJoint)
        #expect(ClusterUpkeep.isUnderWay(state: bench.state, survey: Self.sight([GroupID(1): joint]).survey))
    }

    @Test func aLearnerOfTheDirectoryIsWaitedForWhileItLivesAndIsBehind() {
        let bench = ClusterBench()
        let membership = Membership(voters: [NodeID(1)], learners: [NodeID(2)])
        let dead = Membership(voters: [NodeID(1)], learners: [NodeID(3)])
        let behind = ClusterUpkeep.lagMax + 1
        let caughtUp = Self.sight([.system: membership])
        #expect(!ClusterUpkeep.isUnderWay(state: bench.state, survey: caughtUp.survey))
        let late = Self.sight([.system: membership], lags: [2: behind])
        #expect(ClusterUpkeep.isUnderWay(state: bench.state, survey: late.survey))
        let gone = Self.sight([.system: dead], lags: [3: behind])
        #expect(!ClusterUpkeep.isUnderWay(state: bench.state, survey: gone.survey), "who is down may stay down")
    }
}

@Suite("A bell")
struct BellTests {
    /// A clock on which nothing ever ends, unless it is cancelled.
    private struct StoppedClock: Clock {
        struct Instant: InstantProtocol {
            var offset = Duration.zero
            func advanced(by duration: Duration) -> Self { Self(offset: self.offset + duration) }
            func duration(to other: Self) -> Duration { other.offset - self.offset }
            static func < (left: Self, right: Self) -> Bool { left.offset < right.offset }
        }

        var now: Instant { Instant() }
        var minimumResolution: Duration { .nanoseconds(1) }

        func sleep(until deadline: Instant, tolerance: Duration?) async throws {
            let (stream, end) = AsyncStream.makeStream(of: Void.self)
            await withTaskCancellationHandler {
                for await _ in stream {}
            } onCancel: {
                end.finish()
            }
            throw CancellationError()
        }
    }

    @Test(.timeLimit(.minutes(10)))
    func aRingBeforeTheWaitEndsIt() async {
        let bell = Bell()
        bell.ring()
        bell.ring()
        await bell.wait(upTo: .seconds(1), clock: StoppedClock())
    }

    @Test(.timeLimit(.minutes(10)))
    func aRingEndsAWaitManyTimes() async {
        let bell = Bell()
        await withDiscardingTaskGroup { group in
            let (done, end) = AsyncStream.makeStream(of: Void.self)
            group.addTask {
                for _ in 0..<100 {
                    await bell.wait(upTo: .seconds(1), clock: StoppedClock())
                    end.yield()
                }
                end.finish()
            }
            bell.ring()
            for await _ in done { bell.ring() }
        }
    }

    @Test(.timeLimit(.minutes(10)))
    func theTimeEndsAWaitAndTheNextRingIsNotLost() async {
        let bell = Bell()
        for _ in 0..<100 { await bell.wait(upTo: .seconds(1), clock: SkippingClock()) }
        bell.ring()
        await bell.wait(upTo: .seconds(1), clock: StoppedClock())
    }

    @Test(.timeLimit(.minutes(10)))
    func aCancelledWaitEnds() async {
        let bell = Bell()
        await withDiscardingTaskGroup { group in
            group.addTask { await bell.wait(upTo: .seconds(1), clock: StoppedClock()) }
            group.cancelAll()
        }
    }
}
