/// What a power failure leaves of the writes that were not yet safe.
package struct CrashOutcome: Sendable, Hashable {
    /// Logged batches after the last sync that the disk had taken all the same: the oldest ones. More than there are
    /// means all of them.
    package var unsyncedKept: Int
    /// The atomic point to which a flush of the store's own had come: the first of the batches that
    /// ``FaultInjectingStore/unflushedCount`` counts, of either durability, which survive in any case.
    package var flushedThrough: Int

    package init(unsyncedKept: Int = 0, flushedThrough: Int = 0) {
        self.unsyncedKept = unsyncedKept
        self.flushedThrough = flushedThrough
    }

    /// An outcome by chance: often nothing beyond the promise, else any front parts.
    package init(unsynced: Int, unflushed: Int, using generator: inout some RandomNumberGenerator) {
        let isOwnFlush = generator.next() % 4 == 0
        self.unsyncedKept = generator.next() % 2 == 0 ? 0 : Int(generator.next() % UInt64(unsynced + 1))
        self.flushedThrough = isOwnFlush ? Int(generator.next() % UInt64(unflushed + 1)) : 0
    }
}

/// The writes of a ``FaultInjectingStore`` that are not in its base, oldest first.
///
/// Invariant: what is synced is a front part of the logged writes.
struct UnstoredWrites: Sendable {
    private struct Write: Sendable {
        var batch: WriteBatch
        let durability: WriteDurability
    }

    /// Batches after which the store flushes of its own accord, as one on disk does when its memory is full.
    static let countMax = 16_384

    private var writes: [Write] = []
    /// Writes at the front that a sync came after.
    private var syncedCount = 0

    var count: Int { self.writes.count }

    var unsyncedCount: Int {
        self.writes[self.syncedCount...].reduce(0) { $0 + ($1.durability == .logged ? 1 : 0) }
    }

    mutating func append(_ batch: WriteBatch, _ durability: WriteDurability) {
        self.writes.append(Write(batch: batch, durability: durability))
    }

    /// Marks every logged write as safe.
    /// - Returns: The batches that are now in order with everything safe, and leave this list.
    mutating func sync() -> [WriteBatch] {
        let front = self.writes.prefix { $0.durability == .logged }.count
        let batches = self.writes[..<front].map(\.batch)
        self.writes.removeFirst(front)
        self.syncedCount = self.writes.count
        return batches
    }

    mutating func takeAll() -> [WriteBatch] {
        defer { self = UnstoredWrites() }
        return self.writes.map(\.batch)
    }

    func survivors(of outcome: CrashOutcome) -> [WriteBatch] {
        var unsyncedLeft = max(outcome.unsyncedKept, 0)
        var survivors: [WriteBatch] = []
        for (place, write) in self.writes.enumerated() {
            if place < outcome.flushedThrough {
                survivors.append(write.batch)
                continue
            }
            guard write.durability == .logged else { continue }
            if place >= self.syncedCount {
                guard unsyncedLeft > 0 else { break }
                unsyncedLeft -= 1
            }
            survivors.append(write.batch)
        }
        return survivors
    }

    /// Changes the value in every put of `key`.
    mutating func replace(_ key: [UInt8], in family: ColumnFamily, by value: [UInt8]) {
        for place in self.writes.indices {
            self.writes[place].batch = self.writes[place].batch.replacing(key, in: family, by: value)
        }
    }
}

extension WriteBatch {
    /// The same batch with another value in every put of `key`.
    fileprivate func replacing(_ key: [UInt8], in family: ColumnFamily, by value: [UInt8]) -> WriteBatch {
        var isConcerned = false
        var batch = WriteBatch()
        for operation in self.operations {
            switch operation {
            case .put(family, key: key, value: _):
                isConcerned = true
                batch.put(family, key: key, value: value)
            case .put(let other, key: let otherKey, value: let otherValue):
                batch.put(other, key: otherKey, value: otherValue)
            case .delete(let other, key: let otherKey):
                batch.delete(other, key: otherKey)
            case .deleteRange(let other, let lower, let upper):
                batch.deleteRange(other, lower: lower, upper: upper)
            }
        }
        return isConcerned ? batch : self
    }
}
