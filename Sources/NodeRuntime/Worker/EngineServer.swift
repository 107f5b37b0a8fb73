internal import Columnar
internal import Primitives
internal import QueryRouter
internal import Synchronization

/// Answers an ``EngineQuestion`` from an engine of this process; keeps the scratch stores that its node has open.
final class EngineServer: Sendable {
    /// Scratch stores that may be open at once.
    static let scratchesMax = 1024

    private struct State {
        var scratches: [UInt64: any QueryScratch] = [:]
        var last: UInt64 = 0
    }

    private let engine: any QueryEngine
    private let state = Mutex(State())

    init(engine: any QueryEngine) { self.engine = engine }

    /// What a question is answered with.
    enum Answer: Sendable {
        case bytes([UInt8])
        case rows(StoreResult)
    }

    func answer(_ question: EngineQuestion) async throws -> Answer {
        switch question {
        case .syntaxTree(let sql): return .bytes(Array(try await self.engine.syntaxTree(of: sql).utf8))
        case .sql(let tree): return .bytes(Array(try await self.engine.sql(of: tree).utf8))
        case .describe(let sql, let schema, let origin):
            return .bytes(
                WireDescription.encode(try await self.engine.describe(sql, over: schema, origin: origin))
            )
        case .openScratch(let settings): return .bytes(try await self.open(settings))
        case .define(let scratch, let sql):
            try await self.scratch(scratch).define(sql)
            return .bytes([])
        case .append(let scratch, let table, let stream):
            var decoder = ArrowStreamDecoder()
            try await self.scratch(scratch).append(try decoder.feed(stream), to: table)
            return .bytes([])
        case .query(let scratch, let question):
            let statement = question.statement
            let result = try await self.scratch(scratch).query(
                statement.sql,
                parameters: statement.parameters,
                origin: statement.origin,
                delivery: statement.delivery,
                limits: question.limits
            )
            return .rows(
                StoreResult(
                    schema: result.schema,
                    position: .zero,
                    batches: result.batches,
                    isWhole: statement.delivery == .whole
                )
            )
        case .answer(let settings, let table, let streams, let question):
            var batches: [ArrowRecordBatch] = []
            for stream in streams {
                var decoder = ArrowStreamDecoder()
                batches += try decoder.feed(stream)
            }
            let result = try await self.engine.answer(
                question.statement.sql,
                over: TransientRows(table: table, batches: batches),
                in: settings,
                delivery: question.statement.delivery,
                limits: question.limits
            )
            return .rows(
                StoreResult(
                    schema: result.schema,
                    position: .zero,
                    batches: result.batches,
                    isWhole: question.statement.delivery == .whole
                )
            )
        case .describeScratch(let scratch, let sql, let origin):
            return .bytes(WireDescription.encode(try await self.scratch(scratch).describe(sql, origin: origin)))
        case .closeScratch(let id):
            await self.state.withLock { $0.scratches.removeValue(forKey: id) }?.close()
            return .bytes([])
        }
    }

    private func open(_ settings: ScratchSettings) async throws -> [UInt8] {
        guard self.state.withLock({ $0.scratches.count < Self.scratchesMax }) else {
            throw ColumnarError(.busy, "\(Self.scratchesMax) queries gather rows already")
        }
        let scratch = try await self.engine.openScratch(settings)
        let id = self.state.withLock { state in
            state.last += 1
            state.scratches[state.last] = scratch
            return state.last
        }
        var writer = ByteWriter(capacity: 8)
        writer.write(id)
        return writer.bytes
    }

    private func scratch(_ id: UInt64) throws -> any QueryScratch {
        guard let scratch = self.state.withLock({ $0.scratches[id] }) else {
            throw ColumnarError(.closed, "there is no such scratch store")
        }
        return scratch
    }
}
