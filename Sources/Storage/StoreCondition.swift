/// Whether a store may be used, and why not; the rule is the same for every store.
package enum StoreCondition: Sendable {
    case open
    /// A write or sync failed: reads go on, writes are refused.
    case poisoned(StorageError)
    case closed

    /// - Throws: ``StorageError`` `.closed`.
    package func checkReadable() throws(StorageError) {
        if case .closed = self { throw StorageError(code: .closed, message: "the store was closed") }
    }

    /// - Throws: ``StorageError`` `.closed`, or `.poisoned` with the first failure as its cause.
    package func checkWritable() throws(StorageError) {
        switch self {
        case .open:
            return
        case .poisoned(let cause):
            throw StorageError(
                code: .poisoned,
                message: "an earlier write failed; restart the node to write again",
                cause: cause
            )
        case .closed:
            throw StorageError(code: .closed, message: "the store was closed")
        }
    }

    /// Remembers the first failure of a write or sync; does nothing to a store that is not open.
    package mutating func poison(_ failure: StorageError) {
        if case .open = self { self = .poisoned(failure) }
    }
}
