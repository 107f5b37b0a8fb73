package import Primitives
internal import Storage
internal import Synchronization

// What callers ask for.
extension RaftHost {
    // MARK: - Commands

    /// Proposes `command` and returns the applier's result once it is committed and applied here.
    ///
    /// A cancelled caller gets `.outcomeUnknown` at once; the command may still take effect.
    /// - Throws: ``ProposalError``; its code says whether the command may have taken effect.
    package func propose(_ command: [UInt8], to group: GroupID) async throws(ProposalError) -> [UInt8] {
        let waiter = Waiter<[UInt8]>()
        self.propose(command, to: group, waiter)
        return try await waiter.value()
    }

    /// Proposes `command` and calls `answer` once: with the applier's result, on the group's lane, or with why there is
    /// none, on any thread, perhaps before the call returns. It must return soon.
    package func propose(
        _ command: [UInt8],
        to group: GroupID,
        answer: @escaping @Sendable (Result<[UInt8], ProposalError>) -> Void
    ) {
        self.propose(command, to: group, Waiter(answer))
    }

    private func propose(_ command: [UInt8], to group: GroupID, _ waiter: Waiter<[UInt8]>) {
        guard command.count <= self.configuration.commandBytesMax else {
            waiter.fail(.tooLarge, "a command of \(command.count) bytes is over \(self.configuration.commandBytesMax)")
            return
        }
        self.request(group, waiter) { inbox in
            let bytes = inbox.proposalBytes + command.count
            if bytes > self.configuration.uncommittedBytesMax, !inbox.proposals.isEmpty { return false }
            inbox.proposalBytes = bytes
            inbox.proposals.append(Inbox.Proposal(group: group, command: command, waiter: waiter))
            return true
        }
    }

    // MARK: - Reads

    /// Returns an index up to which a replica must have applied to serve a linearizable read that begins now.
    ///
    /// On any replica: a follower asks the leader. One round serves all reads that wait.
    /// - Throws: ``ProposalError``; a read has no effect, so every failure may be retried.
    /// - Source: Ongaro's thesis, section 6.4.
    package func readIndex(_ group: GroupID) async throws(ProposalError) -> LogIndex {
        try await self.read(group, waitsUntilApplied: false)
    }

    /// Returns when this node's state machine has everything that was acknowledged before the call: a read of it is
    /// then linearizable. The same as ``readIndex(_:)`` and ``waitUntilApplied(_:_:)``, with one change of threads.
    /// - Throws: ``ProposalError``; every failure may be retried.
    @discardableResult
    package func linearize(_ group: GroupID) async throws(ProposalError) -> LogIndex {
        try await self.read(group, waitsUntilApplied: true)
    }

    private func read(_ group: GroupID, waitsUntilApplied: Bool) async throws(ProposalError) -> LogIndex {
        let waiter = Waiter<LogIndex>()
        self.request(group, waiter) { inbox in
            inbox.reads.append(Inbox.Read(group: group, waitsUntilApplied: waitsUntilApplied, waiter: waiter))
            return true
        }
        return try await waiter.value()
    }

    /// Returns when the effects of all entries up to `index` are in this node's state machine.
    /// - Throws: ``ProposalError`` `.groupNotHosted`, `.overloaded`, `.stopped`, or `.outcomeUnknown` when cancelled.
    package func waitUntilApplied(_ group: GroupID, _ index: LogIndex) async throws(ProposalError) {
        guard let replica = self.replica(of: group) else { throw self.notHosted(group) }
        let waiter = Waiter<LogIndex>()
        replica.wait(for: index, waiter)
        _ = try await waiter.value()
    }

    // MARK: - Membership and leadership

    /// Proposes a change of the group's membership and returns the membership once the change is applied here.
    ///
    /// A change with several steps passes through a joint membership, which the leader leaves by itself unless the
    /// change says otherwise; the call returns when the first step is applied. Only the leader can.
    /// - Throws: ``ProposalError`` `.changePending`, `.refusedChange`, `.notLeader`, `.outcomeUnknown` and others.
    /// - Source: Raft section 6.
    package func changeMembership(
        _ group: GroupID,
        _ change: MembershipChange
    ) async throws(ProposalError) -> Membership {
        let waiter = Waiter<Membership>()
        self.order(group, waiter, .changeMembership(group, change, waiter))
        return try await waiter.value()
    }

    /// Hands leadership of `group` to `target` and returns when it leads; commands wait meanwhile.
    /// - Throws: ``ProposalError`` `.notTransferred` when it did not take over within an election timeout.
    package func transferLeadership(_ group: GroupID, to target: NodeID) async throws(ProposalError) {
        let waiter = Waiter<Void>()
        self.order(group, waiter, .transfer(group, to: target, waiter))
        try await waiter.value()
    }

    /// Hands every group that this node leads to a replica that lives, as before a planned stop.
    ///
    /// Commands that wait meanwhile are answered `.notLeader` with the new leader: surely not applied.
    /// - Returns: How many groups this node still leads, after at most three election timeouts.
    package func transferAllLeaderships() async -> Int {
        var left = 0
        let waiters = self.loops.map { _ in Waiter<Int>() }
        for (loop, waiter) in zip(self.loops, waiters) {
            loop.post { inbox in
                if inbox.isClosed {
                    waiter.answer(.success(0))
                } else {
                    inbox.orders.append(.transferAll(waiter))
                }
            }
        }
        for waiter in waiters { left += (try? await waiter.value()) ?? 0 }
        return left
    }

