internal import Synchronization

/// The twin of ``DiskLogFiles`` in memory, which fails when told to and can lose power: for tests and the simulator.
///
/// A power failure keeps what was synced; of what was written since, any sectors may have reached the disk, in any
/// order. A sync that fails without effect gives up: as with Linux's page cache, programs go on reading what was
/// written, but no later sync brings it to the disk unless it is written again. Names are durable at once, but a file
/// that was removed may come back until the directory is synced, which making or renaming a file does. Safe from any
/// thread.
package final class SimulatedLogFiles: LogFiles {
    /// Bytes that reach the disk as a whole or not at all.
    package static let sectorBytes = 512

    fileprivate struct File: Sendable {
        /// As the programs see it.
        var bytes: [UInt8]
        /// As the disk has it, in the sectors that were written since the last sync; the others are as in `bytes`.
        var unsynced: [Int: [UInt8]] = [:]
        /// Unsynced sectors that no sync brings to the disk unless they are written again.
        var givenUp: Set<Int> = []
        /// Damaged parts: reads that touch one fail.
        var unreadable: Set<Int> = []

        func sector(_ number: Int) -> Range<Int> {
            let start = number * SimulatedLogFiles.sectorBytes
            return start..<min(start + SimulatedLogFiles.sectorBytes, self.bytes.count)
        }

        mutating func sync(succeeds: Bool) {
            if succeeds {
                let givenUp = self.givenUp
                self.unsynced = self.unsynced.filter { givenUp.contains($0.key) }
            } else {
                self.givenUp.formUnion(self.unsynced.keys)
            }
        }
    }

    fileprivate struct State: Sendable {
        /// By a number that stays when a file is renamed.
        var files: [Int: File] = [:]
        var names: [String: Int] = [:]
        var nextNumber = 0
        /// Files whose removal a power failure may undo.
        var removed: [String: Int] = [:]
        var plan = FaultPlan()
        var isGone = false
        var capacityBytes = Int.max

        func check() throws(StorageError) {
            if self.isGone { throw StorageError(code: .closed, message: "the files are not open any more") }
        }

        /// Counts a call; throws when its turn to fail has come.
        mutating func begin(_ operation: StoreOperation) throws(StorageError) {
            try self.check()
            if let fault = self.plan.next(operation), !fault.hasEffect { throw Self.error(fault) }
        }

        static func error(_ fault: StoreFault) -> StorageError {
            StorageError(code: fault.code, message: "injected failure of a \(fault.operation.rawValue)")
        }
    }

    fileprivate let state: Mutex<State>

    /// An empty directory.
    package init() { self.state = Mutex(State()) }

    private init(_ state: State) { self.state = Mutex(state) }

    // MARK: Faults

    /// Makes a write, sync or read to come fail (of any file).
    package func arm(_ fault: StoreFault) { self.state.withLock { $0.plan.arm(fault) } }

    package func disarm() { self.state.withLock { $0.plan.disarm() } }

    package func count(of operation: StoreOperation) -> Int { self.state.withLock { $0.plan.count(of: operation) } }

    /// Room for all files; making one beyond it throws `.full`.
    package func limit(capacityBytes: Int) { self.state.withLock { $0.capacityBytes = capacityBytes } }

    /// Loses power; every later call throws `.closed`.
    /// - Parameters:
    ///   - keeps: Says of each sector that was written and not synced whether it reached the disk; asked in a fixed
    ///     order.
    ///   - returns: Says of each file whose removal was not synced whether it is back; asked in a fixed order.
    /// - Returns: What a restarted node finds, with no faults.
    package func crash(
        keeping keeps: (_ name: String, _ sector: Int) -> Bool = { _, _ in false },
        returning returns: (_ name: String) -> Bool = { _ in false }
    ) -> SimulatedLogFiles {
        self.state.withLock { state in
            state.isGone = true
            var after = State()
            var names = state.names
            for name in state.removed.keys.sorted() where names[name] == nil && returns(name) {
                names[name] = state.removed[name]
            }
            for name in names.keys.sorted() {
                guard let number = names[name], var file = state.files[number] else { continue }
                for sector in file.unsynced.keys.sorted() where !keeps(name, sector) {
                    guard let old = file.unsynced[sector] else { continue }
                    file.bytes.replaceSubrange(file.sector(sector), with: old)
                }
                file.unsynced = [:]
                file.givenUp = []
                after.files[after.nextNumber] = file
                after.names[name] = after.nextNumber
                after.nextNumber += 1
            }
            return SimulatedLogFiles(after)
        }
    }

    /// Ends the process alone: everything that was written is there, and a later power failure may still take what was
    /// not synced; every later call throws `.closed`.
    /// - Returns: What a restarted node finds, with no faults.
    package func restart() -> SimulatedLogFiles {
        self.state.withLock { state in
            var after = state
            state.isGone = true
            after.isGone = false
            after.plan = FaultPlan()
            after.capacityBytes = Int.max
            return SimulatedLogFiles(after)
        }
    }

    /// Sectors that a power failure could take.
    package var unsyncedSectors: Int {
        self.state.withLock { state in
            state.names.values.reduce(0) { $0 + (state.files[$1]?.unsynced.count ?? 0) }
        }
    }

    /// Changes one bit of a file at rest.
    /// - Returns: False when the file is absent or shorter.
    @discardableResult
    package func flipBit(_ bit: Int, of name: String) -> Bool {
        self.state.withLock { state in
            guard let number = state.names[name], let count = state.files[number]?.bytes.count, bit / 8 < count else {
                return false
            }
            state.files[number]?.bytes[bit / 8] ^= 1 << UInt8(bit % 8)
            return true
        }
    }

    /// Makes every read that touches the byte fail.
    package func makeUnreadable(_ offset: Int, of name: String) {
        self.state.withLock { state in
            guard let number = state.names[name] else { return }
            state.files[number]?.unreadable.insert(offset)
        }
    }

    /// Takes a file away, as a careless operator does.
    package func lose(_ name: String) { self.state.withLock { $0.names[name] = nil } }

    /// The bytes of a file as programs see them; nil when it is absent.
    package func contents(of name: String) -> [UInt8]? {
        self.state.withLock { state in state.names[name].flatMap { state.files[$0]?.bytes } }
    }

    // MARK: Files

    package func names() throws(StorageError) -> [String] {
        try self.state.withLock { (state) throws(StorageError) in
            try state.check()
            return state.names.keys.sorted()
        }
    }

    package func open(_ name: String) throws(StorageError) -> any LogFile {
        try self.state.withLock { (state) throws(StorageError) in
            try state.check()
            guard let number = state.names[name], let file = state.files[number] else {
                throw StorageError(code: .io, message: "could not open \(name): no such file")
            }
            return SimulatedLogFile(files: self, number: number, sizeBytes: file.bytes.count)
        }
    }

    package func create(_ name: String, sizeBytes: Int, isFilled: Bool) throws(StorageError) -> any LogFile {
        try self.state.withLock { (state) throws(StorageError) in
            try state.check()
            guard state.names[name] == nil else {
                throw StorageError(code: .io, message: "could not create \(name): it exists")
            }
            let used = state.names.values.reduce(0) { $0 + (state.files[$1]?.bytes.count ?? 0) }
            guard used + sizeBytes <= state.capacityBytes else {
                throw StorageError(code: .full, message: "could not create \(name): no room")
            }
            let number = state.nextNumber
            state.nextNumber += 1
            state.files[number] = File(bytes: [UInt8](repeating: 0, count: sizeBytes))
            state.names[name] = number
            state.removed = [:]
            return SimulatedLogFile(files: self, number: number, sizeBytes: sizeBytes)
        }
    }

    package func rename(_ name: String, to other: String) throws(StorageError) {
        try self.state.withLock { (state) throws(StorageError) in
            try state.check()
            guard let number = state.names[name], state.names[other] == nil else {
                throw StorageError(code: .io, message: "could not rename \(name) to \(other)")
            }
            state.names[name] = nil
            state.names[other] = number
            state.removed = [:]
        }
    }

    package func remove(_ name: String) throws(StorageError) {
        try self.state.withLock { (state) throws(StorageError) in
            try state.check()
            guard let number = state.names[name] else {
                throw StorageError(code: .io, message: "could not remove \(name): no such file")
            }
            state.names[name] = nil
            state.removed[name] = number
        }
    }

    package func close() { self.state.withLock { $0.isGone = true } }
}

