import Storage
import StorageTestKit

extension StoreHarness {
    static let memory = StoreHarness(
        open: { _ in InMemoryStore() },
        openCheckpoint: { try InMemoryStore(checkpoint: $0) },
        breakStore: { store, _ in
            (store as? InMemoryStore)?.poison(StorageError(code: .io, message: "broken by a test"))
        },
        isDurable: false
    )

    static let faultInjecting = StoreHarness(
        open: { _ in try FaultInjectingStore(InMemoryStore()) },
        openCheckpoint: { try FaultInjectingStore(InMemoryStore(checkpoint: $0)) },
        breakStore: { store, _ in (store as? FaultInjectingStore)?.arm(StoreFault(.flush)) },
        isDurable: false,
        kill: killed
    )
}

/// Ends the process that uses a ``FaultInjectingStore``.
func killed(_ store: any KeyValueStore, _ path: String) throws -> any KeyValueStore {
    guard let store = store as? FaultInjectingStore else { throw ConformanceFailure("a harness", "another store") }
    try store.crash(keepingUnsynced: .max)
    return try store.reopened()
}
