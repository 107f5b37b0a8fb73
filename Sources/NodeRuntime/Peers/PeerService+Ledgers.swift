internal import AuditLedger
internal import Columnar
internal import Consensus
internal import Foundation
internal import HTTPTypes
internal import Laboratory
internal import NIOCore
internal import NIOFoundationCompat
internal import Primitives
internal import QueryRouter
internal import Shards
internal import Storage
internal import SwiftProtobuf
internal import Transport

// What peers ask of this node's replicas of ledgers.
extension PeerService {
    /// The failure of a question about an organization whose group this node cannot read; nil when it can.
    private func missing(_ key: String, _ organization: UInt32) -> WirePeerFailure? {
        guard let key = OrganizationKey(key) else { return PeerFailureCode.malformed.wire("organization key") }
        guard let entry = self.directory.organization(key), entry.id.rawValue == organization,
            self.placement.servesHere(entry.group)
        else { return PeerFailureCode.notHosted.wire("node \(self.node) has no replica of \(key) to read now") }
        return nil
    }

    func ledger(_ request: WireLedgerRequest) async -> WireLedgerResponse {
        if let failure = self.missing(request.key, request.organization) {
            var response = WireLedgerResponse()
            response.failure = failure
            return response
        }
        let organization = OrganizationID(request.organization)
        let store = self.store
        do {
            var response = try await self.storeThreads.run {
                let reader = LedgerReader(store: try store.snapshot(), organization: organization)
                let head = try reader.head()
                var response = WireLedgerResponse()
                response.size = head.size
                response.root = Data(head.root.bytes)
                response.lastChecksum = Data(head.lastChecksum.bytes)
                response.roots = try reader.roots(at: request.rootSizes).map { Data($0.bytes) }
                response.checksums = try request.checksumSequences.map {
                    Data(try reader.checksum(at: SequenceNumber($0)).bytes)
                }
                return response
            }
            if let group = OrganizationKey(request.key).flatMap({ self.directory.organization($0)?.group }) {
                response.appliedIndex = self.host.status(of: group)?.applied.rawValue ?? 0
            }
            if let failure = self.missing(request.key, request.organization) { response.failure = failure }
            response.projectedSequence = self.projector.knownPosition(of: organization)?.rawValue ?? 0
            return response
        } catch {
            var response = WireLedgerResponse()
            response.failure = PeerFailureCode.failed.wire(errorChain(error))
            return response
        }
    }

    func verify(_ request: WireVerifyRequest) async -> WireVerifyResponse {
        var response = WireVerifyResponse()
        if let failure = self.missing(request.key, request.organization) {
            response.failure = failure
            return response
        }
        guard let entry = OrganizationKey(request.key).flatMap({ self.directory.organization($0) }) else {
            return response
        }
        guard let level = VerificationLevel(rawValue: request.level.isEmpty ? "tree" : request.level) else {
            response.failure = PeerFailureCode.malformed.wire("level of a verification")
            return response
        }
        do {
            let outcome = try await self.inspector.inspect(entry, level)
            response.size = outcome.size
            response.root = Data(outcome.root.bytes)
            response.lastChecksum = Data(outcome.lastChecksum.bytes)
            response.records = outcome.size
            response.rows = outcome.rows
            response.checkpoints = outcome.checkpoints
            if let finding = outcome.finding {
                response.finding.sequence = finding.sequence.rawValue
                response.finding.kind = finding.kind.rawValue
                response.finding.detail = finding.detail
                response.finding.place = finding.place
                await self.reporter.found(finding, in: entry)
            } else if let finding = await self.contradiction(entry) {
                // Whoever asked compares the replicas and names the record; the node stops serving of its own accord.
                await self.reporter.found(finding, in: entry)
            } else {
                await self.reporter.foundNothing(in: entry, level)
                if let marked = self.reporter.register.finding(of: entry.id) {
                    response.marked.sequence = marked.sequence.rawValue
                    response.marked.kind = marked.kind.rawValue
                    response.marked.detail = marked.detail
                    response.marked.place = marked.place
                }
            }
        } catch {
            response.failure = PeerFailureCode.failed.wire(errorChain(error))
        }
        return response
    }

    /// What a majority has signed about this replica's records, where it is another root than theirs.
    private func contradiction(_ entry: OrganizationEntry) async -> LedgerFinding? {
        let store = self.store
        for checkpoint in await self.trusted.checkpoints(of: entry) {
            let head = TreeHead(size: checkpoint.size, root: checkpoint.root)
            let finding = try? await self.storeThreads.run { () throws -> LedgerFinding? in
                let reader = LedgerReader(store: store, organization: entry.id)
                // One that is behind is no fork: replication brings the rest.
                guard try reader.head().size >= head.size else { return nil }
                return try reader.finding(against: head, source: "the root that a majority has signed")
            }
            if let finding = finding ?? nil { return finding }
        }
        return nil
    }

