internal import Primitives
internal import Storage

/// Runs random batches, scans, gets and snapshots against a store and against a sorted dictionary.
///
/// - Throws: ``ConformanceFailure`` that names the seed.
package func checkAgainstModel(_ harness: StoreHarness, seed: UInt64, steps: Int = 150) throws {
    let check = Check("the store equals its model (seed \(seed))")
    try harness.withStore { store, _ in
        var generator = SeededGenerator(seed: seed)
        var model = StoreModel()
        var frozen: (reader: any KeyValueReader, model: StoreModel)?
        for step in 0..<steps {
            var batch = WriteBatch()
            for _ in 0..<Int.random(in: 0..<12, using: &generator) { model.step(&batch, using: &generator) }
            try store.write(batch)
            switch Int.random(in: 0..<20, using: &generator) {
            case 0: try store.flush()
            case 1: try store.sync()
            case 2, 3: frozen = (try store.snapshot(), model)
            default: break
            }
            try model.compare(with: store, using: &generator, check, "step \(step)")
            if let frozen {
                try frozen.model.compare(with: frozen.reader, using: &generator, check, "snapshot at step \(step)")
            }
        }
    }
}

private struct StoreModel {
    private static let families: [ColumnFamily] = [.records, .meta]
    private var maps: [[[UInt8]: [UInt8]]] = [[:], [:]]

    static func key(using generator: inout SeededGenerator) -> [UInt8] {
        (0..<Int.random(in: 0...3, using: &generator)).map { _ in
            [0, 1, 2, 127, 128, 254, 255].randomElement(using: &generator) ?? 0
        }
    }

    mutating func step(_ batch: inout WriteBatch, using generator: inout SeededGenerator) {
        let number = Int.random(in: 0...1, using: &generator)
        let family = Self.families[number]
        let key = Self.key(using: &generator)
        switch Int.random(in: 0..<10, using: &generator) {
        case 0, 1:
            batch.delete(family, key: key)
            self.maps[number][key] = nil
        case 2:
            let other = Self.key(using: &generator)
            let (lower, upper) = other.lexicographicallyPrecedes(key) ? (other, key) : (key, other)
            batch.deleteRange(family, lower: lower, upper: upper)
            self.maps[number] = self.maps[number].filter { entry in
                entry.key.lexicographicallyPrecedes(lower) || !entry.key.lexicographicallyPrecedes(upper)
            }
        default:
            let value = (0..<Int.random(in: 0..<4, using: &generator)).map { _ in UInt8(truncatingIfNeeded: key.count) }
            batch.put(family, key: key, value: value)
            self.maps[number][key] = value
        }
    }

    func compare(
        with reader: any KeyValueReader,
        using generator: inout SeededGenerator,
        _ check: Check,
        _ place: String
    ) throws {
        for (number, family) in Self.families.enumerated() {
            let lower = Self.key(using: &generator)
            let upper = Bool.random(using: &generator) ? Self.key(using: &generator) : nil
            let wanted = self.maps[number]
                .map { StoreEntry(key: $0.key, value: $0.value) }
                .filter { entry in
                    !entry.key.lexicographicallyPrecedes(lower)
                        && (upper.map { entry.key.lexicographicallyPrecedes($0) } ?? true)
                }
                .sorted { $0.key.lexicographicallyPrecedes($1.key) }
            try check.equal(try reader.entries(family, from: lower, to: upper), wanted, "\(place), ascending")
            try check.equal(
                try reader.entries(family, from: lower, to: upper, direction: .descending),
                wanted.reversed(),
                "\(place), descending"
            )
            let keys = (0..<3).map { _ in Self.key(using: &generator) }
            try check.equal(try reader.get(keys, in: family), keys.map { self.maps[number][$0] }, "\(place), gets")
            try check.equal(try reader.get(keys[0], in: family), self.maps[number][keys[0]], "\(place), get")
        }
    }
}
