internal import Foundation
internal import NIOPosix

/// Reads a file or standard input in chunks of whole lines, on threads of NIO's pool.
///
/// One reader at a time. The descriptor is closed with the object unless it is standard input.
package final class LineSource: Sendable {
    /// Bytes asked for at once.
    static let chunkBytes = 256 * 1024

    private let descriptor: Int32
    /// What the input is called in messages.
    package let name: String
    /// Size of a regular file, in bytes.
    package let totalBytes: Int?

    /// Opens `path`; `-` is standard input.
    /// - Throws: ``ClientError`` `.localFile`.
    package init(path: String) throws(ClientError) {
        if path == "-" {
            self.descriptor = STDIN_FILENO
            self.name = "standard input"
            self.totalBytes = nil
            return
        }
        self.name = path
        self.descriptor = Foundation.open(path, O_RDONLY | O_CLOEXEC)
        guard self.descriptor >= 0 else {
            throw ClientError(.localFile, "cannot read \(path): \(String(cString: strerror(errno)).lowercased())")
        }
        var info = stat()
        guard fstat(self.descriptor, &info) == 0, info.st_mode & S_IFMT != S_IFDIR else {
            Foundation.close(self.descriptor)
            throw ClientError(.localFile, "cannot read \(path): is a directory")
        }
        self.totalBytes = info.st_mode & S_IFMT == S_IFREG ? Int(info.st_size) : nil
    }

    deinit {
        if self.descriptor != STDIN_FILENO { Foundation.close(self.descriptor) }
    }

    /// The next bytes; empty at the end.
    /// - Throws: ``ClientError`` `.localFile`.
    package func read() async throws -> [UInt8] {
        let descriptor = self.descriptor
        let name = self.name
        return try await NIOThreadPool.singleton.runIfActive {
            while true {
                var count = 0
                let bytes = [UInt8](unsafeUninitializedCapacity: Self.chunkBytes) { buffer, initialized in
                    count = Foundation.read(descriptor, buffer.baseAddress, buffer.count)
                    initialized = max(0, count)
                }
                if count >= 0 { return bytes }
                guard errno == EINTR else {
                    throw ClientError(
                        .localFile,
                        "cannot read \(name): \(String(cString: strerror(errno)).lowercased())"
                    )
                }
            }
        }
    }
}

/// Cuts a stream of chunks into lines; pure.
package struct LineCutter: Sendable {
    private var rest: [UInt8] = []
    /// Bytes of `rest` that are known to hold no line feed.
    private let bytesMax: Int

    /// - Parameter bytesMax: A longer line is handed out cut off, so that whoever gets it refuses it.
    package init(bytesMax: Int) { self.bytesMax = bytesMax }

    /// Calls `body` with each line that `chunk` completes, without its line feed.
    package mutating func add<Failure: Error>(
        _ chunk: [UInt8],
        _ body: (ArraySlice<UInt8>) throws(Failure) -> Void
    ) throws(Failure) {
        var start = chunk.startIndex
        while let end = chunk[start...].firstIndex(of: UInt8(ascii: "\n")) {
            if self.rest.isEmpty {
                try body(chunk[start..<end])
            } else {
                self.rest += chunk[start..<end]
                let line = self.rest
                self.rest = []
                try body(line[...])
            }
            start = end + 1
        }
        self.rest += chunk[start...]
        if self.rest.count > self.bytesMax {
            let line = self.rest
            self.rest = []
            try body(line[...])
        }
    }

    /// Calls `body` with what follows the last line feed, if anything.
    package mutating func finish<Failure: Error>(
        _ body: (ArraySlice<UInt8>) throws(Failure) -> Void
    ) throws(Failure) {
        guard !self.rest.isEmpty else { return }
        let line = self.rest
        self.rest = []
        try body(line[...])
    }
}
