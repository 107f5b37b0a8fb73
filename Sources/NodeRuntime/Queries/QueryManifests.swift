internal import Columnar
internal import Crypto
internal import HTTPTypes
internal import Laboratory
internal import NIOCore
internal import Primitives
internal import QueryRouter
internal import Shards
internal import Synchronization
internal import Transport

/// What there is to know of an answer that somebody took away: who asked what and when, and which bytes left the node.
///
/// The newest ones are kept in memory, under the ids of their requests, until so many newer ones have come. Safe to use
/// from any task.
final class QueryManifests: Sendable {
    /// Manifests that are kept.
    static let keptMax = 1_024
    /// Bytes of them.
    static let keptBytesMax = 16 << 20
    /// A longer manifest is no trailer: clients and proxies refuse long heads. A short one stands in for it there.
    static let trailerBytesMax = 4 << 10

    private struct State {
        var kept: [String: (token: String, json: [UInt8])] = [:]
        /// In the order in which they came; those before ``oldest`` are gone.
        var order: [String] = []
        var oldest = 0
        var bytes = 0

        mutating func dropOldest() {
            self.bytes -= self.kept.removeValue(forKey: self.order[self.oldest])?.json.count ?? 0
            self.oldest += 1
            guard self.oldest * 2 > self.order.count else { return }
            self.order.removeFirst(self.oldest)
            self.oldest = 0
        }
    }

    private let state = Mutex(State())

    /// The manifest of an answer to `token`; any token's when nil.
    func manifest(of request: String, for token: String?) -> [UInt8]? {
        self.state.withLock { state in
            guard let kept = state.kept[request], token == nil || kept.token == token else { return nil }
            return kept.json
        }
    }

    private func keep(_ json: [UInt8], of request: String, by token: String) {
        self.state.withLock { state in
            let earlier = state.kept.updateValue((token, json), forKey: request)
            state.bytes += json.count - (earlier?.json.count ?? 0)
            if earlier == nil { state.order.append(request) }
            // The newest one always stays.
            while state.kept.count > 1, state.kept.count > Self.keptMax || state.bytes > Self.keptBytesMax {
                state.dropOldest()
            }
        }
    }

    /// The same answer, whose manifest is kept once its last byte has been handed over.
    ///
    /// Where the form of the answer allows it, the manifest also follows the body as a trailer, or what tells the bytes
    /// when it is too long for that.
    func noting(_ answer: QueryAnswer, _ response: ServerResponse) -> ServerResponse {
        var response = response
        switch response.body {
        case .empty: break
        case .bytes(let bytes):
            var hash = SHA256()
            hash.update(data: bytes.readableBytesView)
            _ = self.finish(answer, bytes.readableBytes, hash)
        case .stream(let produce):
            let hasLength = response.head.headerFields[.contentLength] != nil
            response.body = .stream { writer in
                let sent = Mutex((bytes: 0, hash: SHA256()))
                let observed = writer.observed { buffer in
                    sent.withLock { sent in
                        sent.bytes += buffer.readableBytes
                        sent.hash.update(data: buffer.readableBytesView)
                    }
                }
                var trailers = try await produce(observed)
                let (bytes, hash) = sent.withLock { ($0.bytes, $0.hash) }
                let trailer = self.finish(answer, bytes, hash)
                // A length and trailers exclude each other over HTTP/1.1.
                if !hasLength {
                    if trailers == nil { trailers = [:] }
                    trailers?[.queryManifest] = String(decoding: trailer, as: UTF8.self)
                }
                return trailers
            }
        }
        return response
    }

    /// - Returns: What may be a trailer.
    private func finish(_ answer: QueryAnswer, _ bytes: Int, _ hash: SHA256) -> [UInt8] {
        let digest = Hex.encode(Array(hash.finalize()))
        let json = answer.manifest(bytes: bytes, sha256: digest)
        self.keep(json, of: answer.caller.requestID, by: answer.caller.token)
        return json.count <= Self.trailerBytesMax ? json : answer.shortManifest(bytes: bytes, sha256: digest)
    }
}

/// One answer, as its manifest describes it.
struct QueryAnswer: Sendable {
    let request: QueryRequest
    let caller: QueryCaller
    let format: ResultFormat
    let at: Timestamp
    let plan: QueryPlanKind
    let provenance: String
    let rows: RowCounter

    func manifest(bytes: Int, sha256: String) -> [UInt8] {
        var json = JSONOutput(capacity: 512 + self.request.sql.utf8.count)
        self.begin(&json)
        json.member("statement", self.request.sql)
        json.beginArray("organizations")
        for organization in self.request.organizations { json.element(organization.rawValue) }
        json.endArray()
        self.tellBytes(bytes, sha256, &json)
        json.member("provenance", raw: Array(self.provenance.utf8))
        json.endObject()
        return json.bytes
    }

    /// The manifest without what may be long: the statement, the organizations and what the answer reflects.
    func shortManifest(bytes: Int, sha256: String) -> [UInt8] {
        var json = JSONOutput(capacity: 512)
        self.begin(&json)
        self.tellBytes(bytes, sha256, &json)
        json.member("whole", "/v1/queries/\(self.caller.requestID)/manifest")
        json.endObject()
        return json.bytes
    }

    private func begin(_ json: inout JSONOutput) {
        json.beginObject()
        json.member("request_id", self.caller.requestID)
        json.member("at", self.at)
        json.beginObject("by")
        json.member("token", self.caller.token)
        json.member("name", self.caller.name)
        json.endObject()
    }

    private func tellBytes(_ bytes: Int, _ sha256: String, _ json: inout JSONOutput) {
        json.member("sees_reserved", self.caller.seesReserved)
        json.member("format", self.format.rawValue)
        json.member("rows", self.rows.count)
        json.member("bytes", bytes)
        json.member("sha256", sha256)
        json.member("plan", self.plan.rawValue)
    }
}

/// Counts the rows that pass.
final class RowCounter: Sendable {
    private let total = Atomic<Int>(0)

    var count: Int { self.total.load(ordering: .relaxed) }

    /// The same batches, counted as they are read.
    func counting(_ batches: RecordBatchStream) -> RecordBatchStream {
        RecordBatchStream(CountedBatches(batches: batches, counter: self))
    }

    fileprivate func add(_ rows: Int) { self.total.add(rows, ordering: .relaxed) }
}

private struct CountedBatches: AsyncSequence, Sendable {
    typealias Element = ArrowRecordBatch

    let batches: RecordBatchStream
    let counter: RowCounter

    struct AsyncIterator: AsyncIteratorProtocol {
        var iterator: RecordBatchStream.AsyncIterator
        let counter: RowCounter

        mutating func next() async throws -> ArrowRecordBatch? {
            let batch = try await self.iterator.next()
            if let batch { self.counter.add(batch.rowCount) }
            return batch
        }
    }

    func makeAsyncIterator() -> AsyncIterator {
        AsyncIterator(iterator: self.batches.makeAsyncIterator(), counter: self.counter)
    }
}

extension APIRouter {
    /// What is known of an answer that this node gave: to its own asker, or an operator.
    func queryManifest(_ request: APICall, _ id: String) throws(Problem) -> ServerResponse {
        try request.requireOnly(parameters: [])
        let token = request.token.grant.role == .operator ? nil : request.token.id
        guard let json = self.queries.manifests.manifest(of: id, for: token) else {
            throw Problem(.notFound, "this node has given no such answer, or many since then")
        }
        return ServerResponse(
            status: .ok,
            headerFields: [.contentType: MediaType.json.rawValue],
            body: .bytes(ByteBuffer(bytes: json))
        )
    }
}
