internal import Primitives

#if canImport(Glibc)
internal import Glibc
#elseif canImport(Musl)
internal import Musl
#else
internal import Darwin
#endif

/// The bytes of a package, wherever they are; safe to read from several threads at once.
package protocol PackageBytes: Sendable {
    /// All bytes.
    var count: UInt64 { get }

    /// Exactly `count` bytes from `offset` on; may block.
    /// - Throws: `.truncated` when there are fewer, `.io`.
    func read(at offset: UInt64, count: Int) throws(PackageError) -> [UInt8]
}

/// A package in memory.
package struct PackageArray: PackageBytes {
    private let bytes: [UInt8]

    package init(_ bytes: [UInt8]) { self.bytes = bytes }

    package var count: UInt64 { UInt64(self.bytes.count) }

    package func read(at offset: UInt64, count: Int) throws(PackageError) -> [UInt8] {
        guard count >= 0, offset <= self.count, UInt64(count) <= self.count - offset else {
            throw PackageError(.truncated, "the archive ends before byte \(offset) + \(count)")
        }
        return Array(self.bytes[Int(offset)..<Int(offset) + count])
    }
}

/// A package in a file, which stays open as long as this lives.
package final class PackageFile: PackageBytes {
    package let count: UInt64
    private let descriptor: Int32

    /// - Throws: `.io` when the file cannot be opened or is no regular file.
    package init(path: String) throws(PackageError) {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else {
            throw PackageError(.io, "cannot open \(path): \(String(cString: strerror(errno)))")
        }
        var status = stat()
        guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
            close(descriptor)
            throw PackageError(.io, "\(path) is not a regular file")
        }
        self.descriptor = descriptor
        self.count = UInt64(status.st_size)
    }

    deinit { close(self.descriptor) }

    /// All bytes of a file of any kind, also of a pipe.
    /// - Throws: `.tooLarge` beyond `bytesMax`, `.io`.
    static func readAll(path: String, bytesMax: Int) throws(PackageError) -> [UInt8] {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else {
            throw PackageError(.io, "cannot open \(path): \(String(cString: strerror(errno)))")
        }
        defer { close(descriptor) }
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 64 << 10)
        while true {
            let count = chunk.withUnsafeMutableBytes { pull(descriptor, $0.baseAddress, $0.count) }
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else {
                throw PackageError(.io, "cannot read \(path): \(String(cString: strerror(errno)))")
            }
            guard count > 0 else { return bytes }
            guard bytes.count + count <= bytesMax else { throw PackageError(.tooLarge, "\(path) is too large") }
            bytes += chunk[..<count]
        }
    }

    package func read(at offset: UInt64, count: Int) throws(PackageError) -> [UInt8] {
        guard count >= 0, offset <= self.count, UInt64(count) <= self.count - offset else {
            throw PackageError(.truncated, "the archive ends before byte \(offset) + \(count)")
        }
        var failure: Int32?
        let bytes = [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
            while filled < count {
                let read = pread(
                    self.descriptor,
                    buffer.baseAddress.map { $0 + filled },
                    count - filled,
                    off_t(offset) + off_t(filled)
                )
                if read < 0 && errno == EINTR { continue }
                guard read > 0 else {
                    failure = read < 0 ? errno : 0
                    return
                }
                filled += read
            }
        }
        switch failure {
        case .none: return bytes
        case 0: throw PackageError(.truncated, "the file became shorter while it was read")
        case .some(let code): throw PackageError(.io, "cannot read the file: \(String(cString: strerror(code)))")
        }
    }
}

/// The system's `read`, which the types here hide by their own.
private func pull(_ descriptor: Int32, _ start: UnsafeMutableRawPointer?, _ count: Int) -> Int {
    read(descriptor, start, count)
}
