internal import Columnar
internal import Primitives
internal import QueryRouter
internal import Shards
internal import Synchronization

/// Answers what a node asks, in the worker process.
///
/// Each request is a task; the thread of ``run(onTick:)`` reads them and answers pings itself, however busy the others are.
final class WorkerServer: Sendable {
    private struct Running {
        let task: Task<Void, Never>
        let credit: CreditGate
    }

    private let pipe: FramePipe
    /// What it serves.
    enum Service: Sendable {
        case stores(any OrganizationStores)
        case engine(EngineServer)
    }

    private let service: Service
    private let running = Mutex<[UInt64: Running]>([:])
    private let isShuttingDown = Atomic<Bool>(false)
    private let openStores = Atomic<UInt64>(0)

    init(pipe: FramePipe, service: Service) {
        self.pipe = pipe
        self.service = service
    }

    /// Serves until the node has gone or wants the worker to end; the answer to the last request has then been sent.
    func run(onTick: () -> Bool = { true }) {
        _ = self.pipe.run(
            tickMilliseconds: WorkerLink.tickMilliseconds,
            onFrame: { self.receive($0) },
            onTick: onTick
        )
        for running in self.running.withLock({ $0.values.map { $0 } }) {
            running.task.cancel()
            running.credit.cancel()
        }
    }

    /// What the node is told with each sign of life.
    func note(openStores count: Int) { self.openStores.store(UInt64(clamping: count), ordering: .relaxed) }

    private func receive(_ frame: WorkerFrame) {
        switch frame.kind {
        case .ping:
            var writer = ByteWriter(capacity: 8)
            writer.write(self.openStores.load(ordering: .relaxed))
            self.pipe.send(.pong, 0, writer.bytes)
        case .ask: self.begin(frame)
        case .cancel:
            let running = self.running.withLock { $0[frame.request] }
            running?.task.cancel()
            running?.credit.cancel()
        case .credit:
            var reader = ByteReader(frame.body)
            guard let bytes = try? reader.read(UInt64.self) else { return }
            self.running.withLock { $0[frame.request] }?.credit.grant(Int(clamping: bytes))
        case .shutdown:
            guard !self.isShuttingDown.exchange(true, ordering: .acquiringAndReleasing) else { return }
            Task {  // task-owner: ends by itself, and the process with it
                if case .stores(let stores) = self.service { await stores.closeAll() }
                self.pipe.close()
            }
        case .hello, .ready, .pong, .done, .failed, .head, .rows, .end, .tables, .batch, .answer: break
        }
    }

    private func begin(_ frame: WorkerFrame) {
        let credit = CreditGate(bytes: ResultInbox.windowBytes)
        self.running.withLock { running in
            let task = Task {  // task-owner: `running`, until the answer is sent; cancelled by the node or at the end
                await self.answer(frame, credit)
                _ = self.running.withLock { $0.removeValue(forKey: frame.request) }
            }
            running[frame.request] = Running(task: task, credit: credit)
        }
    }

    private func answer(_ frame: WorkerFrame, _ credit: CreditGate) async {
        do {
            switch self.service {
            case .stores(let stores): try await self.answer(frame, from: stores, credit)
            case .engine(let engine):
                switch try await engine.answer(try EngineQuestion.decode(frame.body)) {
                case .bytes(let bytes): self.pipe.send(.done, frame.request, bytes)
                case .rows(let result): try await self.stream(result, frame.request, credit)
                }
            }
        } catch {
            self.pipe.send(.failed, frame.request, WorkerFailure.encode(error))
        }
    }

    private func answer(_ frame: WorkerFrame, from stores: any OrganizationStores, _ credit: CreditGate) async throws {
        switch try WorkerQuestion.decode(frame.body) {
        case .position(let organization):
            var writer = ByteWriter()
            writer.write(try await stores.position(of: organization).rawValue)
            self.pipe.send(.done, frame.request, writer.bytes)
        case .project(let organization, let records, let isUrgent):
            try await stores.project(records, to: organization, isUrgent: isUrgent)
            self.pipe.send(.done, frame.request)
        case .reset(let organization):
            try await stores.reset(organization)
            self.pipe.send(.done, frame.request)
        case .query(let organization, let question):
            try await self.stream(try await stores.query(question, of: organization), frame.request, credit)
        case .tables(let organization, let isCurrent):
            let tables = try await stores.tables(of: organization, isCurrent: isCurrent)
            self.pipe.send(.done, frame.request, tables.encoded())
        }
    }

