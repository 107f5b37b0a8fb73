internal import Glibc
internal import Synchronization

/// The files of a log in a directory on disk, which one owner uses at a time.
package final class DiskLogFiles: LogFiles {
    private static let lockName = "LOCK"

    package let path: String
    /// The descriptor of the lock file, nil once closed.
    private let lock: Mutex<Int32?>

    /// Opens the directory `path`, and makes it when it is missing (but not the directories above).
    /// - Throws: ``StorageError`` `.busy` when another owner has it open; `.io`, `.full`.
    package init(path: String) throws(StorageError) {
        self.path = path
        if mkdir(path, 0o755) != 0, errno != EEXIST { throw fileError("make the directory", path) }
        let descriptor = Glibc.open(path + "/" + Self.lockName, O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else { throw fileError("open the lock of", path) }
        guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
            Glibc.close(descriptor)
            throw StorageError(code: .busy, message: "\(path) is in use by another owner")
        }
        self.lock = Mutex(descriptor)
    }

    deinit { self.close() }

    package func close() {
        self.lock.withLock { descriptor in
            if let open = descriptor { Glibc.close(open) }
            descriptor = nil
        }
    }

    private func place(_ name: String) -> String { self.path + "/" + name }

    package func names() throws(StorageError) -> [String] {
        guard let directory = opendir(self.path) else { throw fileError("list", self.path) }
        defer { closedir(directory) }
        var names: [String] = []
        while let entry = readdir(directory) {
            let name = withUnsafeBytes(of: entry.pointee.d_name) { bytes in
                String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
            }
            if name != ".", name != "..", name != Self.lockName { names.append(name) }
        }
        return names.sorted()
    }

    package func open(_ name: String) throws(StorageError) -> any LogFile {
        try DiskLogFile(path: self.place(name), flags: O_RDWR | O_CLOEXEC)
    }

    package func create(_ name: String, sizeBytes: Int, isFilled: Bool) throws(StorageError) -> any LogFile {
        let file = try DiskLogFile(path: self.place(name), flags: O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC)
        try file.reserve(sizeBytes)
        if isFilled { try file.fill(sizeBytes) }
        try file.sync()
        try self.syncDirectory()
        return file
    }

    package func rename(_ name: String, to other: String) throws(StorageError) {
        guard Glibc.rename(self.place(name), self.place(other)) == 0 else {
            throw fileError("rename", self.place(name))
        }
        try self.syncDirectory()
    }

    package func remove(_ name: String) throws(StorageError) {
        guard unlink(self.place(name)) == 0 else { throw fileError("remove", self.place(name)) }
    }

    private func syncDirectory() throws(StorageError) {
        let descriptor = Glibc.open(self.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { throw fileError("open", self.path) }
        defer { Glibc.close(descriptor) }
        guard fsync(descriptor) == 0 else { throw fileError("sync", self.path) }
    }
}

/// A file on disk; closed when it is released.
private final class DiskLogFile: LogFile {
    private static let fillBytes = 1 << 20

    private let path: String
    private let descriptor: Int32
    private let size: Atomic<Int>

    init(path: String, flags: Int32) throws(StorageError) {
        self.path = path
        self.descriptor = Glibc.open(path, flags, 0o644)
        guard self.descriptor >= 0 else { throw fileError("open", path) }
        let end = lseek(self.descriptor, 0, SEEK_END)
        self.size = Atomic(max(Int(end), 0))
        if end < 0 { throw fileError("measure", path) }
    }

    deinit { Glibc.close(self.descriptor) }

    var sizeBytes: Int { self.size.load(ordering: .relaxed) }

    /// Takes room on the disk, so that later writes neither grow the file nor find the disk full.
    func reserve(_ bytes: Int) throws(StorageError) {
        let code = posix_fallocate(self.descriptor, 0, off_t(bytes))
        guard code == 0 else {
            errno = code
            throw fileError("reserve room for", self.path)
        }
        self.size.store(bytes, ordering: .relaxed)
    }

    /// Writes zeros, so that a later sync has nothing but data to write: the first write of a block also goes into the
    /// file system's journal.
    func fill(_ bytes: Int) throws(StorageError) {
        let zeros = [UInt8](repeating: 0, count: min(bytes, Self.fillBytes))
        var offset = 0
        while offset < bytes {
            let part = bytes - offset < zeros.count ? Array(zeros.prefix(bytes - offset)) : zeros
            try self.write(part, at: offset)
            offset += part.count
        }
    }

    func write(_ bytes: [UInt8], at offset: Int) throws(StorageError) {
        var done = 0
        while done < bytes.count {
            let count = bytes.withUnsafeBytes { buffer in
                pwrite(self.descriptor, buffer.baseAddress.map { $0 + done }, buffer.count - done, off_t(offset + done))
            }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { throw fileError("write", self.path) }
            done += count
        }
        if offset + done > self.sizeBytes { self.size.store(offset + done, ordering: .relaxed) }
    }

    func read(at offset: Int, count: Int) throws(StorageError) -> [UInt8] {
        let wanted = max(min(count, self.sizeBytes - offset), 0)
        var failure: StorageError?
        let bytes = [UInt8](unsafeUninitializedCapacity: wanted) { buffer, done in
            while done < wanted {
                let base = UnsafeMutableRawPointer(buffer.baseAddress)
                let got = pread(self.descriptor, base.map { $0 + done }, wanted - done, off_t(offset + done))
                if got < 0, errno == EINTR { continue }
                if got < 0 { failure = fileError("read", self.path) }
                guard got > 0 else { return }
                done += got
            }
        }
        if let failure { throw failure }
        return bytes
    }

    func sync() throws(StorageError) {
        guard fdatasync(self.descriptor) == 0 else { throw fileError("sync", self.path) }
    }
}

/// The error for `errno`; a path is no secret.
private func fileError(_ action: String, _ path: String) -> StorageError {
    let number = errno
    let text = strerror(number).map { String(cString: $0) } ?? "error \(number)"
    let isFull = number == ENOSPC || number == EDQUOT
    return StorageError(code: isFull ? .full : .io, message: "could not \(action) \(path): \(text)")
}