    /// Stands for election in `group` now; nothing comes of it while the others hear a leader.
    package func campaign(_ group: GroupID) { self.order(group, .campaign(group)) }

    /// Wakes a sleeping group.
    package func wake(_ group: GroupID) { self.order(group, .wake(group)) }

    // MARK: - Snapshots

    /// Switches the state machine of `group` to a snapshot that was fetched and checked, and the log with it.
    ///
    /// - Parameter switchState: Runs on the group's lane, between two turns: makes the state that of `mark` in one
    ///   atomic step that survives a power failure, and notes with it that it was installed (see ``AppliedState``).
    /// - Throws: ``ProposalError`` `.staleSnapshot` when the replica is at `mark` or after it (nothing was switched),
    ///   `.failed` with the cause when `switchState` threw, `.groupNotHosted`, `.stopped`.
    package func install(
        _ group: GroupID,
        _ mark: SnapshotMark,
        _ switchState: @escaping @Sendable () throws -> Void
    ) async throws(ProposalError) {
        guard let replica = self.replica(of: group) else { throw self.notHosted(group) }
        let waiter = Waiter<Void>()
        replica.lane.lane.enqueue {
            if let error = replica.install(mark, switchState) {
                self.order(group, .installFailed(group))
                waiter.answer(.failure(error))
                return
            }
            self.order(group, .installed(replica, mark))
            waiter.answer(.success(()))
        }
        try await waiter.value()
    }

    /// The snapshot that was offered could not be fetched or installed; a later offer may start another.
    package func installFailed(_ group: GroupID) { self.order(group, .installFailed(group)) }

    /// Tells the leader's replica here how the snapshot that `peer` fetched went.
    package func snapshotReport(_ group: GroupID, to peer: NodeID, succeeded: Bool) {
        self.order(group, .snapshotReport(group, to: peer, succeeded: succeeded))
    }

    /// Runs `body` on the lane of `group`, between two turns, and returns what it returns.
    /// - Throws: What `body` throws; ``ProposalError`` `.groupNotHosted`.
    package func withLane<Value: Sendable>(
        _ group: GroupID,
        _ body: @escaping @Sendable () throws -> Value
    ) async throws -> Value {
        guard let replica = self.replica(of: group) else { throw self.notHosted(group) }
        return try await replica.lane.lane.run(body)
    }

    // MARK: - Peers and time

    /// Takes messages of `peer`; never blocks. Drops them when too many bytes wait, as a network may.
    package func receive(_ messages: [HostMessage], from peer: NodeID) {
        if self.loops.count == 1 {
            self.receive(messages, from: peer, self.loops[0])
            return
        }
        var parts = Array(repeating: [HostMessage](), count: self.loops.count)
        for message in messages {
            switch message {
            case .raft(let item): parts[Int(item.group.rawValue) % parts.count].append(message)
            case .removed(let notice): parts[Int(notice.group.rawValue) % parts.count].append(message)
            case .beat:
                for place in parts.indices { parts[place].append(message) }
            }
        }
        for (place, part) in parts.enumerated() where !part.isEmpty {
            self.receive(part, from: peer, self.loops[place])
        }
    }

    private func receive(_ messages: [HostMessage], from peer: NodeID, _ loop: HostLoop) {
        var bytes = 0
        for message in messages { bytes += message.costBytes }
        loop.post { inbox in
            guard !inbox.isClosed, inbox.messageBytes + bytes <= self.configuration.inboxMessageBytesMax else { return }
            inbox.messageBytes += bytes
            inbox.messages.append((peer, messages))
        }
    }

    /// Messages to `peer` were lost, or its connection was: senders probe before they send more.
    package func unreachable(_ peer: NodeID) {
        for loop in self.loops {
            loop.post { inbox in
                if !inbox.unreachable.contains(peer) { inbox.unreachable.append(peer) }
            }
        }
    }

    /// Lets time pass; only with ``Ticks/manual``.
    package func tick(count: Int = 1) {
        guard case .manual = self.ticks else { preconditionFailure("ticks come from the clock") }
        for loop in self.loops { loop.post { $0.ticks += count } }
    }

    // MARK: - Parts

    private func notHosted(_ group: GroupID) -> ProposalError {
        ProposalError(code: .groupNotHosted, message: "node \(self.node) has no replica of group \(group)")
    }

    private func order(_ group: GroupID, _ order: Inbox.Order) {
        self.loop(of: group).post { inbox in
            if !inbox.isClosed { inbox.orders.append(order) }
        }
    }

    private func order<Value: Sendable>(_ group: GroupID, _ waiter: Waiter<Value>, _ order: Inbox.Order) {
        self.request(group, waiter) { inbox in
            inbox.orders.append(order)
            return true
        }
    }

    private enum Refusal {
        case closed
        case full
    }

    /// - Parameter add: Returns false to refuse for want of room.
    private func request<Value: Sendable>(
        _ group: GroupID,
        _ waiter: Waiter<Value>,
        _ add: (inout Inbox) -> Bool
    ) {
        var refusal: Refusal?
        self.loop(of: group).post { inbox in
            if inbox.isClosed {
                refusal = .closed
            } else if inbox.requestCount >= self.configuration.inboxRequestsMax || !add(&inbox) {
                refusal = .full
            }
        }
        switch refusal {
        case .closed: waiter.fail(.stopped, "the host has stopped", cause: self.failure)
        case .full: waiter.fail(.overloaded, "too many requests wait")
        case nil: break
        }
    }
}
