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
        case proposalsDropped = "proposals with unknown outcome"
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
        case crashes = "crashes"
        case crashesInWrite = "crashes with a write under way"
        case crashesOfAll = "crashes of all nodes at once"
        case unsyncedLost = "unsynced log writes lost"
        case unsyncedKept = "unsynced log writes that survived"
        case appliedLost = "applied state lost and applied again"
        case tornWrites = "torn writes"
        case bitFlips = "bit flips at rest"
        case bitFlipsNoticed = "bit flips noticed"
        case diskFailures = "failed writes and syncs"
        case diskFull = "full disks"
        case diskSlow = "slow disks"
        case appliesSlow = "slow appliers"
        case pauses = "paused processes"
        case clockJumps = "clock jumps"
        case wipes = "nodes lost and replaced under a new id"
        case upgrades = "upgrades"
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
