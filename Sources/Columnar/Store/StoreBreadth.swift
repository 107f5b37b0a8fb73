internal import Glibc
internal import Synchronization

/// How many threads work on a query of a store, which grows with the store's file.
final class StoreBreadth: Sendable {
    private let path: String?
    private let threadsMax: Int
    private let parallelBytesMin: Int
    private let isWide: Atomic<Bool>

    /// - Parameter path: The store's file; nil: it is in memory.
    init(path: String?, _ configuration: ColumnarConfiguration) {
        self.path = path
        self.threadsMax = configuration.threads
        self.parallelBytesMin = configuration.parallelBytesMin
        self.isWide = Atomic(path.map { Self.bytes(of: $0) >= configuration.parallelBytesMin } ?? true)
    }

    /// Threads of an instance that is opened now.
    var threads: Int { self.isWide.load(ordering: .relaxed) ? self.threadsMax : 1 }

    /// Gives the store its threads when its file has grown enough; costs one system call until then.
    func grow(_ connection: EngineConnection) throws {
        guard self.threadsMax > 1, !self.isWide.load(ordering: .relaxed), let path = self.path,
            Self.bytes(of: path) >= self.parallelBytesMin
        else { return }
        try connection.execute("SET GLOBAL threads = \(self.threadsMax)", doing: "use more threads")
        self.isWide.store(true, ordering: .relaxed)
    }

    private static func bytes(of path: String) -> Int {
        var status = stat()
        return unsafe stat(path, &status) == 0 ? Int(status.st_size) : 0
    }
}
