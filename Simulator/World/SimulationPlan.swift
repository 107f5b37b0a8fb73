internal import Consensus
internal import Primitives
internal import Shards

/// Everything that a seed decides before the first event: the cluster, its limits, and how rough the world is.
struct SimulationPlan {
    /// Ways in which the world can be rough; a seed turns each on or off, and those that are on happen together.
    enum Trouble: CaseIterable {
        case loss, delay, doubling, reordering, earlierLife
        case wholePartition, oneWayPartition, partialPartition, movingPartition
        case crash, crashAll, crashAtIO, longOutage
        case slowDisk, slowApply, diskFailure, fullDisk, bitFlip
        case pause, clockJump, drift
        case membership, transfer, plannedStop, forcedCampaign, compaction, wipe, upgrade
    }

    /// Which part of the space of plans is drawn from.
    ///
    /// The checks are the same whatever is drawn; a narrow profile only comes sooner to the corner that it is named after.
    enum Profile: String, CaseIterable, Sendable {
        /// Everything.
        case wide
        /// One small group, many elections, few other things.
        case elections
        /// Joint changes under crashes and partitions.
        case membership
        /// Many reads while leaders are deposed.
        case reads
        /// Transfers that succeed and fail.
        case transfers
        /// Crashes at every I/O point, short logs, many snapshots.
        case storage
        /// Many groups that the cluster's planner moves as an operator wishes.
        case planning
        /// One group in an otherwise calm world whose leaders are cut off one after the other while clients go on asking
        /// them.
        case partitions
    }

    /// How a cluster is placed by its planner.
    struct Planning {
        /// Voters of a data group, unless an operator wishes others.
        let replicas: Int
        /// Entries by which a replica that has caught up may be behind.
        let lagMax: UInt64
    }

    struct Group {
        let id: GroupID
        let voters: [NodeID]
        let learners: [NodeID]
    }

    let seed: UInt64
    let profile: Profile
    var nodes: [NodeID]
    var groups: [Group]
    /// The cluster's planner places groups as an operator wishes; nil: memberships change by chance.
    var planning: Planning?
    var configuration: RaftConfiguration
    var troubles: Set<Trouble>
    /// Ticks of the phase with troubles.
    var chaosTicks: Int
    /// Mean microseconds between two troubles.
    var troubleInterval: VirtualTime
    var lossPercent: Int
    var doublePercent: Int
    var reorderPercent: Int
    var latency: ClosedRange<VirtualTime>
    var latencyTailPercent: Int
    var syncTime: ClosedRange<VirtualTime>
    var applyTime: ClosedRange<VirtualTime>
    /// Lanes of each node: groups share them.
    var laneCount: Int
    var laneTurnBytesMax: Int
    /// Bytes of applied state after which a node brings it to the disk.
    var flushBytes: Int
    /// Sizes of the Raft logs' files.
    var segments: SegmentLog.Configuration
    var isPriorityUsed: Bool
    /// What the nodes' programs can do at first, and the level at which the cluster begins.
    var features: FeatureRange
    var featureLevel: FeatureLevel
    var organizationCount: Int
    var clients: Int
    /// Mean microseconds that a client waits between two calls.
    var thinkTime: VirtualTime
    /// Of 100 calls, how many only read.
    var readPercent: Int
    /// Of 100 reads, how many go to any node although a leader is known.
    var strayPercent: Int

    /// Virtual time between two ticks of a node whose clock is right.
    static let tickInterval: VirtualTime = 10_000

