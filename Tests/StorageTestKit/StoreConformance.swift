internal import Foundation
internal import Storage

/// One promise of ``KeyValueStore``, as a check that throws ``ConformanceFailure``.
package struct StoreConformance: Sendable, CustomStringConvertible {
    package let promise: String
    private let body: @Sendable (StoreHarness, Check) throws -> Void

    package var description: String { self.promise }

    private init(_ promise: String, _ body: @escaping @Sendable (StoreHarness, Check) throws -> Void) {
        self.promise = promise
        self.body = body
    }

    package func run(_ harness: StoreHarness) throws {
        try self.body(harness, Check(self.promise))
    }

    /// Every promise but those of ``checkAgainstModel(_:seed:)``.
    package static let all: [StoreConformance] = [
        StoreConformance("a batch applies in order and as a whole", batches),
        StoreConformance("keys come in byte order", ordering),
        StoreConformance("scans keep within their bounds, in both directions", bounds),
        StoreConformance("a prefix scan visits the prefix alone", prefixes),
        StoreConformance("a scan stops when told, and tells what its visitor threw", stopping),
        StoreConformance("a range is deleted up to its end", deletedRanges),
        StoreConformance("an impossible batch is refused and changes nothing", impossibleBatches),
        StoreConformance("families are apart", families),
        StoreConformance("an empty value is a value", emptyValues),
        StoreConformance("many keys are got in their order", manyKeys),
        StoreConformance("a snapshot does not move", snapshots),
        StoreConformance("a visitor may write", visitorsThatWrite),
        StoreConformance("a checkpoint opens with what was there", checkpoints),
        StoreConformance("a checkpoint never overwrites", occupiedCheckpoints),
        StoreConformance("close and open keeps everything", reopening),
        StoreConformance("unlogged writes are read like others", unloggedReads),
        StoreConformance("what a flush took survives the end of the process", flushedWrites),
        StoreConformance("unlogged writes survive up to one moment, in all families", unloggedFronts),
        StoreConformance("a store that failed refuses writes", poisoning),
        StoreConformance("a closed store refuses everything", closing),
    ]
}

private func put(_ store: any KeyValueStore, _ family: ColumnFamily, _ entries: [([UInt8], [UInt8])]) throws {
    var batch = WriteBatch()
    for (key, value) in entries { batch.put(family, key: key, value: value) }
    try store.write(batch)
}

private func keys(_ entries: [StoreEntry]) -> [[UInt8]] { entries.map(\.key) }

private func batches(_ harness: StoreHarness, _ check: Check) throws {
    try harness.withStore { store, _ in
        var batch = WriteBatch()
        batch.put(.records, key: [1], value: [1])
        batch.put(.records, key: [1], value: [2])
        batch.put(.records, key: [2], value: [1])
        batch.delete(.records, key: [2])
        batch.delete(.records, key: [3])
        batch.put(.records, key: [3], value: [3])
        batch.deleteRange(.records, lower: [4], upper: [6])
        batch.put(.records, key: [5], value: [5])
        batch.put(.meta, key: [9], value: [9])
        try store.write(batch)
        try check.equal(try keys(store.entries(.records)), [[1], [3], [5]], "the keys left")
        try check.equal(try store.get([1], in: .records), [2], "the value put last")
        try check.equal(try store.get([9], in: .meta), [9], "the value in another family")
        try store.write(WriteBatch())
        try check.equal(try store.entries(.records).count, 3, "the count after an empty batch")
        try store.sync()
    }
}

private func ordering(_ harness: StoreHarness, _ check: Check) throws {
    let sorted: [[UInt8]] = [[], [0], [0, 0], [0, 255], [1], [1, 0], [127], [128], [128, 1], [255], [255, 255]]
    try harness.withStore { store, _ in
        for key in sorted.reversed() { try put(store, .groupState, [(key, key)]) }
        try check.equal(try keys(store.entries(.groupState)), sorted, "ascending keys")
        try check.equal(
            try keys(store.entries(.groupState, direction: .descending)),
            sorted.reversed(),
            "descending keys"
        )
        try store.flush()
        try check.equal(try keys(store.entries(.groupState)), sorted, "ascending keys after a flush")
    }
}

