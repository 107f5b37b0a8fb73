internal import Consensus
internal import Primitives
internal import Shards

/// A snapshot on its way from a leader to a replica: asked for, sent chunk by chunk over a network that loses, and
/// installed; cut short by anything, it begins again with what has been staged.
final class SnapshotFetch {
    private unowned let process: SimProcess
    private let group: GroupID
    private let leader: NodeID
    private let installer: GroupSnapshotInstaller
    private var isOver = false
    private var chunks = 0

    private var node: SimNode { self.process.node }
    private var world: World { self.process.world }

    init(_ process: SimProcess, group: GroupID, leader: NodeID) throws {
        self.process = process
        self.group = group
        self.leader = leader
        self.installer = try process.applier.snapshotInstaller(of: group)
    }

    func begin() {
        let request = self.installer.request
        if (try? self.process.applier.isInstalling(self.group)) == true { self.world.coverage[.snapshotsResumed] += 1 }
        let bytes = request.encoded()
        self.travel(from: self.node.id, to: self.leader) { [self] in
            guard let source = self.world.node(self.leader) else { return self.cut("the leader is gone") }
            guard source.isRunning, let process = source.process else { return self.cut("the leader is down") }
            do {
                let request = try SnapshotRequest(bytes: bytes)
                guard let replica = process.loop.replica(of: self.group) else { return self.cut("the leader left") }
                let snapshot = try process.applier.snapshotSource(
                    of: self.group,
                    for: request,
                    membership: replica.appliedMark.membership
                )
                self.send(snapshot, at: .start, life: source.life)
            } catch {
                self.cut("no snapshot: \(error)")
                self.sourceFailed(error)
            }
        }
    }

    /// The next chunk leaves the leader.
    private func send(_ source: GroupSnapshotSource, at cursor: SnapshotCursor, life: Int) {
        guard let leader = self.world.node(self.leader), leader.life == life, leader.isRunning else {
            return self.cut("the leader stopped in mid-stream")
        }
        do {
            let (bytes, next) = try source.chunk(at: cursor)
            self.travel(from: self.leader, to: self.node.id) { [self] in
                self.take(bytes) { [self] in
                    if let next { self.send(source, at: next, life: life) } else { self.finish() }
                }
            }
        } catch {
            self.cut("a chunk could not be read: \(error)")
            self.sourceFailed(error)
        }
    }

    /// The leader cannot read what it should send and says so: its operator takes a node with a damaged disk away.
    private func sourceFailed(_ error: any Error) {
        guard let leader = self.world.node(self.leader), leader.isDamaged, SimNode.isDamage(error) else { return }
        leader.process?.fail(error)
    }

    /// A chunk arrives, perhaps damaged on its way.
    private func take(_ bytes: [UInt8], _ goOn: () -> Void) {
        var bytes = bytes
        self.chunks += 1
        let isDamaged = !bytes.isEmpty && self.world.isChunkDamaged(&bytes)
        do {
            try self.installer.accept(bytes)
        } catch {
            if isDamaged { self.world.coverage[.chunksDamaged] += 1 }
            return self.refused(error)
        }
        if isDamaged { self.world.violate("node \(self.node.id) took a damaged chunk of group \(self.group)") }
        goOn()
    }

    private func finish() {
        let mark: SnapshotMark
        do { mark = try self.installer.seal() } catch { return self.refused(error) }
        self.node.after(self.node.dice.draw(self.world.plan.applyTime)) { [self] process in
            guard !self.isOver, process === self.process, !process.hasFailed else { return }
            guard let replica = process.loop.replica(of: self.group) else { return self.cut("the replica is gone") }
            let installer = OneThread(value: self.installer)
            if let error = replica.install(mark, { try installer.value.switchState() }) {
                // As a node does it: only a store that fails ends the process.
                let isStorage = (error.cause as? SnapshotError).map { $0.code == .storage } ?? (error.code == .failed)
                if isStorage { return process.fail(error) }
                return self.cut("\(error)")
            }
            self.isOver = true
            process.fetches[self.group] = nil
            self.world.note(.install, self.node.id, mark.index.rawValue, "group \(self.group) at \(mark.index)")
            self.world.invariants.installs(mark, group: self.group, node: self.node.id)
            process.checkLedgers([self.group])
            process.input { $0.orders.append(.installed(replica, mark)) }
            self.report(true)
        }
    }

    /// Whoever refuses a chunk asks again; only a disk that fails ends the process.
    private func refused(_ error: any Error) {
        guard let found = error as? SnapshotError else { return self.process.fail(error) }
        switch found.code {
        case .storage: self.process.fail(error)
        case .fork, .mismatch: self.world.violate("node \(self.node.id), group \(self.group): \(error)")
        default: self.cut("\(error)")
        }
    }

    /// The way from one node to another; a loss ends the stream.
    private func travel(from: NodeID, to: NodeID, _ arrive: @escaping () -> Void) {
        let isLost = self.world.network.isCut(from, to) || self.world.network.losesNow()
        self.node.after(self.world.network.drawLatency()) { [self] process in
            guard !self.isOver, process === self.process, !process.hasFailed else { return }
            if isLost || self.world.network.isCut(from, to) { self.cut("the stream broke") } else { arrive() }
        }
    }

    private func cut(_ reason: String) {
        guard !self.isOver else { return }
        self.isOver = true
        self.process.fetches[self.group] = nil
        self.world.coverage[.snapshotsFailed] += 1
        self.world.note(.install, self.node.id, 0, "group \(self.group): \(reason)")
        self.process.input { $0.orders.append(.installFailed(self.group)) }
        self.report(false)
    }

    private func report(_ hasSucceeded: Bool) {
        let group = self.group
        let follower = self.node.id
        guard let leader = self.world.node(self.leader), !self.world.network.losesNow() else { return }
        leader.after(self.world.network.drawLatency()) { process in
            process.input { $0.orders.append(.snapshotReport(group, to: follower, succeeded: hasSucceeded)) }
        }
    }
}
