internal import AuditLedger
internal import Columnar
internal import Crypto
internal import Foundation
internal import Laboratory
internal import NIOCore
internal import Primitives
internal import Shards
internal import Storage
internal import SwiftProtobuf
internal import Transport

/// What clients send: values of parameters, and events.
extension APIRouter {
    func doPut(_ body: RequestBody, _ call: FlightCall) async throws -> FlightAnswer {
        var upload = FlightUpload(body, threads: self.threads)
        guard let descriptor = try await upload.descriptor(), descriptor.type == .cmd else {
            throw GRPCStatus(.invalidArgument, "the first message of DoPut must have a descriptor with a command")
        }
        switch try FlightCommand(descriptor.cmd) {
        case .prepared(let handle): return try await self.bind(handle, &upload, call)
        case .ingest(let command): return try await self.ingest(command, &upload, call)
        case .update, .preparedUpdate, .statement, .result, .catalogue:
            try await upload.drain()
            throw Self.readOnly
        }
    }

    private static func putResult(_ message: some SwiftProtobuf.Message) throws -> FlightAnswer {
        var result = FlightPutResult()
        result.appMetadata = try message.serializedData()
        return .messages([try result.framed()])
    }

    // MARK: Parameters

    private func bind(_ handle: [UInt8], _ upload: inout FlightUpload, _ call: FlightCall) async throws -> FlightAnswer
    {
        let token = call.request.token.id
        let wanted = try self.flight.prepared(handle, by: token).parameterTypes.count
        var values: [ArrowValue]?
        while let batch = try await upload.next() {
            guard batch.rowCount > 0 else { continue }
            guard values == nil, batch.rowCount == 1 else {
                throw GRPCStatus(.invalidArgument, "a query takes one row of parameters; run it once for each row")
            }
            values = batch.columns.map { Self.plain($0.value(0)) }
        }
        let count = values?.count ?? 0
        guard count == wanted else {
            throw GRPCStatus(.invalidArgument, "the statement has \(wanted) parameters; \(count) values came")
        }
        try self.flight.bind(values ?? [], to: handle, by: token)
        var result = FlightSQLDoPutPreparedStatementResult()
        result.preparedStatementHandle = Data(handle)
        return try Self.putResult(result)
    }

    /// Some clients send every value in a union of the types that they know.
    private static func plain(_ value: ArrowValue) -> ArrowValue {
        guard case .union(_, let value) = value else { return value }
        return value
    }

    // MARK: Events

    private func ingest(
        _ command: FlightSQLCommandStatementIngest,
        _ upload: inout FlightUpload,
        _ call: FlightCall
    ) async throws -> FlightAnswer {
        try FlightIngest.check(command)
        let given = try self.ingestKey(command, call)
        let standard = try self.ingestCatalog(command, call)
        var planner = ImportPlanner()
        var appended = 0
        while let batch = try await upload.next() {
            let rows = try FlightIngest(batch.schema, organization: standard)
            let parts: [ImportBatch]
            (planner, parts) = try await self.threads.run { [planner] in try Self.plan(batch, rows, planner) }
            for part in parts { appended += try await self.append(part, given, after: appended, call) }
        }
        for part in planner.finish() { appended += try await self.append(part, given, after: appended, call) }
        var result = FlightSQLDoPutUpdateResult()
        result.recordCount = Int64(appended)
        return try Self.putResult(result)
    }

    private static func plan(
        _ batch: ArrowRecordBatch,
        _ rows: FlightIngest,
        _ planner: ImportPlanner
    ) throws -> (ImportPlanner, [ImportBatch]) {
        var planner = planner
        var parts: [ImportBatch] = []
        do {
            for line in try rows.lines(batch) { parts += try planner.add(line[...]) }
        } catch let error as ImportLineError {
            throw GRPCStatus(.invalidArgument, "row \(error.line): \(error.message)")
        }
        return (planner, parts)
    }

    /// The client's own key, when it gives one: the same rows under another key are appended once more.
    private func ingestKey(_ command: FlightSQLCommandStatementIngest, _ call: FlightCall) throws -> String? {
        let keyBytesMax = 200
        guard let key = command.options["idempotency_key"] else { return try call.request.idempotencyKey() }
        guard (1...keyBytesMax).contains(key.utf8.count) else {
            throw GRPCStatus(.invalidArgument, "idempotency_key must have 1 to \(keyBytesMax) bytes")
        }
        return key
    }

    /// Where rows without an organization of their own belong.
    private func ingestCatalog(_ command: FlightSQLCommandStatementIngest, _ call: FlightCall) throws -> String? {
        if command.hasCatalog, !command.catalog.isEmpty { return command.catalog }
        if let catalog = call.session.catalog { return catalog }
        let visible = self.directory.organizations.map(\.key).filter { call.request.token.grant.sees($0) }
        return visible.count == 1 ? visible[0].rawValue : nil
    }

