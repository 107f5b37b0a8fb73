internal import CSandbox
internal import Columnar
internal import Foundation
internal import QueryRouter
internal import Synchronization

/// The whole life of a worker process.
package enum WorkerProcess {
    /// Whether the process was started as a worker, going by its arguments.
    package static func isWanted(_ arguments: [String]) -> Bool { arguments.dropFirst().first == WorkerLaunch.command }

    /// Serves the node that started this process, until that ends or says so; blocks the calling thread, which must be
    /// the only one of the process.
    /// - Returns: The exit code.
    package static func run() -> Int32 {
        // A node that stops wants its last statements answered; a worker ends when its socket does.
        for signal in [SIGINT, SIGTERM, SIGHUP, SIGPIPE] { Foundation.signal(signal, SIG_IGN) }
        let socket = WorkerLaunch.socketDescriptor
        var type = Int32(0)
        var length = socklen_t(MemoryLayout<Int32>.size)
        guard getsockopt(socket, SOL_SOCKET, SO_TYPE, &type, &length) == 0 else {
            return self.fail("only a node starts a worker: there is no socket", 2)
        }
        _ = ft_close_from(UInt32(socket) + 1)
        // Had the parent ended before, the socket would be at its end.
        _ = ft_die_with_parent(getppid())
        guard let hello = self.readFrame(socket), hello.kind == .hello,
            let settings = try? WorkerSettings.decode(hello.body)
        else { return self.fail("the node said nothing that a worker understands", 1) }
        // Started from /proc/self/exe, it would be listed as "exe".
        ft_name_process("ftnode-\(settings.role)")
        let report: String
        do {
            guard chdir(settings.directory) == 0 else {
                throw WorkerSandbox.Failure(step: "enter \(settings.directory)", code: errno)
            }
            report = try WorkerSandbox.enter(settings)
        } catch {
            return self.fail("the sandbox cannot be made: \(error)", 1)
        }
        let pipe = FramePipe(socket: socket, bodyBytesMax: WorkerFrame.requestBytesMax)
        pipe.send(.ready, 0, Array(report.utf8))
        self.serve(pipe, settings)
        // What still runs is nobody's concern; the stores' files are consistent at any time.
        _exit(0)
    }

    private static func serve(_ pipe: FramePipe, _ settings: WorkerSettings) {
        let threads = ColumnarThreads()
        switch settings.role {
        case .stores:
            var configuration = ColumnarConfiguration()
            configuration.memoryLimitBytes = settings.storeMemoryBytes
            configuration.threads = settings.statementThreads
            configuration.timeLimit = .milliseconds(settings.timeLimitMilliseconds)
            let stores = ColumnarStores(
                directory: settings.directory,
                threads: threads,
                configuration: configuration,
                openMax: settings.openMax
            ) { pipe.send(.tables, 0, KnownTables.encode($0)) }
            let server = WorkerServer(pipe: pipe, service: .stores(stores))
            let sweeper = StoreSweeper(stores: stores, idleSeconds: settings.idleSeconds) {
                server.note(openStores: $0)
            }
            server.run {
                sweeper.tick()
                return true
            }
        case .engine:
            // What an earlier one has left behind.
            for entry in (try? FileManager.default.contentsOfDirectory(atPath: settings.directory)) ?? [] {
                try? FileManager.default.removeItem(atPath: settings.directory + "/" + entry)
            }
            let configuration = InProcessQueryEngine.Configuration(
                memoryLimitBytes: settings.storeMemoryBytes,
                temporaryDirectory: settings.directory,
                threads: settings.statementThreads
            )
            guard let engine = self.open(configuration, threads) else { return }
            WorkerServer(pipe: pipe, service: .engine(EngineServer(engine: engine))).run()
        }
    }

    /// Opens the engine before anything is asked, on the thread that has nothing else to do.
    private static func open(
        _ configuration: InProcessQueryEngine.Configuration,
        _ threads: ColumnarThreads
    ) -> InProcessQueryEngine? {
        let opened = DispatchSemaphore(value: 0)
        let result = Mutex<Result<InProcessQueryEngine, any Error>?>(nil)
        Task {  // task-owner: waited for below
            do {
                let engine = try await InProcessQueryEngine.open(threads: threads, configuration: configuration)
                result.withLock { $0 = .success(engine) }
            } catch {
                result.withLock { $0 = .failure(error) }
            }
            opened.signal()
        }
        opened.wait()
        switch result.withLock({ $0 }) {
        case .success(let engine): return engine
        case .failure(let error): _ = self.fail("the engine cannot be opened: \(error)", 1)
        case nil: break
        }
        return nil
    }

    private static func fail(_ message: String, _ code: Int32) -> Int32 {
        FileHandle.standardError.write(Data("ftnode worker: \(message)\n".utf8))
        return code
    }

    /// Reads the first frame, waiting for it.
    private static func readFrame(_ socket: Int32) -> WorkerFrame? {
        var reader = WorkerFrameReader(bodyBytesMax: 1 << 20)
        // One byte at a time, so that nothing of the next frame is taken.
        var byte = UInt8(0)
        while true {
            let count = recv(socket, &byte, 1, 0)
            if count < 0, errno == EINTR { continue }
            guard count == 1 else { return nil }
            withUnsafeBytes(of: &byte) { reader.feed($0) }
            do {
                if let frame = try reader.next() { return frame }
            } catch {
                return nil
            }
        }
    }
}

/// Folds what came to quiet stores, and closes those that nobody uses any more; ticks come from the worker's own thread.
private final class StoreSweeper: Sendable {
    /// Seconds between two looks.
    private static let intervalSeconds = 5

    private let stores: ColumnarStores
    private let turns: UInt64
    private let ticks = Mutex(0)
    private let isSweeping = Atomic<Bool>(false)
    private let onSwept: @Sendable (Int) -> Void

    /// - Parameter onSwept: Called with the number of stores that stay open.
    init(stores: ColumnarStores, idleSeconds: Int, onSwept: @escaping @Sendable (Int) -> Void) {
        self.stores = stores
        self.onSwept = onSwept
        self.turns = UInt64(max(1, idleSeconds / Self.intervalSeconds))
    }

    func tick() {
        let isDue = self.ticks.withLock { ticks in
            ticks = (ticks + 1) % (Self.intervalSeconds * 1000 / WorkerLink.tickMilliseconds)
            return ticks == 0
        }
        guard isDue else { return }
        let (stores, turns) = (self.stores, self.turns)
        guard !self.isSweeping.exchange(true, ordering: .acquiringAndReleasing) else { return }
        Task {  // task-owner: ends by itself, and the process with it; one at a time
            await stores.foldQuiet()
            await stores.closeUnused(for: turns)
            self.onSwept(await stores.openCount)
            self.isSweeping.store(false, ordering: .releasing)
        }
    }
}