    init(seed: UInt64, profile: Profile = .wide) {
        var dice = Dice(seed: seed ^ 0x51AC_7A3B)
        self.seed = seed
        self.profile = profile
        let count = Self.drawNodeCount(profile, &dice)
        self.nodes = (1...UInt64(count)).map { NodeID($0) }
        self.planning = Self.drawPlanning(profile, nodes: self.nodes, &dice)
        self.groups = Self.drawGroups(profile, nodes: self.nodes, isPlanned: self.planning != nil, &dice)
        self.configuration = Self.drawConfiguration(profile, &dice)
        self.troubles = Self.drawTroubles(profile, &dice)
        self.chaosTicks = dice.pick([150, 250, 400])
        self.troubleInterval = dice.pick([15_000, 40_000, 100_000, 250_000])
        self.lossPercent = self.troubles.contains(.loss) ? dice.pick([1, 5, 15, 30]) : 0
        self.doublePercent = self.troubles.contains(.doubling) ? dice.pick([1, 10, 50]) : 0
        self.reorderPercent = self.troubles.contains(.reordering) ? dice.pick([2, 20, 60]) : 0
        self.latency = dice.pick([200...500, 500...3_000, 100...12_000])
        self.latencyTailPercent = self.troubles.contains(.delay) ? dice.pick([1, 5, 15]) : 0
        self.syncTime = dice.pick([50...300, 200...2_000, 1_000...15_000])
        self.applyTime = dice.pick([20...100, 100...3_000, 500...20_000])
        self.laneCount = dice.pick([1, 1, 2])
        self.laneTurnBytesMax = dice.pick([1, 4_000, 8 << 20])
        self.flushBytes = dice.pick([1, 4_000, 100_000, 32 << 20])
        self.segments = Self.drawSegments(&dice)
        self.isPriorityUsed = dice.chance(30)
        let isOld = self.troubles.contains(.upgrade)
        self.features = isOld ? FeatureRange(min: .one, max: .one) : .supported
        self.featureLevel = isOld ? .one : dice.pick([.one, .two])
        self.organizationCount = dice.draw(1...4)
        self.clients = dice.pick([1, 2, 4, 6])
        self.thinkTime = dice.pick([2_000, 10_000, 40_000])
        self.readPercent = dice.pick([10, 30, 60])
        self.strayPercent = 15
        if profile == .reads { self.drawReads(&dice) }
        if profile == .partitions { self.drawPartitions(&dice) }
    }

    /// Between two troubles the group comes to work, so that each leader has something that only it knows.
    private mutating func drawPartitions(_ dice: inout Dice) {
        self.readPercent = dice.pick([20, 80])
        self.strayPercent = 50
        self.clients = dice.pick([4, 6])
        self.thinkTime = dice.pick([2_000, 10_000])
        self.troubleInterval = dice.pick([100_000, 250_000])
        self.syncTime = dice.pick([50...300, 200...2_000])
        self.applyTime = 20...100
        self.latency = dice.pick([200...500, 500...3_000])
        self.configuration.electionTicks = dice.pick([6, 10])
        self.configuration.heartbeatTicks = 1
        self.configuration.uncommittedBytesMax = 64 << 20
        self.configuration.entryBatchBytesMax = dice.pick([1, 2_000])
        self.configuration.leaseDriftTicks = self.configuration.electionTicks / 2
    }

    /// Many reads of all nodes while leaders are deposed and do not know it.
    private mutating func drawReads(_ dice: inout Dice) {
        self.readPercent = 60
        self.strayPercent = 50
        self.clients = 6
        self.thinkTime = 2_000
        self.troubleInterval = dice.pick([60_000, 120_000])
        self.syncTime = dice.pick([50...300, 1_000...15_000])
        self.applyTime = 20...100
        self.latency = 200...500
        self.latencyTailPercent = 0
        self.configuration.messageBytesMax = 1 << 20
        self.configuration.inflightMessagesMax = 128
        self.configuration.inflightBytesMax = 16 << 20
        self.configuration.applyBacklogBytesMax = 32 << 20
        self.configuration.electionTicks = 10
        self.configuration.heartbeatTicks = 1
        self.configuration.uncommittedBytesMax = 64 << 20
        self.configuration.leaseDriftTicks = 5
    }

    private static func drawNodeCount(_ profile: Profile, _ dice: inout Dice) -> Int {
        switch profile {
        case .wide: dice.pick([1, 2, 3, 3, 3, 4, 5, 5, 5, 6, 7])
        case .membership: dice.pick([4, 5, 6])
        case .reads: 5
        case .planning: dice.draw(3...7)
        case .elections, .transfers, .storage: dice.pick([3, 3, 5])
        case .partitions: dice.pick([3, 5])
        }
    }

    private static func drawPlanning(_ profile: Profile, nodes: [NodeID], _ dice: inout Dice) -> Planning? {
        guard profile == .planning || profile == .wide && dice.chance(25) else { return nil }
        let counts = Self.replicaCounts.filter { $0 <= nodes.count }
        let preferred = counts.filter { $0 == 3 }
        let replicas = dice.chance(60) && !preferred.isEmpty ? 3 : dice.pick(counts)
        return Planning(replicas: replicas, lagMax: dice.pick([3, 1_000]))
    }

    static let replicaCounts = [1, 3, 5, 7]