private func bounds(_ harness: StoreHarness, _ check: Check) throws {
    try harness.withStore { store, _ in
        try put(store, .forks, (1...9).map { ([$0], [$0]) })
        try check.equal(try keys(store.entries(.forks, from: [3], to: [6])), [[3], [4], [5]], "3..<6")
        try check.equal(
            try keys(store.entries(.forks, from: [3], to: [6], direction: .descending)),
            [[5], [4], [3]],
            "3..<6 descending"
        )
        try check.equal(try keys(store.entries(.forks, from: [8])), [[8], [9]], "8...")
        try check.equal(
            try keys(store.entries(.forks, from: [8], direction: .descending)),
            [[9], [8]],
            "8... descending"
        )
        try check.equal(try keys(store.entries(.forks, from: [2, 0], to: [3, 0])), [[3]], "between keys")
        try check.equal(try keys(store.entries(.forks, from: [5], to: [5])), [], "an empty range")
        try check.equal(try keys(store.entries(.forks, from: [6], to: [3])), [], "a range upside down")
        try check.equal(try keys(store.entries(.forks, from: [], to: [])), [], "nothing below the empty key")
        try check.equal(try keys(store.entries(.forks, from: [10])), [], "beyond the end")
        try check.equal(try keys(store.entries(.forks, to: [1])), [], "before the start")
    }
}

private func prefixes(_ harness: StoreHarness, _ check: Check) throws {
    try harness.withStore { store, _ in
        let all: [[UInt8]] = [[1], [1, 0], [1, 255], [1, 255, 255], [2], [255], [255, 255], [255, 255, 7]]
        try put(store, .treeNodes, all.map { ($0, []) })
        for prefix in [[], [1], [1, 255], [255], [255, 255], [3]] as [[UInt8]] {
            let wanted = all.filter { $0.starts(with: prefix) }
            for direction in [ScanDirection.ascending, .descending] {
                var found: [[UInt8]] = []
                try store.scan(.treeNodes, prefix: prefix, direction: direction) { key, _ in
                    found.append(key)
                    return true
                }
                let inOrder = direction == .ascending ? wanted : wanted.reversed()
                try check.equal(found, inOrder, "the keys that begin with \(prefix)")
            }
        }
    }
}

private func stopping(_ harness: StoreHarness, _ check: Check) throws {
    struct Refusal: Error {}
    try harness.withStore { store, _ in
        try put(store, .records, (1...9).map { ([$0], []) })
        var visited = 0
        try store.scan(.records, from: [], to: nil) { _, _ in
            visited += 1
            return visited < 4
        }
        try check.equal(visited, 4, "the visits until false")
        visited = 0
        do {
            try store.scan(.records, from: [], to: nil) { _, _ in
                visited += 1
                if visited == 2 { throw Refusal() }
                return true
            }
            throw ConformanceFailure(check.promise, "the visitor's error was lost")
        } catch let error as StorageError {
            try check.equal(error.code, .visitor, "the code")
            try check.holds(error.cause is Refusal, "the visitor's error is not the cause")
            try check.equal(visited, 2, "the visits until the error")
        }
    }
}

private func deletedRanges(_ harness: StoreHarness, _ check: Check) throws {
    try harness.withStore { store, _ in
        let count = 600
        var batch = WriteBatch()
        for number in 0..<count { batch.put(.forks, key: [UInt8(number >> 8), UInt8(number & 255)], value: [1]) }
        try store.write(batch)
        var deletion = WriteBatch()
        deletion.deleteRange(.forks, lower: [0, 10], upper: [2, 10])
        deletion.deleteRange(.forks, lower: [0, 5], upper: [0, 5])
        deletion.deleteRange(.forks, lower: [7], upper: [8])
        try store.write(deletion)
        try check.equal(try store.entries(.forks).count, count - 512, "the count left")
        try check.equal(try store.get([0, 9], in: .forks), [1], "the key before the range")
        try check.equal(try store.get([0, 10], in: .forks), nil, "the first key of the range")
        try check.equal(try store.get([2, 9], in: .forks), nil, "the last key of the range")
        try check.equal(try store.get([2, 10], in: .forks), [1], "the end of the range")
        try store.flush()
        try check.equal(try store.entries(.forks).count, count - 512, "the count after a flush")
    }
}

