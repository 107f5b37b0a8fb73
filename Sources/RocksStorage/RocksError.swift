internal import CRocksDB
internal import Storage

/// Calls a RocksDB function that reports failure through a trailing `char**`, and throws if it did.
///
/// The message is copied and freed with `rocksdb_free` on every path.
/// - Throws: ``StorageError`` with a code read from the status prefix (`Corruption:`, `IO error:`).
func rocksTry<Value>(
    _ operation: @autoclosure () -> String,
    _ body: (UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>) -> Value
) throws(StorageError) -> Value {
    var message: UnsafeMutablePointer<CChar>?
    let value = unsafe body(&message)
    if let text = unsafe takeMessage(message) { throw rocksError(operation(), text) }
    return value
}

/// Copies and frees an error message of RocksDB.
func takeMessage(_ message: UnsafeMutablePointer<CChar>?) -> String? {
    guard let message = unsafe message else { return nil }
    defer { unsafe rocksdb_free(message) }
    return unsafe String(cString: message)
}

/// The error for a status text of RocksDB.
func rocksError(_ operation: String, _ status: String) -> StorageError {
    StorageError(code: code(ofStatus: status), message: "\(operation): \(status)")
}

/// RocksDB's C interface gives a status as text alone: `Kind: details`.
func code(ofStatus status: String) -> StorageError.Code {
    switch status.prefix(while: { $0 != ":" }) {
    case "Corruption": .corruption
    case "Invalid argument": .invalidArgument
    case "Resource busy": .busy
    case "Shutdown in progress": .closed
    case "IO error" where isLockConflict(status): .busy
    case "IO error" where status.hasPrefix("IO error: No space left on device"): .full
    default: .io
    }
}

/// The texts of a database that is open elsewhere, in another process or in this one.
private func isLockConflict(_ status: String) -> Bool {
    let place = status.prefix { $0 != "," }
    return place.hasPrefix("IO error: While lock file") || place.hasPrefix("IO error: lock hold by current process")
}
