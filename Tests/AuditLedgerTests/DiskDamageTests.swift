import AuditLedger
import Primitives
import Storage
import Testing

/// One bit flipped, or one key taken away, anywhere in a stopped replica: verification names exactly that key.
struct DiskDamageTests {
    /// Every key of the organization, as the place that a finding gives it.
    static func keys(
        _ fixture: LedgerFixture
    ) throws -> [(family: ColumnFamily, key: [UInt8], value: [UInt8], place: String)] {
        var keys: [(ColumnFamily, [UInt8], [UInt8], String)] = []
        for family in [ColumnFamily.records, .treeNodes, .ledgerHeads] {
            try fixture.store.scan(family, prefix: fixture.headKey) { key, value in
                func number(_ bytes: ArraySlice<UInt8>) -> UInt64 { bytes.reduce(0) { $0 << 8 | UInt64($1) } }
                let place =
                    switch family {
                    case .records: "records/\(number(key[4...]))"
                    case .treeNodes: "tree_nodes/\(key[4])/\(number(key[5...]))"
                    default: "ledger_heads"
                    }
                keys.append((family, key, value, place))
                return true
            }
        }
        return keys
    }

    @Test(arguments: [UInt64(1), 2, 3]) func aFlippedBitIsNamedByItsKey(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        let fixture = try LedgerFixture(records: 45)
        #expect(try fixture.verify().isSound)
        let keys = try Self.keys(fixture)
        #expect(keys.count > 45 + 45 + 40)
        for (family, key, value, place) in keys {
            var bad = value
            let byte = Int.random(in: 0..<bad.count, using: &generator)
            bad[byte] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
            try fixture.change { $0.put(family, key: key, value: bad) }
            let finding = try fixture.verify().finding
            #expect(finding?.place == place, "seed \(seed), \(place), byte \(byte): \(String(describing: finding))")
            try fixture.change { $0.put(family, key: key, value: value) }
        }
        #expect(try fixture.verify().isSound)
    }

    @Test func anAbsentKeyIsNamed() throws {
        let fixture = try LedgerFixture(records: 45)
        for (family, key, value, place) in try Self.keys(fixture) {
            try fixture.change { $0.delete(family, key: key) }
            let finding = try fixture.verify().finding
            #expect(finding?.place == place, "\(place): \(String(describing: finding))")
            try fixture.change { $0.put(family, key: key, value: value) }
        }
        #expect(try fixture.verify().isSound)
    }
}
