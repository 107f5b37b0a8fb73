internal import Primitives
internal import Storage

/// What a recovery left for the cluster ledger: written with it in one batch, removed when the ledger has it.
enum RecoveryNote {
    private static let key = Array("recovery".utf8)

    /// The note, a JSON object; nil for none.
    static func read(_ store: any KeyValueReader) throws -> [UInt8]? { try store.get(Self.key, in: .meta) }

    static func write(_ details: [UInt8], into batch: inout WriteBatch) {
        batch.put(.meta, key: Self.key, value: details)
    }

    static func remove(_ store: any KeyValueStore) throws {
        var batch = WriteBatch()
        batch.delete(.meta, key: Self.key)
        try store.write(batch)
    }
}