    private static func drawGroups(
        _ profile: Profile,
        nodes: [NodeID],
        isPlanned: Bool,
        _ dice: inout Dice
    ) -> [Group] {
        var count = 1
        if profile == .wide { count = dice.pick([1, 1, 1, 2, 3, 5, 8]) }
        if profile == .planning { count = dice.draw(1...6) }
        // Of many groups each has a size that nodes give to groups.
        let sizes = count > 3 || isPlanned ? Self.replicaCounts.filter { $0 <= nodes.count } : []
        // The system group first: it lives on all nodes, which vote or learn.
        return (0...count).map { number in
            let isSystem = number == 0
            let most = min(nodes.count, profile == .membership ? 3 : 7)
            var votersCount = profile == .wide ? dice.draw(1...most) : most
            if !sizes.isEmpty { votersCount = dice.pick(sizes) }
            if isSystem {
                let isEven = isPlanned && nodes.count.isMultiple(of: 2)
                votersCount = min(isEven ? nodes.count - 1 : nodes.count, 5)
            }
            let voters = isSystem ? Array(nodes.prefix(votersCount)) : dice.subset(nodes, count: votersCount)
            let others = nodes.filter { !voters.contains($0) }
            let learners = isSystem ? others : isPlanned ? [] : dice.subset(others, count: dice.draw(0...2))
            return Group(id: GroupID(UInt32(number)), voters: voters, learners: learners)
        }
    }

    private static func drawConfiguration(_ profile: Profile, _ dice: inout Dice) -> RaftConfiguration {
        var configuration = RaftConfiguration()
        configuration.electionTicks = dice.pick([4, 6, 10])
        configuration.heartbeatTicks = dice.pick([1, 1, 2])
        configuration.messageBytesMax = dice.pick([1, 400, 4_000, 1 << 20])
        configuration.inflightMessagesMax = dice.pick([1, 2, 4, 128])
        configuration.inflightBytesMax = dice.pick([1, 2_000, 16 << 20])
        configuration.uncommittedBytesMax = dice.pick([1, 4_000, 64 << 20])
        configuration.entryBatchBytesMax = dice.pick([1, 2_000, 1 << 20])
        configuration.applyBacklogBytesMax = dice.pick([1, 3_000, 32 << 20])
        configuration.recentBytesMax = dice.pick([1, 3_000, 8 << 20])
        configuration.commandBytesMax = 1 << 20
        configuration.readRoundsMax = dice.pick([1, 2, 4])
        configuration.readsWaitingMax = dice.pick([1, 4, 65_536])
        configuration.lazyCommitPush = dice.chance(70)
        configuration.hibernateTicks = dice.pick([0, 0, 3, 20])
        configuration.wakesPerTickMax = dice.pick([1, 256])
        configuration.logTailEntries = dice.pick([1, 5, 50, 10_000])
        configuration.logTailEntriesMax = max(configuration.logTailEntries, dice.pick([2, 20, 200_000]))
        configuration.leaseReads = dice.chance(profile == .reads ? 50 : 25)
        configuration.leaseDriftTicks = max(1, configuration.electionTicks / 2)
        return configuration
    }

    /// Small ones, so that they fill, are emptied and used again within seconds.
    private static func drawSegments(_ dice: inout Dice) -> SegmentLog.Configuration {
        var segments = SegmentLog.Configuration()
        segments.segmentBytes = dice.pick([2 << 10, 8 << 10, 32 << 10])
        segments.sparesMax = dice.pick([0, 1, 4])
        segments.slackSegments = dice.pick([0, 1, 3])
        segments.collectBytesMax = dice.pick([1, 2_000, 1 << 20])
        return segments
    }

    private static func drawTroubles(_ profile: Profile, _ dice: inout Dice) -> Set<Trouble> {
        var troubles: Set<Trouble> = []
        let share = dice.pick([20, 40, 60, 80])
        for trouble in Trouble.allCases where dice.chance(share) { troubles.insert(trouble) }
        switch profile {
        case .wide: break
        case .elections:
            troubles.formUnion([.loss, .delay, .reordering, .crash, .wholePartition, .partialPartition, .earlierLife])
            troubles.subtract([.bitFlip, .wipe, .membership])
        case .membership: troubles.formUnion([.membership, .crash, .wholePartition, .oneWayPartition, .slowApply])
        case .reads:
            troubles = troubles.intersection([.crash, .pause, .clockJump])
            troubles.formUnion([.wholePartition, .movingPartition, .drift])
        case .transfers:
            troubles.formUnion([.transfer, .plannedStop, .wholePartition, .oneWayPartition, .pause])
            troubles.subtract([.bitFlip, .wipe])
        case .storage: troubles.formUnion([.crash, .crashAtIO, .compaction, .longOutage])
        case .planning: troubles.formUnion([.membership, .crash, .wipe])
        case .partitions:
            troubles = troubles.intersection([.crash, .pause, .loss, .transfer, .slowDisk, .compaction])
            troubles.insert(.movingPartition)
        }
        return troubles
    }
}
