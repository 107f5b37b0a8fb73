internal import Shards

/// How often the events happened that a simulation is there to produce.
///
/// A run of many seeds in which one of them never happened did not test what it claims.
struct Coverage: Sendable {
    /// The interesting events.
    enum Event: String, CaseIterable, Sendable {
        case electionsWon = "elections won"
        case electionsLost = "candidates that gave up"
        case preVotesRefused = "pre-votes refused"
        case stepDowns = "leaders that stepped down"
        case quorumsLost = "leaders that stepped down for want of a quorum"
        case conflictsTruncated = "conflicting tails cut"
        case appendsRejected = "appends rejected"
        case entriesCommitted = "entries committed"
        case proposalsDropped = "commands with unknown outcome"
        case overloads = "requests refused as overloaded"
        case snapshotsOffered = "snapshots offered"
        case snapshotsInstalled = "snapshots installed"
        case snapshotsResumed = "snapshots resumed after a break"
        case snapshotsFailed = "snapshot installs cut short"
        case chunksDamaged = "damaged chunks refused"
        case compactions = "logs compacted"
        case membershipChanges = "membership changes applied"
        case jointEntered = "joint configurations entered"
        case jointLeft = "joint configurations left"
        case changesRefused = "membership changes refused"
        case replicasAdded = "blank replicas made"
        case replicasRemoved = "replicas removed"
        case transfersAsked = "transfers asked for"
        case transfersDone = "transfers done"
        case transfersCut = "transfers cut short"
        case readsByIndex = "reads confirmed by a round"
        case readsByLease = "reads by lease"
        case readsFromFollowers = "reads from followers"
        case readsDropped = "reads failed at a change of leader"
        case writesDone = "writes acknowledged"
        case retriesDeduplicated = "retries answered from the idempotency table"
        case sleeps = "groups gone to sleep"
        case wakes = "groups woken"
        case messagesLost = "messages lost"
        case messagesDoubled = "messages doubled"
        case messagesReordered = "messages overtaken"
        case messagesOfEarlierLife = "messages of an earlier life delivered"
        case partitionsWhole = "whole partitions"
        case partitionsOneWay = "one-way partitions"
        case partitionsPartial = "partial partitions"
        case partitionsMoving = "partitions that follow the leader"
        case crashes = "crashes"
        case crashesInWrite = "crashes with a write under way"
        case crashesOfAll = "crashes of all nodes at once"
        case plannedStops = "planned stops, after handing on the lead"
        case processEnds = "ends of the process alone"
        case unsyncedLost = "unsynced log sectors lost"
        case unsyncedKept = "unsynced log sectors that survived"
        case tornWrites = "log writes torn between sectors"
        case logWritesFailed = "failed writes of the log"
        case logSyncsFailed = "failed syncs of the log"
        case logReadsFailed = "failed reads of the log"
        case logFilesFailed = "log files not listed, opened or made"
        case logRenamesFailed = "failed renames of log files"
        case logRemovesFailed = "failed removals of log files"
        case logFull = "logs without room for a file"
        case segmentsRecycled = "log segments used again"
        case filesBack = "removed log files back after a crash"
        case recoveriesCut = "recoveries of a log cut short"
        case appliedLost = "applied state lost and applied again"
        case flushesTorn = "crashes in a flush of the state"
        case bitFlips = "bit flips at rest in the state"
        case logBitFlips = "bit flips at rest in the log"
        case bitFlipsNoticed = "bit flips noticed"
        case diskFailures = "failed writes and syncs"
        case diskFull = "full disks"
        case diskSlow = "slow disks"
        case appliesSlow = "slow appliers"
        case pauses = "paused processes"
        case clockJumps = "clock jumps"
        case wipes = "nodes lost and replaced under a new id"
        case upgrades = "upgrades"
        case plansMade = "plans with steps"
        case planLearners = "learners added by plan"
        case planVoters = "voters changed by plan"
        case planLearnersGone = "learners removed by plan"
        case planTransfers = "leaders moved by plan"
        case planNodes = "nodes let in and out by plan"
        case placementsConfirmed = "placements confirmed"
        case wishes = "wishes of an operator"
        case nodesJoined = "nodes joined by token"
        case plansFulfilled = "clusters found as wished"
        case ledgerRecords = "ledger records"
        case rootsCompared = "roots compared"
        case leadersByForce = "forced campaigns"
    }

    private var counts: [Int]

    init() { self.counts = Array(repeating: 0, count: Event.allCases.count) }

    private static let places: [Event: Int] = Dictionary(
        uniqueKeysWithValues: Event.allCases.enumerated().map { ($0.element, $0.offset) }
    )

    subscript(_ event: Event) -> Int {
        get { self.counts[Self.places[event] ?? 0] }
        set { self.counts[Self.places[event] ?? 0] = newValue }
    }

    mutating func add(_ other: Coverage) {
        for place in self.counts.indices { self.counts[place] += other.counts[place] }
    }

    /// The events that never happened.
    var missing: [Event] { Event.allCases.filter { self[$0] == 0 } }

    /// One line for each event.
    var table: String {
        Event.allCases.map { pad("  " + $0.rawValue, to: 56) + String(self[$0]) }.joined(separator: "\n")
    }
}

extension Coverage.Event {
    /// The failure of a call of a log's disk.
    static func logFailure(of call: SimLogFiles.Call) -> Self {
        switch call {
        case .write: .logWritesFailed
        case .sync: .logSyncsFailed
        case .read: .logReadsFailed
        case .rename: .logRenamesFailed
        case .remove: .logRemovesFailed
        case .names, .open, .create: .logFilesFailed
        }
    }

    /// A step of a plan that was taken.
    static func planStep(of action: ClusterAction) -> Self {
        switch action {
        case .addLearner: .planLearners
        case .changeVoters: .planVoters
        case .removeLearner: .planLearnersGone
        case .transferLeader: .planTransfers
        case .setNodeState: .planNodes
        }
    }
}
