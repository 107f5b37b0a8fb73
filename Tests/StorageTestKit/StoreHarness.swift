internal import Foundation
internal import Primitives
package import Storage

/// How the conformance checks make, reopen and break one kind of store.
package struct StoreHarness: Sendable {
    /// Makes or opens the store in a directory.
    package let open: @Sendable (_ path: String) throws -> any KeyValueStore
    /// Opens what a checkpoint wrote.
    package let openCheckpoint: @Sendable (_ path: String) throws -> any KeyValueStore
    /// Makes the next flush, and with it all later writes, fail.
    package let breakStore: @Sendable (_ store: any KeyValueStore, _ path: String) throws -> Void
    /// Whether the contents are there again after close and open.
    package let isDurable: Bool
    /// Ends the process that uses the store without a close, and opens what is left; nil for a store that cannot.
    package let kill: (@Sendable (_ store: any KeyValueStore, _ path: String) throws -> any KeyValueStore)?

    package init(
        open: @escaping @Sendable (_ path: String) throws -> any KeyValueStore,
        openCheckpoint: @escaping @Sendable (_ path: String) throws -> any KeyValueStore,
        breakStore: @escaping @Sendable (_ store: any KeyValueStore, _ path: String) throws -> Void,
        isDurable: Bool,
        kill: (@Sendable (_ store: any KeyValueStore, _ path: String) throws -> any KeyValueStore)? = nil
    ) {
        self.kill = kill
        self.open = open
        self.openCheckpoint = openCheckpoint
        self.breakStore = breakStore
        self.isDurable = isDurable
    }

    /// Runs `body` with a new, empty store, and closes it.
    package func withStore(_ body: (any KeyValueStore, _ directory: String) throws -> Void) throws {
        try withTemporaryDirectory { directory in
            let store = try self.open(directory + "/store")
            do {
                try body(store, directory)
            } catch {
                // The store is closed all the same; the first error is the one to tell.
                try? store.close()
                throw error
            }
            try store.close()
        }
    }
}

/// Runs `body` with a new directory of its own, and removes it.
package func withTemporaryDirectory<Result>(_ body: (_ path: String) throws -> Result) throws -> Result {
    let template = FileManager.default.temporaryDirectory.appendingPathComponent("flask-track-XXXXXX").path
    var bytes = Array(template.utf8CString)
    guard let made = mkdtemp(&bytes) else {
        throw ConformanceFailure("a temporary directory", "error \(errno)")
    }
    let path = String(cString: made)
    defer { try? FileManager.default.removeItem(atPath: path) }
    return try body(path)
}

/// The code of the ``StorageError`` that `body` throws; nil when it throws nothing.
/// - Throws: Any other error.
package func storageErrorCode(_ body: () throws -> Void) throws -> StorageError.Code? {
    do {
        try body()
        return nil
    } catch let error as StorageError {
        return error.code
    }
}

extension KeyValueReader {
    /// Everything in `lower..<upper`, in the order of the scan.
    package func entries(
        _ family: ColumnFamily,
        from lower: [UInt8] = [],
        to upper: [UInt8]? = nil,
        direction: ScanDirection = .ascending
    ) throws -> [StoreEntry] {
        var found: [StoreEntry] = []
        try self.scan(family, from: lower, to: upper, direction: direction) { key, value in
            found.append(StoreEntry(key: key, value: value))
            return true
        }
        return found
    }
}

/// A key with its value.
package struct StoreEntry: Equatable, Sendable {
    package let key: [UInt8]
    package let value: [UInt8]

    package init(key: [UInt8], value: [UInt8]) {
        self.key = key
        self.value = value
    }
}