private func impossibleBatches(_ harness: StoreHarness, _ check: Check) throws {
    try harness.withStore { store, _ in
        var upsideDown = WriteBatch()
        upsideDown.put(.records, key: [1], value: [1])
        upsideDown.deleteRange(.records, lower: [6], upper: [3])
        var longKey = WriteBatch()
        longKey.put(.records, key: Array(repeating: 1, count: StorageLimits.keyBytesMax + 1), value: [])
        for batch in [upsideDown, longKey] {
            let code = try storageErrorCode { try store.write(batch) }
            try check.equal(code, .invalidArgument, "the answer")
        }
        try check.equal(try store.entries(.records), [], "what is stored")
        try put(store, .records, [([1], [1])])
        try check.equal(try store.get([1], in: .records), [1], "a write after the refusal")
    }
}

private func families(_ harness: StoreHarness, _ check: Check) throws {
    try harness.withStore { store, _ in
        for (number, family) in ColumnFamily.allCases.enumerated() { try put(store, family, [([1], [UInt8(number)])]) }
        var deletion = WriteBatch()
        deletion.deleteRange(.meta, lower: [], upper: [255])
        try store.write(deletion)
        for (number, family) in ColumnFamily.allCases.enumerated() {
            let wanted: [UInt8]? = family == .meta ? nil : [UInt8(number)]
            try check.equal(try store.get([1], in: family), wanted, "the value in \(family.rawValue)")
        }
    }
}

private func emptyValues(_ harness: StoreHarness, _ check: Check) throws {
    try harness.withStore { store, _ in
        try put(store, .meta, [([1], []), ([], [7])])
        try check.equal(try store.get([1], in: .meta), [], "the empty value")
        try check.equal(try store.get([2], in: .meta), nil, "an absent key")
        try check.equal(try store.get([], in: .meta), [7], "the value of the empty key")
        try check.equal(try store.get([[1], [2], []], in: .meta), [[], nil, [7]], "all three at once")
        try store.flush()
        try check.equal(try store.get([1], in: .meta), [], "the empty value after a flush")
    }
}

private func manyKeys(_ harness: StoreHarness, _ check: Check) throws {
    try harness.withStore { store, _ in
        var batch = WriteBatch()
        for number in UInt16(0)..<1000 where number % 3 != 0 {
            batch.put(.idempotency, key: [UInt8(number >> 8), UInt8(number & 255)], value: [UInt8(number & 255)])
        }
        try store.write(batch)
        let asked = (UInt16(0)..<1000).reversed().map { [UInt8($0 >> 8), UInt8($0 & 255)] }
        let wanted: [[UInt8]?] = (UInt16(0)..<1000).reversed().map { $0 % 3 == 0 ? nil : [UInt8($0 & 255)] }
        try check.equal(try store.get(asked, in: .idempotency), wanted, "the values")
        try check.equal(try store.get([[UInt8]](), in: .idempotency), [], "the values of no keys")
        try check.equal(try store.get([[0, 1]], in: .idempotency), [[1]], "the values of one key")
        try check.equal(try store.get([[0, 1], [0, 1]], in: .idempotency), [[1], [1]], "the values of a key twice")
    }
}

private func snapshots(_ harness: StoreHarness, _ check: Check) throws {
    try harness.withStore { store, _ in
        try put(store, .records, (1...3).map { ([$0], [$0]) })
        let snapshot = try store.snapshot()
        var batch = WriteBatch()
        batch.put(.records, key: [1], value: [9])
        batch.delete(.records, key: [2])
        batch.put(.records, key: [4], value: [4])
        batch.put(.meta, key: [1], value: [1])
        try store.write(batch)
        try store.flush()
        try check.equal(try snapshot.get([1], in: .records), [1], "the snapshot's old value")
        try check.equal(try snapshot.get([1], in: .meta), nil, "the snapshot's other family")
        try check.equal(try snapshot.get([[2], [4]], in: .records), [[2], nil], "the snapshot's values")
        try check.equal(try keys(snapshot.entries(.records)), [[1], [2], [3]], "the snapshot's keys")
        try check.equal(
            try keys(snapshot.entries(.records, from: [2], direction: .descending)),
            [[3], [2]],
            "the snapshot's keys, descending"
        )
        try check.equal(try keys(store.entries(.records)), [[1], [3], [4]], "the store's keys")
        try check.equal(try store.get([1], in: .records), [9], "the store's new value")
    }
}

