internal import Foundation
internal import Glibc
internal import Primitives

/// What is done to the cluster while clients work: one fault after another, drawn from a seed, each healed again.
struct Nemesis {
    enum Fault: String, CaseIterable {
        case kill
        case killMajority = "kill a majority"
        case pause
        case cutNode = "cut a node off"
        case cutOneWay = "cut one way"
        case cutInHalves = "cut in halves"
        case slowLink = "slow link"
        case fullDisk = "full disk"
        case failingSync = "failing fsync"
        case rollingRestart = "rolling restart"
        case transfer = "transfer leaders"
        case replaceNode = "replace a node"

        var needsIsolation: Bool {
            switch self {
            case .cutNode, .cutOneWay, .cutInHalves, .slowLink: true
            default: false
            }
        }
    }

    let cluster: ClusterUnderTest
    private var generator: SeededGenerator
    private let say: (String) -> Void
    /// How often each fault was done.
    private(set) var done: [Fault: Int] = [:]
    private(set) var problems: [String] = []
    private(set) var everUsed: [Int]
    private var bag: [Fault] = []

    init(cluster: ClusterUnderTest, seed: UInt64, say: @escaping (String) -> Void) {
        self.cluster = cluster
        self.generator = SeededGenerator(seed: seed)
        self.say = say
        self.everUsed = cluster.nodes.keys.sorted()
    }

    private var possible: [Fault] {
        Fault.allCases.filter { fault in
            if fault.needsIsolation, !self.cluster.network.isIsolated { return false }
            switch fault {
            case .fullDisk: return self.cluster.nodes.values.allSatisfy(\.hasVolume)
            case .failingSync: return self.cluster.canFailSyncs
            default: return true
            }
        }
    }

    private mutating func below(_ bound: Int) -> Int { Int(self.generator.next() % UInt64(bound)) }

    private mutating func shuffledNodes() -> [Int] {
        var nodes = self.cluster.nodes.keys.sorted()
        for place in nodes.indices.reversed() { nodes.swapAt(place, self.below(place + 1)) }
        return nodes
    }

    private mutating func seconds(_ range: ClosedRange<Double>) -> Duration {
        let share = Double(self.generator.next() % 1000) / 1000
        return .milliseconds(Int((range.lowerBound + (range.upperBound - range.lowerBound) * share) * 1000))
    }

    /// Every fault comes once before any comes twice.
    private mutating func draw() -> Fault {
        if self.bag.isEmpty {
            self.bag = self.possible
            for place in self.bag.indices.reversed() { self.bag.swapAt(place, self.below(place + 1)) }
        }
        return self.bag.removeLast()
    }

    /// Disturbs until `deadline`, then leaves everything healed and all nodes running.
    mutating func run(until deadline: ContinuousClock.Instant, clock: ContinuousClock) async {
        while clock.now < deadline {
            let fault = self.draw()
            self.done[fault, default: 0] += 1
            do {
                try await self.perform(fault)
            } catch {
                self.problems.append("\(fault.rawValue): \(error)")
            }
            self.restartDead()
            try? await Task.sleep(for: self.seconds(0.5...1.5))
        }
        self.restartDead()
    }

    /// Starts what has ended, as a supervisor would.
    private mutating func restartDead() {
        for node in self.cluster.nodes.values.sorted(by: { $0.id < $1.id }) where !node.isRunning {
            do { try node.start() } catch { self.problems.append("start of node \(node.id): \(error)") }
        }
    }

    private func process(_ node: Int) -> NodeProcess? { self.cluster.nodes[node] }

