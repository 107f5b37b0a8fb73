internal import Consensus
internal import Primitives
internal import Shards
internal import Storage

/// One node: a disk that outlives its crashes, a clock of its own, and the process while it runs.
final class SimNode {
    let id: NodeID
    unowned let world: World
    var dice: Dice
    private(set) var store: FaultInjectingStore
    /// Where the Raft logs lie.
    let logFiles = SimLogFiles()
    private(set) var process: SimProcess?
    /// Counts the process's lives.
    private(set) var life = 0
    /// Ticks that were given to the cores, in all lives.
    private(set) var ticks = 0
    private(set) var isPaused = false
    /// What happens to the paused process once it goes on.
    private var deferred: [(SimProcess) -> Void] = []
    /// The disk is gone for good.
    private(set) var isLost = false
    /// Somebody damaged the disk: a restart that refuses to go on is right.
    var isDamaged = false
    /// A failure of the disk is planned: a process that ends by it is right.
    var isFailureExpected = false
    /// Thousandths by which the clock runs fast.
    var driftPerMille: VirtualTime = 0
    /// Added to virtual time by those who ask this node for the time.
    var clockOffset: VirtualTime = 0
    /// The disk works again after this time.
    var stalledUntil: VirtualTime = 0
    /// Nothing is applied before this time.
    var appliesStalledUntil: VirtualTime = 0
    private var lastTick: VirtualTime = 0
    private var isTickMissed = false

    /// Whether the node is one of those with which the cluster began.
    let isFounder: Bool
    /// What its program can do; an upgrade changes it with the next life.
    var features: FeatureRange
    let electionPriority: Int

    init(id: NodeID, world: World, dice: Dice, isFounder: Bool) {
        var dice = dice
        self.id = id
        self.world = world
        self.isFounder = isFounder
        self.features = isFounder ? world.plan.features : .supported
        self.electionPriority = world.plan.isPriorityUsed ? dice.roll(3) : 0
        self.dice = dice
        do {
            self.store = try FaultInjectingStore(InMemoryStore())
        } catch {
            preconditionFailure("an empty store in memory opens: \(error)")
        }
    }

    var isRunning: Bool { self.process != nil && !self.isPaused }

    // MARK: - Life

    func start() {
        guard self.process == nil, !self.isLost else { return }
        self.life += 1
        self.isPaused = false
        self.isTickMissed = false
        self.lastTick = self.world.now
        do {
            let process = try SimProcess(node: self)
            self.process = process
            self.world.note(.start, self.id, UInt64(self.life), "life \(self.life)")
            process.begin()
            self.planTick(of: self.life)
        } catch {
            self.refused(error)
        }
    }

    /// The disk does not let the process start.
    private func refused(_ error: any Error) {
        self.process = nil
        if self.isDamaged, Self.isDamage(error) {
            self.world.coverage[.bitFlipsNoticed] += 1
            self.world.note(.stop, self.id, "the damaged disk was noticed: \(error)")
            self.world.nemesis.replace(self)
        } else if self.isFailureExpected || self.logFiles.mayFail {
            if self.logFiles.failed != nil { self.world.coverage[.recoveriesCut] += 1 }
            self.noteLogFailure()
            self.crash()
            self.planRestart()
        } else {
            self.world.violate("node \(self.id) does not start: \(errorChain(error))")
        }
    }

    /// Ends the process at once; of what was not synced a part survives that chance decides.
    func crash() {
        guard !self.isLost else { return }
        self.life += 1
        let wasRunning = self.process != nil
        self.process?.abandonWrites()
        self.process = nil
        self.isPaused = false
        self.deferred = []
        self.isFailureExpected = false
        self.world.invariants.crashed(self.id, groups: self.world.plan.groups.map(\.id))
        self.losePower()
        if wasRunning { self.world.note(.crash, self.id, UInt64(self.life), "") }
    }

    /// The power fails, or the process alone ends and the system keeps what it was told to write.
    private func losePower() {
        let isPowerLost = self.dice.chance(75)
        let unsynced = self.store.unsyncedCount
        let unflushed = self.store.unflushedCount
        var outcome = CrashOutcome(unsynced: unsynced, unflushed: unflushed, using: &self.dice)
        if !isPowerLost { outcome.unsyncedKept = .max }
        do {
            try self.store.crash(outcome)
            self.store = try self.store.reopened()
        } catch {
            self.world.violate("node \(self.id): the simulated disk failed: \(error)")
        }
        if (1..<max(unflushed, 1)).contains(outcome.flushedThrough) { self.world.coverage[.flushesTorn] += 1 }
        guard isPowerLost else {
            self.world.coverage[.processEnds] += 1
            return self.logFiles.endProcess()
        }
        let left = self.logFiles.losePower(&self.dice)
        if left.lost > 0 { self.world.coverage[.unsyncedLost] += 1 }
        if left.kept > 0 { self.world.coverage[.unsyncedKept] += 1 }
        if left.lost > 0, left.kept > 0 { self.world.coverage[.tornWrites] += 1 }
        self.world.coverage[.filesBack] += left.filesBack
    }