private func visitorsThatWrite(_ harness: StoreHarness, _ check: Check) throws {
    try harness.withStore { store, _ in
        try put(store, .records, (1...5).map { ([$0], [$0]) })
        try store.scan(.records, from: [], to: nil) { key, value in
            try put(store, .treeNodes, [(key, value)])
            return try store.get(key, in: .treeNodes) == value
        }
        try check.equal(try store.entries(.treeNodes), try store.entries(.records), "what the visitor wrote")
    }
}

private func checkpoints(_ harness: StoreHarness, _ check: Check) throws {
    try harness.withStore { store, directory in
        try put(store, .records, (0...255).map { ([$0, 1], [$0, $0]) })
        try put(store, .meta, [([], []), ([1], [])])
        try store.flush()
        try put(store, .ledgerHeads, [([1], [2])])
        let path = directory + "/checkpoint"
        try store.checkpoint(to: path)
        try put(store, .records, [([0, 1], [42])])
        let copy = try harness.openCheckpoint(path)
        defer { try? copy.close() }
        try check.equal(try copy.entries(.records).count, 256, "the count of records")
        try check.equal(try copy.get([0, 1], in: .records), [0, 0], "a value changed later")
        try check.equal(try copy.get([7, 1], in: .records), [7, 7], "a value")
        try check.equal(try keys(copy.entries(.meta)), [[], [1]], "the keys of meta")
        try check.equal(try copy.get([1], in: .ledgerHeads), [2], "a value that was not flushed")
        try put(copy, .records, [([1, 1], [43])])
        try check.equal(try store.get([1, 1], in: .records), [1, 1], "the store after a write to the copy")
    }
}

private func occupiedCheckpoints(_ harness: StoreHarness, _ check: Check) throws {
    try harness.withStore { store, directory in
        try put(store, .records, [([1], [1])])
        let path = directory + "/checkpoint"
        try store.checkpoint(to: path)
        try put(store, .records, [([1], [2])])
        try check.equal(try storageErrorCode { try store.checkpoint(to: path) }, .invalidArgument, "the answer")
        let copy = try harness.openCheckpoint(path)
        defer { try? copy.close() }
        try check.equal(try copy.get([1], in: .records), [1], "the first checkpoint")
        try put(store, .records, [([1], [3])])
        try check.equal(try store.get([1], in: .records), [3], "a write after the refusal")
    }
}

private func reopening(_ harness: StoreHarness, _ check: Check) throws {
    guard harness.isDurable else { return }
    try withTemporaryDirectory { directory in
        let path = directory + "/store"
        let first = try harness.open(path)
        try put(first, .records, (1...9).map { ([$0], [$0]) })
        try first.sync()
        try put(first, .meta, [([1], [])])
        var batch = WriteBatch()
        batch.put(.treeNodes, key: [1], value: [7])
        try first.write(batch, durability: .unlogged)
        try first.close()
        let second = try harness.open(path)
        try check.equal(try second.entries(.records).count, 9, "the count of records")
        try check.equal(try second.get([1], in: .meta), [], "the value logged last")
        try check.equal(try second.get([1], in: .treeNodes), [7], "the value written unlogged")
        try second.flush()
        try second.close()
        let third = try harness.open(path)
        defer { try? third.close() }
        try check.equal(try third.entries(.records).count, 9, "the count after a flush")
    }
}

private func unloggedReads(_ harness: StoreHarness, _ check: Check) throws {
    try harness.withStore { store, _ in
        var batch = WriteBatch()
        batch.put(.records, key: [1], value: [1])
        batch.put(.meta, key: [1], value: [1])
        try store.write(batch, durability: .unlogged)
        try put(store, .records, [([2], [2])])
        try check.equal(try keys(store.entries(.records)), [[1], [2]], "the keys of both kinds of write")
        try store.sync()
        try store.flush()
        var deletion = WriteBatch()
        deletion.deleteRange(.records, lower: [0], upper: [2])
        try store.write(deletion, durability: .unlogged)
        try check.equal(try keys(store.entries(.records)), [[2]], "the keys after an unlogged deletion")
    }
}