    // MARK: Queries

    func query(_ body: ByteBuffer, _ queries: ShardQueries) async -> ServerResponse {
        guard let request = try? WireQueryRequest(serializedBytes: Data(buffer: body)),
            let key = OrganizationKey(request.key)
        else { return ServerResponse(status: .badRequest) }
        await self.news.hear(request)
        guard let entry = self.directory.organization(key), entry.id.rawValue == request.organization else {
            return self.refusal(QueryError(.unavailable, "organization \(key) is not known on node \(self.node)"))
        }
        guard self.placement.servesHere(entry) else {
            return self.refusal(QueryError(.unavailable, "node \(self.node) has no replica of \(key) to read now"))
        }
        var requirement = ReadRequirement.eventual
        if request.latest {
            requirement = .latest
        } else if request.atLeast > 0 {
            requirement = .atLeast(SequenceNumber(request.atLeast))
        }
        let queries = request.withoutReserved ? queries.withoutReserved : queries
        do {
            let result = try await queries.queryHere(
                entry,
                statement: ShardStatement(
                    sql: request.sql,
                    parameters: try WireParameters.decode(request.parameters),
                    origin: request.generated ? .router : .user,
                    asOf: request.moment,
                    delivery: request.whole ? .whole : .streamed,
                    // What a newer program says that this one does not know: the statement alone is right too.
                    texts: request.texts.isEmpty ? nil : try? TextSearch(encoded: [UInt8](request.texts))
                ),
                requirement: requirement,
                limits: ShardQueryLimits(
                    timeLimit: .milliseconds(Int64(request.timeLimitMs)),
                    resultBytesMax: Int(clamping: request.resultBytesMax),
                    resultRowsMax: Int(clamping: request.resultRowsMax)
                )
            )
            // What fails before the first rows is told by its own code; the other side may ask another replica then.
            return self.stream(try await result.started())
        } catch {
            return self.refusal(QueryError.wrapping(error, doing: "a query on node \(self.node)"))
        }
    }

    func tables(_ request: WireTablesRequest) async -> WireTablesResponse {
        var response = WireTablesResponse()
        do {
            guard let key = OrganizationKey(request.key), let entry = self.directory.organization(key),
                entry.id.rawValue == request.organization, self.placement.servesHere(entry)
            else {
                throw QueryError(.unavailable, "node \(self.node) has no replica of \(request.key) to read now")
            }
            let tables = try await self.queries.tablesHere(entry, isCurrent: request.current)
            response.tables = Data(tables.encoded())
        } catch {
            let failure = QueryError.wrapping(error, doing: "listing the tables on node \(self.node)")
            response.code = failure.code.rawValue
            response.message = String(decoding: failure.message.utf8.prefix(Self.messageBytesMax), as: UTF8.self)
        }
        return response
    }

    private func stream(_ result: ShardResult) -> ServerResponse {
        let fields: HTTPFields = [
            RemoteShardResult.sequenceHeader: String(result.provenance.sequence.rawValue),
            RemoteShardResult.rootHeader: result.provenance.root.hex,
        ]
        return ServerResponse(
            status: .ok,
            headerFields: fields,
            body: .stream { writer in
                let encoder = ArrowStreamEncoder(schema: result.schema)
                try await writer.write(ByteBuffer(bytes: encoder.schemaMessage()))
                do {
                    for try await batch in result.batches {
                        try await writer.write(ByteBuffer(bytes: try encoder.message(for: batch)))
                    }
                } catch let error where !(error is TransportError) {
                    // Without the stream's own end mark the rows that came are no result; this says why.
                    return self.reason(QueryError.wrapping(error, doing: "a query on node \(self.node)"))
                }
                try await writer.write(ByteBuffer(bytes: encoder.endOfStream()))
                return nil
            }
        )
    }

    private func refusal(_ error: QueryError) -> ServerResponse {
        ServerResponse(status: .ok, headerFields: self.reason(error))
    }

    private func reason(_ error: QueryError) -> HTTPFields {
        // Cut before it is encoded, so that no escape is cut in two.
        let text = String(decoding: error.message.utf8.prefix(Self.messageBytesMax), as: UTF8.self)
        let message = text.addingPercentEncoding(withAllowedCharacters: .alphanumerics) ?? ""
        var fields: HTTPFields = [
            RemoteShardResult.errorHeader: error.code.rawValue,
            RemoteShardResult.messageHeader: message,
        ]
        if error.hasEndedItsWorker { fields[RemoteShardResult.workerEndedHeader] = "1" }
        return fields
    }
}