    /// Appends a batch once, however often it comes.
    private func append(
        _ batch: ImportBatch,
        _ given: String?,
        after appended: Int,
        _ call: FlightCall
    ) async throws -> Int {
        do {
            let entry = try await self.organization(batch.organization, for: call.request, .appendRecords)
            let limits = EventBatch.Limits(
                recordsMax: self.configuration.batchRecordsMax,
                bytesMax: self.configuration.batchBytesMax
            )
            let context = self.context(entry, call.request)
            let events = try await self.threads.run {
                try EventBatch.parseSealing(batch.bytes, limits: limits, defaults: context)
            }
            let key = given.map { Self.key($0, batch) } ?? batch.idempotencyKey
            let receipt = try await self.append(events.drafts, events.personal, batch.bytes, to: entry, key)
            return receipt.checksums.count
        } catch {
            let problem = self.noted(error, id: call.request.id, path: "DoPut", of: call.request)
            let line = (error as? EventError)?.line.flatMap {
                batch.lines.indices.contains($0 - 1) ? batch.lines[$0 - 1] : nil
            }
            let place = line.map { "row \($0): " } ?? "rows \(batch.lines.first ?? 0) to \(batch.lines.last ?? 0): "
            let status = problem.grpcStatus(requestID: call.request.id)
            throw GRPCStatus(
                status.code,
                "\(place)\(status.message); \(appended) rows before were appended: sending all again appends only the rest"
            )
        }
    }

    private static func key(_ given: String, _ batch: ImportBatch) -> String {
        var writer = ByteWriter(capacity: 300)
        writer.write(prefixed: given)
        writer.write(prefixed: batch.organization.rawValue)
        writer.write(UInt64(batch.firstOrdinal))
        return "flight-" + Hex.encode(Array(SHA256.hash(data: writer.bytes)))
    }
}

/// The messages of an upload.
struct FlightUpload {
    private var body: BodyIterator
    private var reader = GRPCFrameReader(messageBytesMax: FlightLimits.uploadMessageBytesMax)
    private var decoder: ArrowMessageDecoder
    private var first: FlightFlightData?
    private let threads: StoreThreads

    init(_ body: RequestBody, threads: StoreThreads) {
        self.body = body.makeAsyncIterator()
        self.threads = threads
        self.decoder = ArrowMessageDecoder(
            limits: ArrowStreamLimits(messageBytesMax: FlightLimits.uploadMessageBytesMax)
        )
    }

    /// What the upload is for; the first message says it.
    mutating func descriptor() async throws -> FlightFlightDescriptor? {
        self.first = try await self.message()
        return self.first.flatMap { $0.hasFlightDescriptor ? $0.flightDescriptor : nil }
    }

    /// The next rows; nil at the end.
    /// - Throws: ``GRPCStatus`` `.invalidArgument` for what is no Arrow data.
    mutating func next() async throws -> ArrowRecordBatch? {
        while true {
            var data = self.first
            self.first = nil
            if data == nil { data = try await self.message() }
            guard let data else { return nil }
            // A message with the descriptor alone, as updates have it.
            guard !data.dataHeader.isEmpty else { continue }
            var decoder = self.decoder
            let decoded: (ArrowMessageDecoder, ArrowRecordBatch?)
            do {
                decoded = try await self.threads.run { [decoder] in
                    var decoder = decoder
                    let batch = try decoder.decode(metadata: Array(data.dataHeader), body: data.dataBody)
                    return (decoder, batch)
                }
            } catch let error as ColumnarError {
                throw GRPCStatus(.invalidArgument, "malformed Arrow data: \(error.message)")
            }
            decoder = decoded.0
            self.decoder = decoder
            if let batch = decoded.1 { return batch }
        }
    }

    /// Takes what is left, up to a bound: some clients do not read an answer that ends their upload.
    mutating func drain() async throws {
        var bytes = 0
        while bytes < APIRouter.drainedBytesMax, let chunk = try await self.body.next() { bytes += chunk.readableBytes }
    }

    private mutating func message() async throws -> FlightFlightData? {
        while true {
            if let message = try self.reader.next() { return try FlightFlightData.read(message) }
            guard let bytes = try await self.nextBytes() else {
                guard self.reader.isBetweenMessages else {
                    throw GRPCStatus(.invalidArgument, "the upload ends inside of a message")
                }
                return nil
            }
            self.reader.feed(bytes)
        }
    }

    private mutating func nextBytes() async throws -> ByteBuffer? { try await self.body.next() }
}