private func flushedWrites(_ harness: StoreHarness, _ check: Check) throws {
    guard let kill = harness.kill else { return }
    try withTemporaryDirectory { directory in
        let path = directory + "/store"
        let store = try harness.open(path)
        for number in UInt8(1)...5 {
            var batch = WriteBatch()
            for family in ColumnFamily.allCases { batch.put(family, key: [number], value: [number]) }
            try store.write(batch, durability: number % 2 == 0 ? .logged : .unlogged)
        }
        try store.flush()
        try put(store, .meta, [([6], [6])])
        try store.sync()
        let found = try kill(store, path)
        defer { try? found.close() }
        for family in ColumnFamily.allCases {
            let count = family == .meta ? UInt8(6) : 5
            let wanted = (1...count).map { [$0] }
            try check.equal(try keys(found.entries(family)), wanted, "the keys of \(family.rawValue)")
        }
    }
}

/// The number of unlogged batches that a restart found; every family must tell the same.
private func unloggedFronts(_ harness: StoreHarness, _ check: Check) throws {
    guard let kill = harness.kill else { return }
    for flushed in [0, 1, 7] {
        try withTemporaryDirectory { directory in
            let path = directory + "/store"
            let store = try harness.open(path)
            for number in 0..<12 {
                if number == flushed, number > 0 { try store.flush() }
                var batch = WriteBatch()
                for family in ColumnFamily.allCases where family != .forks {
                    batch.put(family, key: [UInt8(number)], value: [])
                    batch.put(family, key: [200], value: [UInt8(number)])
                }
                try store.write(batch, durability: .unlogged)
                try put(store, .forks, [([UInt8(number)], [])])
            }
            try store.sync()
            let found = try kill(store, path)
            defer { try? found.close() }
            try check.equal(try found.entries(.forks).count, 12, "the count of logged writes")
            let front = try found.entries(.meta).count
            for family in ColumnFamily.allCases where family != .forks {
                let entries = try found.entries(family)
                try check.equal(entries.count, front, "the count of keys of \(family.rawValue)")
                if front == 0 { continue }
                let last = UInt8(front - 2)
                try check.equal(entries[front - 1].value, [last], "the newest value of \(family.rawValue)")
                try check.equal(entries[front - 2].key, [last], "the newest key of \(family.rawValue)")
            }
            try check.holds(front >= (flushed == 0 ? 0 : flushed + 1), "\(front) keys are left of \(flushed) flushed")
        }
    }
}

private func poisoning(_ harness: StoreHarness, _ check: Check) throws {
    try withTemporaryDirectory { directory in
        let path = directory + "/store"
        let store = try harness.open(path)
        defer { try? store.close() }
        try put(store, .records, [([1], [1])])
        try harness.breakStore(store, path)
        try check.holds(try storageErrorCode { try store.flush() } != nil, "the flush did not fail")
        let answers = [
            try storageErrorCode { try put(store, .records, [([1], [2])]) },
            try storageErrorCode { try store.sync() },
            try storageErrorCode { try store.flush() },
        ]
        try check.equal(answers, [.poisoned, .poisoned, .poisoned], "the answers to write, sync and flush")
        try check.equal(try store.get([1], in: .records), [1], "the value from before")
    }
}

private func closing(_ harness: StoreHarness, _ check: Check) throws {
    try withTemporaryDirectory { directory in
        let store = try harness.open(directory + "/store")
        try put(store, .records, [([1], [1])])
        let snapshot = try store.snapshot()
        try store.close()
        try store.close()
        let answers: [StorageError.Code?] = [
            try storageErrorCode { _ = try store.get([1], in: .records) },
            try storageErrorCode { _ = try store.get([[1], [2]], in: .records) },
            try storageErrorCode { _ = try store.entries(.records) },
            try storageErrorCode { try put(store, .records, [([1], [2])]) },
            try storageErrorCode { try store.sync() },
            try storageErrorCode { try store.flush() },
            try storageErrorCode { _ = try store.snapshot() },
            try storageErrorCode { try store.checkpoint(to: directory + "/checkpoint") },
            try storageErrorCode { _ = try snapshot.get([1], in: .records) },
            try storageErrorCode { _ = try snapshot.entries(.records) },
        ]
        try check.equal(answers, Array(repeating: .closed, count: answers.count), "the answers")
    }
}
