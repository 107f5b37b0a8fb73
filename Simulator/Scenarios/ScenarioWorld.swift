internal import Consensus
internal import Primitives

/// The nodes of a scenario, what is in flight between them, and what was seen.
struct ScenarioWorld: Sendable {
    /// A one-way cut.
    struct Cut: Hashable, Sendable {
        let from: NodeID
        let to: NodeID
    }

    /// A read that was asked for.
    struct Read: Sendable, Hashable {
        let node: NodeID
        let context: String
        /// The largest commit index of any node when the read began.
        let least: LogIndex
        /// Nil while it waits.
        var index: LogIndex?
        var isDropped = false
    }

    /// A batch that `hold` set aside.
    struct Held: Sendable, Hashable {
        let name: String
        var flights: [Flight]
    }

    let file: String
    let faults: CoreFaults
    var nodes: [VirtualNode] = []
    var inFlight: [Flight] = []
    var held: [Held] = []
    var cuts: Set<Cut> = []
    /// By token - 1.
    var reads: [Read] = []
    var lastError = "none"
    /// The line whose refused proposal no `expect last-error` has looked at.
    var unseenRefusal: Int?
    var safety = SafetyRules()
    /// What was sent in the running command.
    var sent: [Flight] = []
    /// Broken rules of the running command.
    var breaches: [SafetyRules.Breach] = []
    var nextToken: UInt64 = 1
    /// Whether `sent` is wanted.
    var isTraced = false

    init(file: String, faults: CoreFaults) {
        self.file = file
        self.faults = faults
    }

    /// The place of `id` in `nodes`.
    func place(of id: NodeID) -> Int? {
        let place = Int(exactly: id.rawValue).map { $0 - 1 } ?? -1
        return self.nodes.indices.contains(place) ? place : nil
    }

    func place(_ text: String, _ reader: ScenarioReader) throws -> Int {
        let id = try reader.node(text: text)
        guard let place = self.place(of: id) else { throw reader.error(.noSuchThing, "there is no node \(text)") }
        return place
    }

    func place(option key: String, _ reader: ScenarioReader) throws -> Int {
        try self.place(try reader.text(key), reader)
    }

    /// Nothing in flight, no ready, no queued work.
    var isQuiescent: Bool {
        self.inFlight.isEmpty
            && self.nodes.allSatisfy { $0.appendWork.isEmpty && $0.applyWork.isEmpty && !$0.hasReady }
    }

    // MARK: - Nodes at work

    /// Puts what a node made in flight, and looks at it.
    mutating func take(_ round: VirtualNode.Round, of place: Int) {
        let node = self.nodes[place]
        for flight in round.flights {
            if let breach = self.safety.check(flight, of: node) { self.breaches.append(breach) }
            if self.inFlight.count < ScenarioLimits.inFlightMax { self.inFlight.append(flight) }
            if self.isTraced { self.sent.append(flight) }
        }
        for read in round.reads { self.answer(token: read.token, index: read.index, of: node.id) }
        for token in round.droppedReads where token >= 1 && token <= UInt64(self.reads.count) {
            self.reads[Int(token) - 1].isDropped = true
        }
        if let failure = round.failure {
            let details = "\(node.id): \(failure.message)"
            self.breaches.append(SafetyRules.Breach(rule: .coreFailure, details: details))
        }
    }

    private mutating func answer(token: UInt64, index: LogIndex, of node: NodeID) {
        guard token >= 1, token <= UInt64(self.reads.count) else { return }
        let read = self.reads[Int(token) - 1]
        if let breach = self.safety.check(read: index, began: read.least, of: node) { self.breaches.append(breach) }
        self.reads[Int(token) - 1].index = index
    }

    /// Runs one round of the ready loop.
    /// - Returns: Whether there was anything to do.
    mutating func processReady(_ place: Int) -> Bool {
        guard let round = self.nodes[place].processReady() else { return false }
        self.take(round, of: place)
        return true
    }

    mutating func processAppend(_ place: Int) -> Bool {
        guard let round = self.nodes[place].processAppend() else { return false }
        self.take(round, of: place)
        return true
    }

    mutating func processApply(_ place: Int) -> Bool {
        guard let round = self.nodes[place].processApply() else { return false }
        self.take(round, of: place)
        return true
    }

    /// Hands the flight to its receiver, if it exists.
    mutating func receive(_ flight: Flight) {
        guard let place = self.place(of: flight.to) else { return }
        self.nodes[place].receive(flight.cargo)
    }

    // MARK: - Messages in flight

    /// Takes the matching messages out, in sending order.
    mutating func takeOut(_ filter: FlightFilter) -> [Flight] {
        var taken: [Flight] = []
        var rest: [Flight] = []
        for flight in self.inFlight {
            if taken.count < filter.count ?? .max, filter.matches(flight) {
                taken.append(flight)
            } else {
                rest.append(flight)
            }
        }
        self.inFlight = rest
        return taken
    }

    func matching(_ filter: FlightFilter) -> [Flight] {
        Array(self.inFlight.lazy.filter { filter.matches($0) }.prefix(filter.count ?? .max))
    }

    private func isCut(_ flight: Flight) -> Bool {
        !flight.isLocal && self.cuts.contains(Cut(from: flight.from, to: flight.to))
    }

    /// Repeats ready loops, deliveries, append work and apply work of the nodes at `places` until nothing changes.
    /// - Returns: Whether it came to an end.
    mutating func stabilize(_ places: [Int]) -> Bool {
        for _ in 0..<ScenarioLimits.stabilizeRoundsMax {
            var isDone = true
            for place in places where self.processReady(place) { isDone = false }
            for place in places where self.deliverAll(to: place) { isDone = false }
            for place in places {
                while self.processAppend(place) { isDone = false }
            }
            for place in places {
                while self.processApply(place) { isDone = false }
            }
            if isDone { return true }
        }
        return false
    }

    /// - Returns: Whether anything was in flight to the node.
    private mutating func deliverAll(to place: Int) -> Bool {
        var filter = FlightFilter()
        filter.to = [self.nodes[place].id]
        filter.isLocalIncluded = true
        let flights = self.takeOut(filter)
        for flight in flights where !self.isCut(flight) { self.receive(flight) }
        return !flights.isEmpty
    }

    // MARK: - Safety

    /// Looks at all nodes after a command.
    /// - Returns: What broke in it.
    mutating func checkSafety() -> [SafetyRules.Breach] {
        let found = self.breaches + self.safety.check(self.nodes)
        self.breaches = []
        return found
    }
}
