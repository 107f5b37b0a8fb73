internal import Glibc

/// Reads and makes files in one piece.
enum WholeFile {
    private static let chunkBytes = 1 << 20

    static func read(_ path: String) throws(StorageError) -> [UInt8] {
        let file = unsafe open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { throw self.failure("open", path) }
        defer { _ = close(file) }
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: self.chunkBytes)
        while true {
            let count = unsafe Glibc.read(file, &chunk, chunk.count)
            if count == 0 { return bytes }
            if count < 0 {
                if errno == EINTR { continue }
                throw self.failure("read", path)
            }
            bytes.append(contentsOf: chunk[..<count])
        }
    }

    /// Makes a file that must not exist yet; on failure none is left behind. Returns after its fsync.
    static func create(_ path: String, _ bytes: [UInt8]) throws(StorageError) {
        let file = unsafe open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard file >= 0 else {
            if errno == EEXIST { throw StorageError(code: .invalidArgument, message: "\(path) exists already") }
            throw self.failure("make", path)
        }
        defer { _ = close(file) }
        do throws(StorageError) {
            try self.writeAll(bytes, to: file, path)
            guard fsync(file) == 0 else { throw self.failure("fsync", path) }
        } catch {
            _ = unsafe unlink(path)
            throw error
        }
    }

    private static func writeAll(_ bytes: [UInt8], to file: Int32, _ path: String) throws(StorageError) {
        var written = 0
        while written < bytes.count {
            let count = unsafe bytes.withUnsafeBytes {
                unsafe write(file, UnsafeRawBufferPointer(rebasing: $0[written...]).baseAddress, bytes.count - written)
            }
            if count < 0 {
                if errno == EINTR { continue }
                throw self.failure("write", path)
            }
            written += count
        }
    }

    private static func failure(_ action: String, _ path: String) -> StorageError {
        let code = errno
        let text = unsafe strerror(code).map { unsafe String(cString: $0) } ?? "error \(code)"
        return StorageError(code: .io, message: "could not \(action) \(path): \(text)")
    }
}
