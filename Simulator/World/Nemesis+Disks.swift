internal import Consensus
internal import Primitives
internal import Storage

// Disks that fail: the key-value store's and the log's.
extension Nemesis {
    private static let callsBeforeMax = 25

    /// Some call to come is the last of the process.
    func endAtIO() {
        if self.dice.chance(30) { self.failStore(code: .io) } else { self.trapLog() }
    }

    func failIO() {
        if self.dice.chance(50) { self.failStore(code: .io) } else { self.failLog() }
    }

    func fillDisk() {
        self.world.coverage[.diskFull] += 1
        if self.dice.chance(50) { self.failStore(code: .full) } else { self.fillLog() }
    }

    /// The n-th write, read or flush to come of the key-value store fails, and with it the node.
    private func failStore(code: StorageError.Code) {
        let node = self.anyNode
        guard node.process != nil else { return }
        node.isFailureExpected = true
        let operation = self.dice.pick([StoreOperation.write, .read, .flush, .snapshot])
        node.store.arm(
            StoreFault(operation, number: self.dice.draw(1...6), code: code, hasEffect: self.dice.chance(50))
        )
    }

    /// Some call to come of a log's disk is the last of the process; it may be one of the recovery.
    private func trapLog() {
        let node = self.anyNode
        let call = self.dice.pick(SimLogFiles.Call.allCases)
        let calls = self.dice.chance(50) ? [call] : SimLogFiles.Call.allCases
        let isRare = calls.count == 1 && call != .write && call != .sync && call != .read
        node.logFiles.set(
            SimLogFiles.Trap(
                calls: calls,
                callsBefore: isRare ? 0 : self.dice.roll(Self.callsBeforeMax),
                hasEffect: self.dice.chance(50)
            )
        )
    }

    /// A write, sync or read of the log fails soon.
    private func failLog() {
        let call = self.dice.pick([SimLogFiles.Call.write, .sync, .sync, .read])
        self.anyNode.logFiles.set(
            SimLogFiles.Trap(calls: [call], callsBefore: self.dice.roll(6), hasEffect: self.dice.chance(50))
        )
    }

    /// For a while there is no room for another file of the log.
    private func fillLog() {
        let node = self.anyNode
        node.logFiles.isFull = true
        self.world.after(self.dice.draw(100_000...600_000)) { node.logFiles.isFull = false }
    }
}