private struct SimulatedLogFile: LogFile {
    let files: SimulatedLogFiles
    let number: Int
    let sizeBytes: Int

    func write(_ bytes: [UInt8], at offset: Int) throws(StorageError) {
        try self.files.state.withLock { (state) throws(StorageError) in
            try state.check()
            let fault = state.plan.next(.write)
            if let fault, !fault.hasEffect { throw SimulatedLogFiles.State.error(fault) }
            guard var file = state.files[self.number], offset + bytes.count <= file.bytes.count else {
                throw StorageError(code: .full, message: "a write beyond the end of a file")
            }
            if !bytes.isEmpty {
                let sectorBytes = SimulatedLogFiles.sectorBytes
                for sector in offset / sectorBytes...(offset + bytes.count - 1) / sectorBytes {
                    file.givenUp.remove(sector)
                    guard file.unsynced[sector] == nil else { continue }
                    file.unsynced[sector] = Array(file.bytes[file.sector(sector)])
                }
                state.files[self.number] = nil
                file.bytes.replaceSubrange(offset..<offset + bytes.count, with: bytes)
                state.files[self.number] = file
            }
            if let fault { throw SimulatedLogFiles.State.error(fault) }
        }
    }

    func read(at offset: Int, count: Int) throws(StorageError) -> [UInt8] {
        try self.files.state.withLock { (state) throws(StorageError) in
            try state.begin(.read)
            guard let file = state.files[self.number] else { return [] }
            let range = min(offset, file.bytes.count)..<min(offset + max(count, 0), file.bytes.count)
            if file.unreadable.contains(where: { range.contains($0) }) {
                throw StorageError(code: .io, message: "injected failure of a read")
            }
            return Array(file.bytes[range])
        }
    }

    func sync() throws(StorageError) {
        try self.files.state.withLock { (state) throws(StorageError) in
            try state.check()
            let fault = state.plan.next(.sync)
            state.files[self.number]?.sync(succeeds: fault?.hasEffect ?? true)
            if let fault { throw SimulatedLogFiles.State.error(fault) }
        }
    }
}
