internal import Glibc

/// Whether `left` comes before `right` in byte order.
func bytesPrecede(_ left: [UInt8], _ right: [UInt8]) -> Bool {
    let order = unsafe left.withUnsafeBytes { leftBytes in
        unsafe right.withUnsafeBytes { rightBytes -> Int32 in
            let count = min(leftBytes.count, rightBytes.count)
            guard count > 0, let first = leftBytes.baseAddress, let second = rightBytes.baseAddress else { return 0 }
            return unsafe memcmp(first, second, count)
        }
    }
    return order == 0 ? left.count < right.count : order < 0
}

/// An ordered map of byte strings: a list of sorted leaves.
///
/// A copy shares everything until one side changes, and then only the list and the leaf that changes are copied.
/// Reads are O(log n); writes are O(log n) plus the length of one leaf.
struct OrderedBytesMap: Sendable {
    private struct Leaf: Sendable {
        var keys: [[UInt8]] = []
        var values: [[UInt8]] = []

        /// The first place whose key is not below `key`.
        func place(notBelow key: [UInt8]) -> Int {
            var low = 0
            var high = self.keys.count
            while low < high {
                let middle = (low + high) / 2
                if bytesPrecede(self.keys[middle], key) { low = middle + 1 } else { high = middle }
            }
            return low
        }

        mutating func remove(_ places: Range<Int>) {
            self.keys.removeSubrange(places)
            self.values.removeSubrange(places)
        }
    }

    /// A key's place; the end is `(leaves.count, 0)`.
    private struct Place {
        var leaf: Int
        var entry: Int
    }

    private static let leafEntriesMax = 128

    /// No leaf is empty; keys rise within a leaf and from leaf to leaf.
    private var leaves: [Leaf] = []
    private(set) var count = 0

    /// The number of the leaf that holds `key` if any does: the last whose first key is not above it, or 0.
    private func leafNumber(for key: [UInt8]) -> Int {
        var low = 0
        var high = self.leaves.count
        while low < high {
            let middle = (low + high) / 2
            if bytesPrecede(key, self.leaves[middle].keys[0]) { high = middle } else { low = middle + 1 }
        }
        return max(low - 1, 0)
    }

    private func place(notBelow key: [UInt8]) -> Place {
        guard !self.leaves.isEmpty else { return Place(leaf: 0, entry: 0) }
        let number = self.leafNumber(for: key)
        let entry = self.leaves[number].place(notBelow: key)
        if entry == self.leaves[number].keys.count { return Place(leaf: number + 1, entry: 0) }
        return Place(leaf: number, entry: entry)
    }

    subscript(key: [UInt8]) -> [UInt8]? {
        guard !self.leaves.isEmpty else { return nil }
        let leaf = self.leaves[self.leafNumber(for: key)]
        let entry = leaf.place(notBelow: key)
        guard entry < leaf.keys.count, leaf.keys[entry] == key else { return nil }
        return leaf.values[entry]
    }

    mutating func put(_ key: [UInt8], _ value: [UInt8]) {
        if self.leaves.isEmpty {
            self.leaves.append(Leaf(keys: [key], values: [value]))
            self.count = 1
            return
        }
        let number = self.leafNumber(for: key)
        let entry = self.leaves[number].place(notBelow: key)
        if entry < self.leaves[number].keys.count, self.leaves[number].keys[entry] == key {
            self.leaves[number].values[entry] = value
            return
        }
        self.leaves[number].keys.insert(key, at: entry)
        self.leaves[number].values.insert(value, at: entry)
        self.count += 1
        if self.leaves[number].keys.count > Self.leafEntriesMax { self.split(number) }
    }

    /// Keys that only rise leave full leaves behind; others leave halves.
    private mutating func split(_ number: Int) {
        let entries = self.leaves[number].keys.count
        let isLast = number == self.leaves.count - 1
        let cut = isLast ? entries - 1 : entries / 2
        var upper = Leaf()
        upper.keys.append(contentsOf: self.leaves[number].keys[cut...])
        upper.values.append(contentsOf: self.leaves[number].values[cut...])
        self.leaves[number].remove(cut..<entries)
        self.leaves.insert(upper, at: number + 1)
    }

