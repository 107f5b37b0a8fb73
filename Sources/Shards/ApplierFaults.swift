internal import AuditLedger
internal import Primitives

/// Deliberate faults of applying, for showing that tests and the simulator notice them; a node never has one.
package struct ApplierFaults: OptionSet, Sendable {
    package let rawValue: Int

    package init(rawValue: Int) { self.rawValue = rawValue }

    /// The applied index is now and then not written with its effects: a restart applies entries twice.
    package static let appliedIndexLost = ApplierFaults(rawValue: 1 << 0)
    /// The last two entries of a turn change places.
    package static let applyOutOfOrder = ApplierFaults(rawValue: 1 << 1)
    /// Snapshots come without the answers to idempotency keys.
    package static let idempotencyNotReplicated = ApplierFaults(rawValue: 1 << 2)
    /// A restart forgets the last checksum of a chain.
    package static let chainHeadNotRestored = ApplierFaults(rawValue: 1 << 3)
    /// A snapshot sets the applied index without the heads and the state that go with it.
    package static let snapshotWithoutState = ApplierFaults(rawValue: 1 << 4)

    /// Records are stored without links, checksums and tree nodes; tells the benchmarks what those cost. Not in ``all``: no
    /// store with it is a ledger.
    package static let chainAndTreeLeftOut = ApplierFaults(rawValue: 1 << 5)

    /// Every fault with its name.
    package static let all: [(name: String, fault: ApplierFaults)] = [
        ("applied-index-lost", .appliedIndexLost),
        ("apply-out-of-order", .applyOutOfOrder),
        ("idempotency-not-replicated", .idempotencyNotReplicated),
        ("chain-head-not-restored", .chainHeadNotRestored),
        ("snapshot-without-state", .snapshotWithoutState),
    ]

    /// A head as it is restored from the store.
    func restored(_ head: LedgerHead) -> LedgerHead {
        guard self.contains(.chainHeadNotRestored), head.size > 0 else { return head }
        return head.withoutLastChecksum
    }
}
