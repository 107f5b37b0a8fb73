/// One file of a log: written by offset, made durable by ``sync()``.
///
/// Safe from any thread; every call may block. After a failed write or sync the file's contents are unknown.
package protocol LogFile: Sendable {
    /// The bytes that the file takes on the disk; reads end there.
    var sizeBytes: Int { get }

    /// Writes all of `bytes` at `offset`; it survives the end of the process, but not yet a power failure.
    func write(_ bytes: [UInt8], at offset: Int) throws(StorageError)

    /// - Returns: `count` bytes from `offset` on, fewer where the file ends.
    func read(at offset: Int, count: Int) throws(StorageError) -> [UInt8]

    /// Returns when everything written before the call survives a power failure.
    func sync() throws(StorageError)
}

/// The directory of a log's files. Names hold no path.
package protocol LogFiles: Sendable {
    /// The names of all files, ascending.
    func names() throws(StorageError) -> [String]

    func open(_ name: String) throws(StorageError) -> any LogFile

    /// Makes a file of that size, all zero, whose room is taken; its name survives a power failure.
    /// - Parameter isFilled: Whether the zeros are written too. That takes as long as any write of so much, and makes
    ///   every later sync cheaper.
    func create(_ name: String, sizeBytes: Int, isFilled: Bool) throws(StorageError) -> any LogFile

    /// Gives a file another name that no file has; the change survives a power failure.
    func rename(_ name: String, to other: String) throws(StorageError)

    func remove(_ name: String) throws(StorageError)

    /// Lets another owner use the directory. Idempotent.
    func close()
}