    private mutating func perform(_ fault: Fault) async throws {
        let nodes = self.shuffledNodes()
        let victim = nodes[0]
        switch fault {
        case .kill:
            self.say("SIGKILL node \(victim)")
            self.process(victim)?.signal(SIGKILL)
            try await Task.sleep(for: self.seconds(0.2...3))
        case .killMajority:
            let victims = nodes.prefix(nodes.count / 2 + 1)
            self.say("SIGKILL nodes \(victims.sorted())")
            for node in victims { self.process(node)?.signal(SIGKILL) }
            try await Task.sleep(for: self.seconds(0.2...2))
        case .pause:
            self.say("SIGSTOP node \(victim)")
            self.process(victim)?.signal(SIGSTOP)
            try await Task.sleep(for: self.seconds(0.3...4))
            self.process(victim)?.signal(SIGCONT)
        case .cutNode:
            self.say("node \(victim) off the network")
            try await self.cluster.network.unplug(victim)
            try await Task.sleep(for: self.seconds(1...4))
            await self.cluster.network.plug(victim)
        case .cutOneWay: try await self.cutOneWay(nodes)
        case .cutInHalves: try await self.cutInHalves(nodes)
        case .slowLink:
            self.say("node \(victim) behind a slow link")
            try await self.cluster.network.slow(victim, kilobits: 256)
            try await Task.sleep(for: self.seconds(1...4))
            await self.cluster.network.unslow(victim)
        case .fullDisk: try await self.fillDisk(victim)
        case .failingSync:
            self.say("every fsync of node \(victim) fails")
            self.process(victim)?.failSyncs()
            let hasEnded = await self.process(victim)?.waitForEnd(.seconds(6)) ?? true
            self.process(victim)?.mendSyncs()
            if !hasEnded { self.problems.append("node \(victim) went on although its syncs failed") }
        case .rollingRestart: try await self.rollingRestart(nodes.sorted())
        case .transfer:
            self.say("leaders away from node \(victim)")
            _ = try await self.cluster.command("cluster", "cordon", "\(victim)")
            try await Task.sleep(for: self.seconds(0.5...2))
            _ = try await self.cluster.command("cluster", "uncordon", "\(victim)")
        case .replaceNode: try await self.replace(victim)
        }
    }

    private mutating func cutOneWay(_ nodes: [Int]) async throws {
        let others = nodes.dropFirst().prefix(1 + self.below(nodes.count - 1))
        self.say("nothing of node \(nodes[0]) reaches nodes \(others.sorted())")
        for other in others { try await self.cluster.network.cut(from: nodes[0], to: other) }
        try? await Task.sleep(for: self.seconds(1...4))
        for other in others { await self.cluster.network.mend(from: nodes[0], to: other) }
    }

    private mutating func cutInHalves(_ nodes: [Int]) async throws {
        let left = nodes.prefix(nodes.count / 2)
        let right = nodes.dropFirst(nodes.count / 2)
        self.say("nodes \(left.sorted()) and \(right.sorted()) cut off from each other")
        for node in left {
            for other in right {
                try await self.cluster.network.cut(from: node, to: other)
                try await self.cluster.network.cut(from: other, to: node)
            }
        }
        try? await Task.sleep(for: self.seconds(1...4))
        for node in left {
            for other in right {
                await self.cluster.network.mend(from: node, to: other)
                await self.cluster.network.mend(from: other, to: node)
            }
        }
    }

    private mutating func fillDisk(_ victim: Int) async throws {
        self.say("disk of node \(victim) full")
        try self.process(victim)?.fill(leaving: 64 << 10)
        _ = await self.process(victim)?.waitForEnd(.seconds(4))
        // It may have stopped, or not have needed space: both are right.
        self.process(victim)?.signal(SIGKILL)
        _ = await self.process(victim)?.waitForEnd(.seconds(5))
        self.process(victim)?.empty()
    }

    private mutating func rollingRestart(_ nodes: [Int]) async throws {
        self.say("rolling restart")
        for node in nodes {
            self.process(node)?.signal(SIGTERM)
            if await self.process(node)?.waitForEnd(.seconds(15)) != true {
                self.problems.append("node \(node) did not stop within 15 s of SIGTERM")
                self.process(node)?.signal(SIGKILL)
                _ = await self.process(node)?.waitForEnd(.seconds(5))
            }
            try self.process(node)?.start()
            try? await Task.sleep(for: .milliseconds(1500))
        }
    }

    /// A new machine takes the place of one that is lost for good.
    private mutating func replace(_ victim: Int) async throws {
        let new = (self.everUsed.max() ?? 0) + 1
        self.say("node \(victim) lost for good, node \(new) replaces it")
        self.process(victim)?.signal(SIGKILL)
        self.everUsed.append(new)
        try await self.cluster.add(new)
        try await self.cluster.replace(victim, by: new)
        await self.cluster.retire(victim)
    }
}
