internal import Consensus
internal import Primitives

// What each command does.
extension ScenarioWorld {
    /// Runs one step.
    /// - Returns: Why it failed: nothing matched, the node refused, or an expectation did not hold; nil when it is well.
    /// - Throws: ``ScenarioError`` when the step means something that does not exist.
    mutating func run(_ step: ScenarioStep) throws -> [String] {
        let reader = ScenarioReader(step: step, file: self.file)
        switch step.command {
        case .addNodes: try self.addNodes(reader)
        case .campaign, .forgetLeader, .tick, .setElectionTimeout, .restart, .compact, .sleep, .wake:
            return try self.nodeCommand(reader)
        case .propose, .proposeConfChange, .transferLeadership: return try self.proposal(reader)
        case .processReady, .processAppend, .processApply, .stabilize: return try self.work(reader)
        case .deliver, .drop, .dup, .hold, .holdCopy, .release: return try self.messages(reader)
        case .isolate, .block, .heal: try self.cut(reader)
        case .sendSnapshot, .reportUnreachable, .reportSnapshot, .readIndex: return try self.report(reader)
        case .checkpoint: break
        case .expect: return self.unmet(try ScenarioExpectation(step, file: self.file))
        }
        return []
    }

    private mutating func addNodes(_ reader: ScenarioReader) throws {
        guard let count = Int(reader.step.words[0]), count >= 1, self.nodes.count + count <= ScenarioLimits.nodesMax
        else { throw reader.error(.badArgument, "a number of nodes up to \(ScenarioLimits.nodesMax) in all") }
        var settings = VirtualNode.Settings()
        settings.preVote = try reader.truth("prevote") ?? false
        settings.checkQuorum = try reader.truth("checkquorum") ?? false
        settings.isAsync = try reader.truth("async") ?? false
        settings.stepDownOnRemoval = try reader.truth("step-down-on-removal") ?? false
        settings.inflightMax = try reader.count("inflight")
        settings.messageBytesMax = try reader.count("max-size")
        settings.uncommittedBytesMax = try reader.count("max-uncommitted")
        settings.electionTicks = try reader.count("election-tick") ?? settings.electionTicks
        settings.heartbeatTicks = try reader.count("heartbeat-tick") ?? settings.heartbeatTicks
        settings.priority = try reader.count("priority") ?? 0
        switch reader.step.option("read-only") {
        case nil, "safe": break
        case "lease-based": settings.leaseReads = true
        case .some(let other): throw reader.error(.badArgument, "read-only is safe or lease-based, not \"\(other)\"")
        }
        if [settings.inflightMax, settings.messageBytesMax, settings.uncommittedBytesMax].contains(0) {
            throw reader.error(.badArgument, "a limit is at least 1")
        }
        if settings.leaseReads, !settings.checkQuorum {
            throw reader.error(.badArgument, "read-only=lease-based needs checkquorum=true")
        }
        if settings.heartbeatTicks < 1 || settings.electionTicks <= settings.heartbeatTicks {
            throw reader.error(.badArgument, "election-tick lies above heartbeat-tick, that above zero")
        }
        let start = try self.start(reader)
        for _ in 0..<count {
            let id = NodeID(UInt64(self.nodes.count + 1))
            self.nodes.append(VirtualNode(id: id, settings: settings, faults: self.faults, start: start))
        }
    }

    /// The snapshot that new nodes have, or nil for blank ones.
    private func start(_ reader: ScenarioReader) throws -> Appender.Version? {
        guard let voters = try reader.nodes("voters") else {
            for key in ["learners", "index", "content"] where reader.step.option(key) != nil {
                throw reader.error(.badArgument, "\(key)= without voters=")
            }
            return nil
        }
        let learners = try reader.nodes("learners") ?? []
        guard !voters.isEmpty, Set(voters).isDisjoint(with: learners) else {
            throw reader.error(.badArgument, "at least one voter, and no node both voter and learner")
        }
        let index = LogIndex(UInt64(try reader.count("index") ?? 0))
        let mark = SnapshotMark(
            index: index,
            term: index == .zero ? .zero : Term(1),
            membership: Membership(voters: voters, learners: learners)
        )
        return Appender.Version(mark: mark, text: reader.step.option("content") ?? "")
    }

