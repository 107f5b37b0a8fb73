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
        isDurable: false
    )
}