    /// Counts the call of the log's disk that has ended the process.
    private func noteLogFailure() {
        guard let call = self.logFiles.failed else { return }
        if call == .create, self.logFiles.isFull { self.world.coverage[.logFull] += 1 }
        self.world.coverage[.logFailure(of: call)] += 1
        self.world.note(.fault, self.id, "a \(call.rawValue) of the log failed")
    }

    /// The process ended itself because of `error`.
    func failed(_ error: any Error) {
        self.world.note(.stop, self.id, "\(error)")
        if self.isDamaged, Self.isDamage(error) {
            self.world.coverage[.bitFlipsNoticed] += 1
            self.crash()
            self.world.nemesis.replace(self)
            return
        }
        guard self.isFailureExpected || self.logFiles.failed != nil else {
            self.world.violate("node \(self.id) failed: \(errorChain(error))")
            return
        }
        self.noteLogFailure()
        self.world.coverage[.diskFailures] += 1
        self.crash()
        self.planRestart()
    }

    /// Whether somebody has noticed that what lies on the disk is not what was written.
    static func isDamage(_ error: any Error) -> Bool {
        let text = errorChain(error)
        return ["corruption", "damage", "hole", "logLost", "mismatch", "malformed"].contains { text.contains($0) }
    }

    /// Calls of the disk that the recovery of a log takes at most, as a rule.
    private static let callsOfRecoveryMax = 24

    func planRestart(after delay: VirtualTime? = nil) {
        let life = self.life
        let wait = delay ?? self.dice.draw(0...(SimulationPlan.tickInterval * 20))
        if self.world.plan.troubles.contains(.crashAtIO), !self.world.isCalm, self.dice.chance(20) {
            // Somewhere in the recovery or soon after it, the process ends again.
            let callsBefore = self.dice.roll(Self.callsOfRecoveryMax)
            self.logFiles.set(SimLogFiles.Trap(callsBefore: callsBefore, hasEffect: self.dice.chance(50)))
        }
        self.world.after(wait) { [self] in if self.life == life { self.start() } }
    }

    /// The disk and all that is on it are gone.
    func lose() {
        self.crash()
        self.isLost = true
    }

    func pause() {
        guard self.process != nil else { return }
        self.isPaused = true
        self.world.note(.pause, self.id, "")
    }

    func resume() {
        guard self.isPaused else { return }
        self.isPaused = false
        self.world.note(.resume, self.id, "")
        // As a host does that wakes up: first it learns how much time has passed.
        if self.isTickMissed { self.tick(of: self.life) }
        let actions = self.deferred
        self.deferred = []
        for action in actions {
            guard let process = self.process else { return }
            if self.isPaused { self.deferred.append(action) } else { action(process) }
        }
    }

    /// Back to a node without troubles.
    func heal() {
        self.store.disarm()
        self.logFiles.disarm()
        self.driftPerMille = 0
        self.stalledUntil = 0
        self.appliesStalledUntil = 0
        self.resume()
        if self.process == nil, !self.isLost {
            self.isFailureExpected = false
            self.start()
        }
    }

    // MARK: - Time

    /// The time that this node's clock shows.
    var wallClock: Timestamp {
        Timestamp(microseconds: Self.epochMicros + self.world.now + self.clockOffset)
    }

    /// The simulations begin on the first of January 2026.
    private static let epochMicros: VirtualTime = 1_767_225_600_000_000

    private func planTick(of life: Int) {
        let interval = SimulationPlan.tickInterval * 1_000 / (1_000 + self.driftPerMille)
        self.world.after(interval) { [self] in
            guard self.life == life else { return }
            if self.isPaused { self.isTickMissed = true } else { self.tick(of: life) }
        }
    }

    private func tick(of life: Int) {
        guard let process = self.process else { return }
        self.isTickMissed = false
        let passed = (self.world.now - self.lastTick) * (1_000 + self.driftPerMille) / 1_000
        self.lastTick = self.world.now
        self.ticks += 1
        self.planTick(of: life)
        // An interval that is cut short by rounding is one all the same.
        process.tick(elapsed: max(1, Int((passed + Self.roundingMicros) / SimulationPlan.tickInterval)))
    }

    private static let roundingMicros: VirtualTime = 100

    /// Gives `action` the running process; when it is paused, once it goes on; never when it has ended.
    func whenRunning(_ action: @escaping (SimProcess) -> Void) {
        guard let process = self.process else { return }
        if self.isPaused { self.deferred.append(action) } else { action(process) }
    }

    /// As ``whenRunning(_:)``, later and in this life only.
    func after(_ delay: VirtualTime, _ action: @escaping (SimProcess) -> Void) {
        let life = self.life
        self.world.after(delay) { [self] in
            if self.life == life { self.whenRunning(action) }
        }
    }

    /// How long it takes until a lane that has work gets its turn.
    func drawApplyTime() -> VirtualTime {
        max(self.dice.draw(self.world.plan.applyTime), self.appliesStalledUntil - self.world.now)
    }

    /// How long a write that begins now takes to be durable.
    func drawSyncTime() -> VirtualTime {
        max(self.dice.draw(self.world.plan.syncTime), self.stalledUntil - self.world.now)
    }
}