    mutating func remove(_ key: [UInt8]) {
        guard !self.leaves.isEmpty else { return }
        let number = self.leafNumber(for: key)
        let entry = self.leaves[number].place(notBelow: key)
        guard entry < self.leaves[number].keys.count, self.leaves[number].keys[entry] == key else { return }
        self.leaves[number].remove(entry..<entry + 1)
        self.count -= 1
        if self.leaves[number].keys.isEmpty { self.leaves.remove(at: number) }
    }

    /// Removes the keys in `lower..<upper`.
    mutating func remove(from lower: [UInt8], to upper: [UInt8]) {
        let start = self.place(notBelow: lower)
        let end = self.place(notBelow: upper)
        if start.leaf == end.leaf {
            guard start.entry < end.entry else { return }
            self.leaves[start.leaf].remove(start.entry..<end.entry)
            self.count -= end.entry - start.entry
            if self.leaves[start.leaf].keys.isEmpty { self.leaves.remove(at: start.leaf) }
            return
        }
        guard start.leaf < end.leaf else { return }
        if end.entry > 0 {
            self.leaves[end.leaf].remove(0..<end.entry)
            self.count -= end.entry
        }
        let kept = self.leaves[start.leaf].keys.count
        self.leaves[start.leaf].remove(start.entry..<kept)
        self.count -= kept - start.entry
        let firstGone = start.entry == 0 ? start.leaf : start.leaf + 1
        for leaf in self.leaves[(start.leaf + 1)..<end.leaf] { self.count -= leaf.keys.count }
        self.leaves.removeSubrange(firstGone..<end.leaf)
    }

    /// Visits the keys in `lower..<upper` until `body` returns false.
    func scan(
        from lower: [UInt8],
        to upper: [UInt8]?,
        direction: ScanDirection,
        _ body: (_ key: [UInt8], _ value: [UInt8]) throws -> Bool
    ) rethrows {
        let start = self.place(notBelow: lower)
        let end = upper.map { self.place(notBelow: $0) } ?? Place(leaf: self.leaves.count, entry: 0)
        guard (start.leaf, start.entry) < (end.leaf, end.entry) else { return }
        let last = end.entry == 0 ? end.leaf - 1 : end.leaf
        for turn in 0...(last - start.leaf) {
            let number = direction == .ascending ? start.leaf + turn : last - turn
            let leaf = self.leaves[number]
            let first = number == start.leaf ? start.entry : 0
            let past = number == end.leaf ? end.entry : leaf.keys.count
            var step = 0
            while step < past - first {
                let entry = direction == .ascending ? first + step : past - 1 - step
                guard try body(leaf.keys[entry], leaf.values[entry]) else { return }
                step += 1
            }
        }
    }
}

/// The state of all column families at one moment; a copy is cheap and independent.
struct FamilyMaps: Sendable {
    private var maps: [OrderedBytesMap]

    init() {
        self.maps = Array(repeating: OrderedBytesMap(), count: ColumnFamily.allCases.count)
    }

    subscript(family: ColumnFamily) -> OrderedBytesMap {
        get { self.maps[family.number] }
        _modify { yield &self.maps[family.number] }
    }

    mutating func apply(_ batch: WriteBatch) {
        for operation in batch.operations {
            switch operation {
            case .put(let family, let key, let value): self[family].put(key, value)
            case .delete(let family, let key): self[family].remove(key)
            case .deleteRange(let family, let lower, let upper): self[family].remove(from: lower, to: upper)
            }
        }
    }

    func scan(
        _ family: ColumnFamily,
        from lower: [UInt8],
        to upper: [UInt8]?,
        direction: ScanDirection,
        _ body: (_ key: [UInt8], _ value: [UInt8]) throws -> Bool
    ) throws(StorageError) {
        do {
            try self[family].scan(from: lower, to: upper, direction: direction, body)
        } catch {
            throw StorageError(
                code: .visitor,
                message: "the visitor of a scan of \(family.rawValue) failed",
                cause: error
            )
        }
    }
}
