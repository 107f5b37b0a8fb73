internal import Columnar
internal import Foundation
internal import HTTPTypes
internal import NIOCore
internal import Primitives
internal import QueryRouter
internal import Transport

/// The head of a peer's answer to a query: where the snapshot stands, or why there is none.
enum RemoteShardResult {
    /// The error code of a refused statement, in its own words.
    static let errorHeader = HTTPField.Name(known: "flasktrack-error")
    static let messageHeader = HTTPField.Name(known: "flasktrack-message")
    /// Present when the statement ran in a worker process that ended: it may have been the statement's fault.
    static let workerEndedHeader = HTTPField.Name(known: "flasktrack-worker-ended")
    static let sequenceHeader = HTTPField.Name(known: "flasktrack-sequence")
    static let rootHeader = HTTPField.Name(known: "flasktrack-root")

    /// The worker process that ran the statement on a peer ended.
    struct WorkerEnded: Error, CustomStringConvertible {
        let node: NodeID
        var description: String { "the worker process that ran the statement on node \(self.node) ended" }
    }

    /// Why a peer gave no result, or no more of it; nil when `fields` do not say.
    static func reason(_ fields: HTTPFields?, from node: NodeID) -> QueryError? {
        guard let fields, let code = fields[self.errorHeader].flatMap(QueryError.Code.init(rawValue:)) else {
            return nil
        }
        return QueryError(
            code,
            fields[self.messageHeader]?.removingPercentEncoding ?? "refused by node \(node)",
            cause: fields[self.workerEndedHeader] == nil ? nil : WorkerEnded(node: node)
        )
    }

    /// Reads the answer up to the first rows: a peer that is lost before them is as good as none.
    /// - Throws: ``QueryError``.
    static func read(
        _ response: ClientResponse,
        of key: OrganizationKey,
        from node: NodeID
    ) async throws -> ShardResult {
        let fields = response.head.headerFields
        if let reason = self.reason(fields, from: node) { throw reason }
        guard let sequence = fields[self.sequenceHeader].flatMap(UInt64.init), let root = fields[self.rootHeader],
            let digest = Digest(hex: root)
        else { throw QueryError(.unavailable, "node \(node) gave no position") }
        var batches = RemoteBatches(body: response.body, node: node)
        let schema = try await batches.readSchema()
        let result = ShardResult(
            schema: schema,
            provenance: ShardProvenance(
                organization: key,
                sequence: SequenceNumber(sequence),
                root: digest,
                node: node
            ),
            batches: RecordBatchStream(batches)
        )
        return try await result.started()
    }
}

/// The Arrow stream of a peer's answer, decoded as it arrives; its end must be the stream's own.
struct RemoteBatches: AsyncSequence, Sendable {
    typealias Element = ArrowRecordBatch
    typealias Failure = any Error

    private let body: ResponseBody
    private let node: NodeID
    private var decoder = ArrowStreamDecoder()
    private var decoded: [ArrowRecordBatch] = []

    init(body: ResponseBody, node: NodeID) {
        self.body = body
        self.node = node
    }

    /// Reads until the schema is known.
    mutating func readSchema() async throws -> ArrowSchema {
        var bytes = self.body.makeAsyncIterator()
        while true {
            if let schema = self.decoder.schema { return schema }
            guard let next = try await bytes.next() else {
                throw RemoteShardResult.reason(self.body.trailers, from: self.node)
                    ?? QueryError(.unavailable, "the answer of node \(self.node) ends before its schema")
            }
            self.decoded += try self.decoder.feed(next.readableBytesView)
        }
    }

    struct AsyncIterator: AsyncIteratorProtocol {
        let node: NodeID
        let body: ResponseBody
        var bytes: ResponseBody.AsyncIterator
        var decoder: ArrowStreamDecoder
        var decoded: ArraySlice<ArrowRecordBatch>

        mutating func next() async throws -> ArrowRecordBatch? {
            while true {
                if let batch = self.decoded.popFirst() { return batch }
                guard let next = try await self.bytes.next() else {
                    // The format allows an end without a mark; a peer's answer without one was cut between two batches.
                    guard self.decoder.hasEnded else {
                        throw RemoteShardResult.reason(self.body.trailers, from: self.node)
                            ?? QueryError(.unavailable, "the answer of node \(self.node) was cut short")
                    }
                    return nil
                }
                self.decoded = try self.decoder.feed(next.readableBytesView)[...]
            }
        }
    }

    func makeAsyncIterator() -> AsyncIterator {
        AsyncIterator(
            node: self.node,
            body: self.body,
            bytes: self.body.makeAsyncIterator(),
            decoder: self.decoder,
            decoded: self.decoded[...]
        )
    }
}