    private mutating func nodeCommand(_ reader: ScenarioReader) throws -> [String] {
        let place = try self.place(reader.step.words[0], reader)
        switch reader.step.command {
        case .campaign: self.nodes[place].core.campaign()
        case .forgetLeader: self.nodes[place].core.forgetLeader()
        case .wake: self.nodes[place].core.wake()
        case .tick:
            for _ in 0..<(try reader.count("count") ?? 1) { self.nodes[place].core.tick() }
        case .setElectionTimeout:
            guard let ticks = try reader.count("timeout"), ticks > 0 else {
                throw reader.error(.badArgument, "a timeout is at least 1")
            }
            self.nodes[place].core.setElectionTimeout(ticks)
        case .sleep:
            let live = try reader.nodes("live") ?? self.nodes.map(\.id)
            if !self.nodes[place].core.trySleep(live: live) { return ["the node does not go to sleep"] }
        case .restart:
            let applied = try reader.step.option("applied").map { try reader.index(text: $0) }
            return self.restart(place, applied: applied)
        case .compact: return self.compact(place, first: try reader.index(text: reader.step.words[1]))
        default: break
        }
        return []
    }

    private mutating func restart(_ place: Int, applied: LogIndex?) -> [String] {
        guard self.nodes[place].restart(applied: applied) else { return ["the state machine cannot go back so far"] }
        let id = self.nodes[place].id
        self.inFlight.removeAll { $0.isLocal && $0.to == id }
        for batch in self.held.indices { self.held[batch].flights.removeAll { $0.isLocal && $0.to == id } }
        return []
    }

    private mutating func compact(_ place: Int, first: LogIndex) -> [String] {
        let node = self.nodes[place]
        guard first > node.core.firstIndex, first.rawValue >= 1 else { return ["nothing to compact"] }
        let through = LogIndex(first.rawValue - 1)
        guard through <= node.core.appliedIndex else { return ["\(through) is not applied"] }
        self.nodes[place].core.compact(through: through)
        node.disk.with { $0.compact(through: through) }
        return []
    }

    // MARK: - Proposals

    private mutating func proposal(_ reader: ScenarioReader) throws -> [String] {
        let isDone: Bool
        switch reader.step.command {
        case .propose:
            let place = try self.place(reader.step.words[0], reader)
            let data = reader.step.words.dropFirst().joined(separator: " ")
            isDone = self.propose(place, kind: .commands, payload: ScenarioData.payload(data))
        case .proposeConfChange:
            let place = try self.place(reader.step.words[0], reader)
            isDone = self.propose(place, try self.change(reader))
        default:
            let place = try self.place(option: "from", reader)
            guard let target = try reader.node("to") else { throw reader.error(.badArgument, "to= is missing") }
            // Whether a transfer is taken shows in `transferee`.
            _ = self.nodes[place].core.transferLeadership(to: target)
            return []
        }
        self.lastError = isDone ? "none" : "dropped"
        if !isDone, !reader.step.mayFail { self.unseenRefusal = reader.step.line }
        return []
    }

    private mutating func propose(_ place: Int, kind: LogEntry.Kind, payload: [UInt8]) -> Bool {
        self.nextToken += 1
        let answer = self.nodes[place].core.propose(kind: kind, payload: payload, token: self.nextToken)
        if case .accepted = answer { return true }
        return false
    }

    /// A change that is not adopted leaves an empty entry, as in the files that the language comes from.
    private mutating func propose(_ place: Int, _ change: MembershipChange) -> Bool {
        self.nextToken += 1
        switch self.nodes[place].core.proposeMembership(change, token: self.nextToken) {
        case .accepted: return true
        case .pending, .invalid: return self.propose(place, kind: .empty, payload: [])
        case .notLeader, .overloaded, .transferring: return false
        }
    }

    private func change(_ reader: ScenarioReader) throws -> MembershipChange {
        let isSingle = try reader.truth("v1") ?? false
        var steps: [MembershipChange.Step] = []
        for part in (reader.step.option("changes") ?? "").split(whereSeparator: { $0 == "," || $0 == " " }) {
            let node = try reader.node(text: String(part.dropFirst()))
            switch part.first {
            case "v": steps.append(.addVoter(node))
            case "l": steps.append(.addLearner(node))
            case "r": steps.append(.remove(node))
            default: throw reader.error(.badArgument, "a change is like v4, l5 or r1, not \"\(part)\"")
            }
        }
        if isSingle, steps.count != 1 { throw reader.error(.badArgument, "v1=true takes one change") }
        switch reader.step.option("transition") {
        case nil, "auto": return MembershipChange(steps, transition: .auto)
        case "implicit": return MembershipChange(steps, transition: .implicit)
        case "explicit": return MembershipChange(steps, transition: .explicit)
        case .some(let other): throw reader.error(.badArgument, "unknown transition \"\(other)\"")
        }
    }

    // MARK: - Work