    private func stream(_ result: StoreResult, _ request: UInt64, _ credit: CreditGate) async throws {
        let encoder = ArrowStreamEncoder(schema: result.schema)
        let head = WorkerResultHead(position: result.position.rawValue, schemaMessage: encoder.schemaMessage())
        var batches = result.batches.makeAsyncIterator()
        var waiting: [ArrowRecordBatch] = []
        // Rows that are there and few go in one frame, which nobody need grant credit for.
        if result.isWhole, let first = try await batches.next() {
            waiting.append(first)
            if first.byteCount <= WorkerFrame.answerRowsBytesMax, let second = try await batches.next() {
                waiting.append(second)
            }
        }
        if result.isWhole, waiting.count < 2,
            waiting.first.map({ $0.byteCount <= WorkerFrame.answerRowsBytesMax }) ?? true
        {
            var stream: [UInt8] = []
            for batch in waiting { stream += try encoder.message(for: batch) }
            let answer = WorkerShortAnswer(head: head, stream: stream + encoder.endOfStream())
            return self.pipe.send(.answer, request, answer.encoded())
        }
        self.pipe.send(.head, request, head.encoded())
        waiting.reverse()
        while true {
            var next = waiting.popLast()
            if next == nil { next = try await batches.next() }
            guard let batch = next else { break }
            let parts = try encoder.parts(of: batch)
            let count = WorkerBatch.frameBytes(parts)
            if count <= WorkerFrame.batchBytesMax {
                try await credit.take(count)
                self.pipe.send(parts, request)
            } else {
                try await self.send(try encoder.message(for: batch), request, credit)
            }
        }
        try await self.send(encoder.endOfStream(), request, credit)
        self.pipe.send(.end, request)
    }

    private func send(_ message: [UInt8], _ request: UInt64, _ credit: CreditGate) async throws {
        var start = 0
        while start < message.count {
            let end = min(message.count, start + WorkerFrame.rowBytesMax)
            try await credit.take(end - start)
            self.pipe.send(.rows, request, end - start == message.count ? message : Array(message[start..<end]))
            start = end
        }
    }
}

/// How much of a result may be sent before its consumer has taken more of it.
final class CreditGate: Sendable {
    private struct State {
        var bytes: Int
        var waiter: CheckedContinuation<Void, any Error>?
        var isCancelled = false
    }

    private let state: Mutex<State>

    init(bytes: Int) { self.state = Mutex(State(bytes: bytes)) }

    /// Waits until there is credit, and uses it; the last use may take more than there was. One caller at a time.
    /// - Throws: `CancellationError` when the consumer is gone.
    func take(_ bytes: Int) async throws {
        try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
            let answer = self.state.withLock { state -> Result<Void, any Error>? in
                if state.isCancelled { return .failure(CancellationError()) }
                let hasCredit = state.bytes > 0
                state.bytes -= bytes
                if hasCredit { return .success(()) }
                state.waiter = continuation
                return nil
            }
            if let answer { continuation.resume(with: answer) }
        }
    }

    func grant(_ bytes: Int) {
        let waiter = self.state.withLock { state -> CheckedContinuation<Void, any Error>? in
            let (sum, overflows) = state.bytes.addingReportingOverflow(bytes)
            state.bytes = overflows ? .max : sum
            guard state.bytes >= 0 else { return nil }
            defer { state.waiter = nil }
            return state.waiter
        }
        waiter?.resume()
    }

    func cancel() {
        let waiter = self.state.withLock { state -> CheckedContinuation<Void, any Error>? in
            state.isCancelled = true
            defer { state.waiter = nil }
            return state.waiter
        }
        waiter?.resume(throwing: CancellationError())
    }
}
