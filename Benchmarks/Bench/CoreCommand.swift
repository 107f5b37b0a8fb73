internal import ArgumentParser
internal import Consensus
internal import Foundation
internal import Primitives

/// The core of consensus alone: three replicas in one thread, no disk, no network, no clock.
struct CoreCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "core",
        abstract:
            "Drives three replicas of the consensus core in one thread: entries a second, and what idle groups cost."
    )

    @Option(help: "Payload bytes of an entry.")
    var size = 600

    @Option(help: "Entries of each measurement.")
    var entries = 400_000

    func run() throws {
        for batch in [1, 16, 64, 256] {
            let rate = CoreTrio(size: self.size).entriesPerSecond(count: self.entries, batch: batch)
            self.record("core_\(batch)", rate, "entries a second, in batches of \(batch)")
        }
        let awake = CoreTrio.nanosecondsPerTick(groups: 1_000, ticks: 400, isAsleep: false)
        self.record("tick_awake", awake, "ns a tick of an idle, awake group, its three replicas together")
        let asleep = CoreTrio.nanosecondsPerTick(groups: 1_000, ticks: 400, isAsleep: true)
        self.record("tick_asleep", asleep, "ns a tick of a sleeping group, its three replicas together")
    }

    private func record(_ name: String, _ value: Double, _ what: String) {
        print(String(format: "core: %12.1f %@  (%@)", value, what, name))
    }
}

/// A log that never has to be read: everything recent is in memory.
private struct NoReader: LogReader {
    func entries(from first: LogIndex, through last: LogIndex, bytesMax: Int) throws(ConsensusError) -> [LogEntry] {
        throw ConsensusError(code: .hole, message: "nothing is stored", index: first)
    }
}

/// Three replicas of one group; messages are handed over at once, writes are durable at once.
private struct CoreTrio {
    private var cores: [RaftCore]
    private var inFlight: [RaftMessage] = []
    private let payload: [UInt8]
    private(set) var applied = 0

    init(size: Int) {
        let nodes = (1...3).map { NodeID($0) }
        self.payload = Array(repeating: UInt8(ascii: "x"), count: size)
        self.cores = nodes.map { node in
            RaftCore(
                id: node,
                configuration: RaftConfiguration(),
                restored: RestoredReplica(
                    hardState: HardState(),
                    terms: TermRuns(),
                    commit: .zero,
                    applied: .zero,
                    appliedTerm: .zero,
                    membership: Membership(voters: nodes)
                ),
                reader: NoReader(),
                generator: SeededGenerator(seed: node.rawValue)
            )
        }
        self.cores[0].campaign()
        self.settle()
    }

    /// Hands everything on until nobody has anything to do.
    mutating func settle() {
        repeat {
            let messages = self.inFlight
            self.inFlight.removeAll(keepingCapacity: true)
            for message in messages { self.cores[Int(message.to.rawValue) - 1].step(message) }
            for place in self.cores.indices {
                while let ready = self.cores[place].takeReady() {
                    self.inFlight.append(contentsOf: ready.sendNow)
                    if let ticket = ready.ticket {
                        self.inFlight.append(contentsOf: ready.sendWhenPersisted)
                        self.cores[place].persisted(ticket)
                    }
                    if let last = ready.committed.last {
                        self.applied += ready.committed.count
                        self.cores[place].applied(last.index)
                    }
                }
            }
        } while !self.inFlight.isEmpty
    }

    mutating func tick() {
        for place in self.cores.indices { self.cores[place].tick() }
        self.settle()
    }

    mutating func sleep() -> Bool {
        let isSent = self.cores[0].trySleep(live: (1...3).map { NodeID($0) })
        self.settle()
        return isSent && self.cores.allSatisfy(\.isAsleep)
    }

    func entriesPerSecond(count: Int, batch: Int) -> Double {
        var trio = self
        trio.applied = 0
        let start = Self.cpuSeconds
        var proposed = 0
        while proposed < count {
            for _ in 0..<batch {
                proposed += 1
                _ = trio.cores[0].propose(kind: .commands, payload: trio.payload, token: UInt64(proposed))
            }
            trio.settle()
        }
        let seconds = Self.cpuSeconds - start
        precondition(trio.applied >= proposed, "what was proposed was applied")
        return Double(proposed) / seconds
    }

    /// A sleeping group is not in the list that its host ticks, so its tick is an empty loop's.
    static func nanosecondsPerTick(groups: Int, ticks: Int, isAsleep: Bool) -> Double {
        var trios = (0..<groups).map { _ in CoreTrio(size: 1) }
        // Followers learn of the last commit, as they do within a heartbeat.
        let warmUpTicks = 10
        for place in trios.indices { for _ in 0..<warmUpTicks { trios[place].tick() } }
        var awake = Array(trios.indices)
        if isAsleep {
            awake.removeAll { trios[$0].sleep() }
            precondition(awake.isEmpty, "idle groups fall asleep")
        }
        let start = Self.cpuSeconds
        for _ in 0..<ticks { for place in awake { trios[place].tick() } }
        return (Self.cpuSeconds - start) * 1e9 / Double(groups * ticks)
    }

    private static var cpuSeconds: Double {
        var time = timespec()
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)  // ambient-ok: measures the CPU time of this process
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }
}