    private mutating func work(_ reader: ScenarioReader) throws -> [String] {
        var places = try reader.step.words.map { try self.place($0, reader) }
        if reader.step.command == .stabilize {
            if places.isEmpty { places = Array(self.nodes.indices) }
            return self.stabilize(places) ? [] : ["does not settle"]
        }
        var failures: [String] = []
        for place in places {
            let id = self.nodes[place].id
            switch reader.step.command {
            case .processReady: _ = self.processReady(place)
            case .processAppend: if !self.processAppend(place) { failures.append("\(id) has no append work") }
            default: if !self.processApply(place) { failures.append("\(id) has no apply work") }
            }
        }
        return failures
    }

    // MARK: - Messages

    private mutating func messages(_ reader: ScenarioReader) throws -> [String] {
        var filter = try reader.filter()
        var flights: [Flight] = []
        switch reader.step.command {
        case .deliver:
            // Messages to nodes that do not exist yet stay in flight.
            let existing = Set(self.nodes.map(\.id))
            filter.to = filter.to?.intersection(existing) ?? existing
            flights = self.takeOut(filter)
            for flight in flights { self.receive(flight) }
        case .drop: flights = self.takeOut(filter)
        case .dup:
            flights = self.matching(filter)
            guard self.inFlight.count + flights.count <= ScenarioLimits.inFlightMax else {
                return ["too many messages"]
            }
            self.inFlight.append(contentsOf: flights)
        case .hold:
            flights = self.takeOut(filter)
            self.keep(flights, name: try reader.text("name"))
        case .holdCopy:
            flights = self.matching(filter)
            self.keep(flights, name: try reader.text("name"))
        default:
            let name = try reader.text("name")
            guard let place = self.held.firstIndex(where: { $0.name == name }) else {
                return ["nothing is held under \"\(name)\""]
            }
            flights = self.held.remove(at: place).flights
            for flight in flights { self.receive(flight) }
        }
        return flights.isEmpty ? ["nothing matches"] : []
    }

    private mutating func keep(_ flights: [Flight], name: String) {
        if let place = self.held.firstIndex(where: { $0.name == name }) {
            self.held[place].flights.append(contentsOf: flights)
        } else {
            self.held.append(Held(name: name, flights: flights))
        }
    }

    private mutating func cut(_ reader: ScenarioReader) throws {
        switch reader.step.command {
        case .isolate:
            let ids = try reader.step.words.map { self.nodes[try self.place($0, reader)].id }
            for id in ids {
                for other in 1...UInt64(ScenarioLimits.nodesMax) where NodeID(other) != id {
                    self.cuts.insert(Cut(from: id, to: NodeID(other)))
                    self.cuts.insert(Cut(from: NodeID(other), to: id))
                }
            }
        case .block:
            guard let froms = try reader.nodes("from"), let tos = try reader.nodes("to") else { return }
            for from in froms {
                for to in tos { self.cuts.insert(Cut(from: from, to: to)) }
            }
        default: self.cuts = []
        }
    }

    // MARK: - Reports and reads

    private mutating func report(_ reader: ScenarioReader) throws -> [String] {
        let words = reader.step.words
        switch reader.step.command {
        case .sendSnapshot:
            return self.sendSnapshot(
                from: try self.place(option: "from", reader),
                to: try reader.node(text: try reader.text("to"))
            )
        case .reportUnreachable:
            let place = try self.place(words[0], reader)
            self.nodes[place].core.unreachable(try reader.node(text: words[1]))
        case .reportSnapshot:
            let place = try self.place(words[0], reader)
            let isGood: Bool
            switch reader.step.option("status") {
            case "finish", "finished", "ok", "succeeded", "success", "true": isGood = true
            case "failure", "fail", "failed", "false": isGood = false
            default: throw reader.error(.badArgument, "status is finish or failure")
            }
            self.nodes[place].core.snapshotReport(to: try reader.node(text: words[1]), succeeded: isGood)
        default:
            let place = try self.place(words[0], reader)
            let read = Read(node: self.nodes[place].id, context: words[1], least: self.safety.commitMax)
            self.reads.append(read)
            self.nodes[place].core.readIndex(token: UInt64(self.reads.count))
        }
        return []
    }

    /// Puts the newest state of a node in flight, whatever its core thinks of the receiver.
    private mutating func sendSnapshot(from place: Int, to target: NodeID) -> [String] {
        let node = self.nodes[place]
        let version = node.machine.newest
        let session = node.core.membership.session(of: target) ?? .zero
        let offer = RaftMessage.SnapshotOffer(session: session, beat: 0, mark: version.mark)
        let message = RaftMessage(from: node.id, to: target, term: node.core.term, body: .snapshot(offer))
        self.inFlight.append(Flight(message, content: version))
        return []
    }
}
