internal import Consensus
internal import Primitives

/// The network between the nodes: loses, delays, doubles and reorders what it carries, is cut, and gives back messages
/// of long ago.
final class SimNetwork {
    /// From one node to another.
    struct Link: Hashable {
        let from: NodeID
        let to: NodeID
    }

    /// What happens to one batch of messages.
    private struct Packet {
        let link: Link
        let messages: [HostMessage]
    }

    private unowned let world: World
    private var dice: Dice
    private var cut: Set<Link> = []
    /// Links that hold back everything until a time.
    private var clogged: [Link: VirtualTime] = [:]
    /// When the last batch of a link arrives: without reordering none overtakes it.
    private var lastArrival: [Link: VirtualTime] = [:]
    private var attic: [Packet] = []
    /// Without troubles: nothing is lost and nothing late.
    private var isCalm = false

    private static let atticMax = 64
    private static let tailFactor: VirtualTime = 40

    init(world: World, dice: Dice) {
        self.world = world
        self.dice = dice
    }

    // MARK: - Links

    func isCut(_ from: NodeID, _ to: NodeID) -> Bool { self.cut.contains(Link(from: from, to: to)) }

    func cut(_ from: NodeID, _ to: NodeID) { self.cut.insert(Link(from: from, to: to)) }

    func clog(_ from: NodeID, _ to: NodeID, until time: VirtualTime) {
        self.clogged[Link(from: from, to: to)] = time
    }

    func healLinks() {
        self.cut = []
        self.clogged = [:]
    }

    /// From now on the network is a good one.
    func calm() {
        self.healLinks()
        self.attic = []
        self.isCalm = true
    }

    /// - Returns: How long a message of the network of clients or of chunks takes now.
    func drawLatency() -> VirtualTime {
        let plan = self.world.plan
        var latency = self.dice.draw(plan.latency)
        if !self.isCalm, self.dice.chance(plan.latencyTailPercent) { latency *= self.dice.draw(1...Self.tailFactor) }
        return latency
    }

    /// - Returns: Whether a request or an answer outside the peers' streams gets lost now.
    func losesNow() -> Bool { !self.isCalm && self.dice.chance(self.world.plan.lossPercent) }

    // MARK: - Messages

    func send(_ messages: [HostMessage], from: NodeID, to: NodeID) {
        let packet = Packet(link: Link(from: from, to: to), messages: messages)
        self.remember(packet)
        if self.cut.contains(packet.link) || self.losesNow() {
            self.world.coverage[.messagesLost] += 1
            self.world.note(.lose, from, to.rawValue, UInt64(messages.count), "\(messages.count) to \(to)")
            if !self.isCalm, self.dice.chance(20) { self.world.unreachable(to, by: from) }
            return
        }
        self.plan(packet)
        if !self.isCalm, self.dice.chance(self.world.plan.doublePercent) {
            self.world.coverage[.messagesDoubled] += 1
            self.plan(packet)
        }
    }

    private func plan(_ packet: Packet) {
        var arrival = self.world.now + self.drawLatency()
        if let until = self.clogged[packet.link], until > arrival { arrival = until }
        let last = self.lastArrival[packet.link] ?? 0
        if arrival < last {
            if !self.isCalm, self.dice.chance(self.world.plan.reorderPercent) {
                self.world.coverage[.messagesReordered] += 1
            } else {
                arrival = last
            }
        }
        self.lastArrival[packet.link] = max(last, arrival)
        self.world.at(arrival) { [self] in
            // A batch under way is lost when its link is cut meanwhile.
            if self.cut.contains(packet.link) {
                self.world.coverage[.messagesLost] += 1
                return
            }
            self.world.deliver(packet.messages, from: packet.link.from, to: packet.link.to)
        }
    }

    private func remember(_ packet: Packet) {
        guard !self.isCalm, self.world.plan.troubles.contains(.earlierLife), self.dice.chance(4) else { return }
        if self.attic.count < Self.atticMax {
            self.attic.append(packet)
        } else {
            self.attic[self.dice.roll(Self.atticMax)] = packet
        }
    }

    /// Delivers a batch of long ago again.
    func deliverFromAttic() {
        guard !self.attic.isEmpty else { return }
        let packet = self.attic.remove(at: self.dice.roll(self.attic.count))
        if self.cut.contains(packet.link) { return }
        self.world.coverage[.messagesOfEarlierLife] += 1
        self.world.deliver(packet.messages, from: packet.link.from, to: packet.link.to)
    }
}
