internal import Storage

/// The directory of a node's Raft logs on its simulated disk; it outlives the node's crashes.
///
/// It sees every call, and any of them may be the one that fails: so a node is made to end at every point at which its
/// log touches the disk, those of the recovery at the start included.
final class SimLogFiles: LogFiles, @unchecked Sendable {  // sendable-ok: the simulation has one thread
    /// What a log asks of its disk.
    enum Call: String, CaseIterable {
        case names, open, create, rename, remove, write, read, sync
    }

    /// A failure to come.
    struct Trap {
        /// The calls that it meets.
        var calls = Call.allCases
        /// How many of them go well before.
        var callsBefore = 0
        var code = StorageError.Code.io
        /// A call that changes something has done it all the same, perhaps only in part, when it fails.
        var hasEffect = false
    }

    /// What a crash left of the sectors that were not synced.
    struct Outcome {
        var kept = 0
        var lost = 0
        /// Removed files that are back.
        var filesBack = 0
    }

    private(set) var files = SimulatedLogFiles()
    private var trap: Trap?
    /// What failed in the present life.
    private(set) var failed: Call?
    /// No file can be made.
    var isFull = false
    /// Files of the present life, by their names of now.
    private var handles: [String: SimLogFile] = [:]
    /// The last write of which a sync returned, and all since: damage there cannot be told from a torn write.
    private var tail: [(name: String, bytes: Range<Int>)] = []
    /// Calls that went well or not, in all lives.
    private(set) var counts: [Call: Int] = [:]
    /// Emptied files that were given a new name, to be used again.
    private(set) var recycled = 0

    func set(_ trap: Trap) { self.trap = trap }

    func disarm() {
        self.trap = nil
        self.isFull = false
    }

    /// Whether the process may end in this life because of its log's disk.
    var mayFail: Bool { self.trap != nil || self.failed != nil || self.isFull }

    /// Whether a call fails now, and whether it has its effect all the same.
    fileprivate func begin(_ call: Call) -> (error: StorageError, hasEffect: Bool)? {
        self.counts[call, default: 0] += 1
        if self.isFull, call == .create {
            self.failed = call
            return (StorageError(code: .full, message: "the simulated disk is full"), false)
        }
        guard var trap = self.trap, trap.calls.contains(call) else { return nil }
        guard trap.callsBefore == 0 else {
            trap.callsBefore -= 1
            self.trap = trap
            return nil
        }
        self.trap = nil
        self.failed = call
        return (StorageError(code: trap.code, message: "planned failure of a \(call.rawValue)"), trap.hasEffect)
    }

    /// Gives one call its turn to fail.
    private func call<Value>(_ call: Call, _ body: () throws(StorageError) -> Value) throws(StorageError) -> Value {
        guard let (error, hasEffect) = self.begin(call) else { return try body() }
        if hasEffect { _ = try body() }
        throw error
    }

    // MARK: - Crashes and damage

    /// Ends the process alone: the system still has everything that was written.
    func endProcess() {
        self.files = self.files.restart()
        self.beginLife()
    }

    /// Loses power: of what was not synced chance decides what is there.
    func losePower(_ dice: inout Dice) -> Outcome {
        var outcome = Outcome()
        let share = dice.pick([0, 0, 50, 80, 100])
        var chance = dice.split()
        self.files = self.files.crash { _, _ in
            let isKept = chance.chance(share)
            if isKept { outcome.kept += 1 } else { outcome.lost += 1 }
            return isKept
        } returning: { _ in
            let isBack = dice.chance(50)
            if isBack { outcome.filesBack += 1 }
            return isBack
        }
        self.beginLife()
        return outcome
    }

    private func beginLife() {
        self.trap = nil
        self.failed = nil
        self.handles = [:]
    }

    /// Changes a bit of what was synced and is not the last that was.
    ///
    /// Of the last batch nobody can tell whether it was damaged or never finished; what a node then forgets is more than
    /// any other node can make good.
    /// - Returns: What was changed, or nil when there is nothing.
    func flipBit(_ dice: inout Dice) -> String? {
        guard let names = try? self.files.names(), !names.isEmpty else { return nil }
        let name = dice.pick(names)
        guard let sizeBytes = self.files.contents(of: name)?.count, sizeBytes > 0 else { return nil }
        let used = self.handles[name]?.usedBytes ?? sizeBytes
        let bit = dice.roll(max(1, min(used, sizeBytes)) * 8)
        guard !self.tail.contains(where: { $0.name == name && $0.bytes.contains(bit / 8) }) else { return nil }
        return self.files.flipBit(bit, of: name) ? "\(name) at \(bit / 8)" : nil
    }

    // MARK: - Files

    func names() throws(StorageError) -> [String] {
        try self.call(.names) { () throws(StorageError) in try self.files.names() }
    }

    func open(_ name: String) throws(StorageError) -> any LogFile {
        try self.call(.open) { () throws(StorageError) in self.handle(name, try self.files.open(name)) }
    }

    func create(_ name: String, sizeBytes: Int, isFilled: Bool) throws(StorageError) -> any LogFile {
        try self.call(.create) { () throws(StorageError) in
            self.handle(name, try self.files.create(name, sizeBytes: sizeBytes, isFilled: isFilled))
        }
    }

    private func handle(_ name: String, _ file: any LogFile) -> SimLogFile {
        let handle = SimLogFile(name: name, file: file, directory: self)
        self.handles[name] = handle
        return handle
    }

    func rename(_ name: String, to other: String) throws(StorageError) {
        try self.call(.rename) { () throws(StorageError) in
            try self.files.rename(name, to: other)
            // A file that was made ahead has no number yet.
            if name.first?.isNumber == true { self.recycled += 1 }
            guard let handle = self.handles.removeValue(forKey: name) else { return }
            handle.name = other
            handle.usedBytes = 0
            self.handles[other] = handle
        }
    }

    func remove(_ name: String) throws(StorageError) {
        try self.call(.remove) { () throws(StorageError) in
            try self.files.remove(name)
            self.handles[name] = nil
        }
    }

    func close() { self.files.close() }

    fileprivate func write(_ bytes: [UInt8], at offset: Int, to file: SimLogFile) throws(StorageError) {
        self.tail.append((file.name, offset..<offset + bytes.count))
        file.usedBytes = max(file.usedBytes, offset + bytes.count)
        file.hasWritten = true
        try self.call(.write) { () throws(StorageError) in try file.file.write(bytes, at: offset) }
    }

    fileprivate func sync(_ file: SimLogFile) throws(StorageError) {
        if let (error, hasEffect) = self.begin(.sync) {
            // As the disk's own failure: what was not written stays so.
            self.files.arm(StoreFault(.sync, code: error.code, hasEffect: hasEffect))
        }
        try file.file.sync()
        // A sync without a write of this life does not say which of the earlier writes was the last that is whole.
        if file.hasWritten, let last = self.tail.last { self.tail = [last] }
        file.hasWritten = false
    }

    fileprivate func read(_ file: SimLogFile, at offset: Int, count: Int) throws(StorageError) -> [UInt8] {
        try self.call(.read) { () throws(StorageError) in try file.file.read(at: offset, count: count) }
    }
}

/// An open file of a ``SimLogFiles``.
private final class SimLogFile: LogFile, @unchecked Sendable {  // sendable-ok: the simulation has one thread
    var name: String
    let file: any LogFile
    private unowned let directory: SimLogFiles
    /// Where the last of its writes ends.
    var usedBytes = 0
    var hasWritten = false

    init(name: String, file: any LogFile, directory: SimLogFiles) {
        self.name = name
        self.file = file
        self.directory = directory
    }

    var sizeBytes: Int { self.file.sizeBytes }

    func write(_ bytes: [UInt8], at offset: Int) throws(StorageError) {
        try self.directory.write(bytes, at: offset, to: self)
    }

    func read(at offset: Int, count: Int) throws(StorageError) -> [UInt8] {
        try self.directory.read(self, at: offset, count: count)
    }

    func sync() throws(StorageError) { try self.directory.sync(self) }
}
