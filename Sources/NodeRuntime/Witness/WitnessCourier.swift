internal import AuditLedger
internal import Foundation
internal import HTTPTypes
internal import Laboratory
internal import Logging
internal import NIOCore
internal import Primitives
internal import Storage
internal import Synchronization
internal import Transport

/// How many of which witnesses must have cosigned.
struct WitnessPolicy: Sendable {
    var keys: [NoteVerifierKey] = []
    var needed = 0

    /// Whether enough have; never when none is needed.
    func isMet(by note: SignedCheckpoint) -> Bool {
        let count = self.keys.count { key in note.note.signatures.contains { $0.names(key) } }
        return self.needed > 0 && count >= self.needed
    }
}

/// Takes checkpoints that a majority has signed to the witnesses, and brings back their cosignatures.
///
/// Checkpoints are published whatever the witnesses do; how far they are is seen in the cluster's status and metrics.
/// Works for the organizations whose group this node leads.
final class WitnessCourier: Sendable {
    /// How long a witness may take.
    static let timeout = Duration.seconds(10)
    /// Bytes of an answer: a few signatures.
    static let answerBytesMax = 16 << 10

    /// An answer of a witness.
    struct Reply: Sendable {
        let status: Int
        let body: [UInt8]
    }

    /// One witness and how to reach it.
    struct Witness: Sendable {
        let url: String
        let key: NoteVerifierKey
        let post: @Sendable ([UInt8]) async throws -> Reply
    }

    /// What the node says of one witness.
    struct Status: Sendable, Equatable {
        let name: String
        let url: String
        let condition: WitnessQueue.Condition
        let pending: Int
    }

    let witnesses: [Witness]
    let policy: WitnessPolicy
    private let service: CheckpointService
    private let queues: Mutex<[WitnessQueue]>
    private let signals: AsyncStream<Void>
    private let signal: AsyncStream<Void>.Continuation

    init(
        witnesses: [Witness],
        policy: WitnessPolicy,
        service: CheckpointService,
        pace: WitnessQueue.Pace = WitnessQueue.Pace()
    ) {
        self.witnesses = witnesses
        self.policy = policy
        self.service = service
        self.queues = Mutex(witnesses.map { _ in WitnessQueue(pace: pace) })
        (self.signals, self.signal) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
    }

    var status: [Status] {
        let queues = self.queues.withLock { $0 }
        return zip(self.witnesses, queues).map { witness, queue in
            Status(
                name: witness.key.name.description,
                url: witness.url,
                condition: queue.condition,
                pending: queue.pendingCount
            )
        }
    }

    /// A checkpoint was stored that a majority has signed.
    func published(_ entry: OrganizationEntry, _ checkpoint: StoredCheckpoint) {
        guard !self.witnesses.isEmpty, !checkpoint.isWitnessed else { return }
        let now = self.service.ports.now()
        self.queues.withLock { queues in
            for place in queues.indices { queues[place].published(entry.id, size: checkpoint.size, at: now) }
        }
        self.signal.yield()
    }

    /// Works until cancelled.
    func run() async {
        guard !self.witnesses.isEmpty else { return }
        let ports = self.service.ports
        await withDiscardingTaskGroup { group in
            group.addTask { await self.lookAtStart() }
            var armed: Duration?
            for await _ in self.signals {
                let now = ports.now()
                let (jobs, again) = self.queues.withLock { queues in
                    let jobs = queues.indices.map { queues[$0].next(at: now) }
                    return (jobs, queues.compactMap(\.again).min())
                }
                for (place, job) in jobs.enumerated() {
                    guard let job else { continue }
                    group.addTask {
                        await self.perform(job, place)
                        self.signal.yield()
                    }
                }
                if let time = armed, time <= now { armed = nil }
                guard let again, armed.map({ again < $0 }) ?? true else { continue }
                armed = again
                group.addTask {
                    await ports.sleep(max(.milliseconds(1), again - now))
                    self.signal.yield()
                }
            }
            group.cancelAll()
        }
    }

    /// Finds the checkpoints that were not witnessed before the node stopped.
    private func lookAtStart() async {
        let rows = self.service.rows
        var next: [UInt8]? = []
        while let from = next, !Task.isCancelled {
            do {
                let (found, rest) = try await self.service.threads.run {
                    try rows.unwitnessed(from: from, limit: CheckpointService.startBatchMax)
                }
                for (organization, checkpoint) in found {
                    guard let entry = self.service.ports.entry(organization) else { continue }
                    self.published(entry, checkpoint)
                }
                next = rest
            } catch {
                self.service.logger.warning(
                    "checkpoints without witnesses cannot be found",
                    metadata: ["error.chain": "\(errorChain(error))"]
                )
                return
            }
        }
    }

    // MARK: One checkpoint

    private func finish(_ place: Int, _ change: (inout WitnessQueue, Duration) -> Void) {
        let now = self.service.ports.now()
        self.queues.withLock { change(&$0[place], now) }
    }

    private func count(_ witness: Witness, _ outcome: CheckpointMetrics.WitnessOutcome) {
        self.service.metrics.witness(witness.key.name.description, outcome)
    }

    private func perform(_ job: WitnessQueue.Job, _ place: Int) async {
        let witness = self.witnesses[place]
        guard let entry = self.service.ports.entry(job.organization), self.service.ports.serves(entry),
            let quorum = self.service.ports.leads(entry.group)
        else { return self.finish(place) { queue, _ in queue.dropped() } }
        let reply: Reply
        let request: WitnessRequest
        do {
            request = try await self.request(job, entry)
        } catch {
            self.log("a checkpoint cannot be given to a witness", witness, entry, error)
            return self.finish(place) { queue, now in queue.refused(at: now) }
        }
        do {
            reply = try await witness.post(request.encoded)
        } catch {
            self.count(witness, .unreachable)
            self.log("a witness does not answer", witness, entry, error)
            return self.finish(place) { queue, now in queue.unreachable(at: now) }
        }
        await self.take(reply, to: request, by: witness, place, entry, quorum)
    }

    private func request(_ job: WitnessQueue.Job, _ entry: OrganizationEntry) async throws -> WitnessRequest {
        let rows = self.service.rows
        return try await self.service.threads.run {
            guard let stored = try rows.checkpoint(of: entry.id, size: job.size) else {
                throw Problem(.checkpointNotFound, "the checkpoint is not stored")
            }
            let note = try SignedCheckpoint(parsing: stored.note)
            let reader = LedgerReader(store: rows.store, organization: entry.id)
            let proof = try ConsistencyProof.build(from: job.oldSize, to: job.size, nodes: reader)
            return WitnessRequest(oldSize: job.oldSize, path: proof.path, checkpoint: note)
        }
    }

    private func take(
        _ reply: Reply,
        to request: WitnessRequest,
        by witness: Witness,
        _ place: Int,
        _ entry: OrganizationEntry,
        _ quorum: SigningQuorum
    ) async {
        switch reply.status {
        case 200:
            do {
                try await self.keep(reply.body, of: request.checkpoint, by: witness, entry, quorum)
                self.count(witness, .cosigned)
                self.finish(place) { queue, now in queue.cosigned(at: now) }
            } catch {
                self.count(witness, .refused)
                self.log("a witness' cosignature is none", witness, entry, error)
                self.finish(place) { queue, now in queue.refused(at: now) }
            }
        case 409:
            self.count(witness, .conflict)
            let text = String(decoding: reply.body, as: UTF8.self).trimmingCharacters(in: .newlines)
            guard let size = UInt64(text) else { fallthrough }
            if size == request.oldSize {
                let message = "a witness knows another history of an organization"
                self.service.logger.critical(
                    "\(message)",
                    metadata: ["witness": "\(witness.key.name)", "organization.key": "\(entry.key)"]
                )
            }
            self.finish(place) { queue, now in queue.conflict(size: size, at: now) }
        default:
            self.count(witness, .refused)
            let problem = Problem(.checkpointUnavailable, "the witness answered \(reply.status)")
            self.log("a witness refuses a checkpoint", witness, entry, problem)
            self.finish(place) { queue, now in queue.refused(at: now) }
        }
    }

    /// Checks the cosignatures and stores them beside the others, here and on the other replicas.
    private func keep(
        _ lines: [UInt8],
        of note: SignedCheckpoint,
        by witness: Witness,
        _ entry: OrganizationEntry,
        _ quorum: SigningQuorum
    ) async throws {
        let text = note.checkpoint.text + [UInt8(ascii: "\n")] + lines
        let signed = try SignedCheckpoint(parsing: text)
        _ = try signed.note.verify(keys: [witness.key])
        var own = try SignedCheckpoint(note.checkpoint)
        try own.add(signed.note.signatures.filter { $0.names(witness.key) })
        let (rows, policy, kept) = (self.service.rows, self.policy, own)
        _ = try await self.service.threads.run {
            try rows.keep([(entry.id, kept, false)], isWitnessed: policy.isMet(by:))
        }
        self.service.spread(entry, size: note.checkpoint.size, to: quorum)
    }

    private func log(
        _ message: Logger.Message,
        _ witness: Witness,
        _ entry: OrganizationEntry,
        _ error: any Error
    ) {
        self.service.logger.warning(
            message,
            metadata: [
                "witness": "\(witness.key.name)", "organization.key": "\(entry.key)",
                "error.chain": "\(errorChain(error))",
            ]
        )
    }
}

extension WitnessCourier {
    /// The witnesses of a configuration, reached by HTTPS.
    /// - Throws: ``NodeError`` when one cannot be used.
    static func witnesses(
        _ configuration: NodeConfiguration,
        _ loops: any EventLoopGroup
    ) throws -> [Witness] {
        try configuration.witnesses.map { witness in
            do {
                guard let address = WitnessAddress(witness.url) else {
                    throw NodeError(.configuration, "\(witness.url) is not a URL of a witness")
                }
                let tls = try ReloadableTLSContext(
                    client: TLSClientConfiguration(caFile: witness.caFile, minimumVersion: .tls12)
                )
                let pool = HTTPClientPool(client: HTTPClient(eventLoopGroup: loops, tls: tls))
                return Witness(url: witness.url, key: try NoteVerifierKey(parsing: witness.key)) { body in
                    try await self.post(body, to: address, pool)
                }
            } catch {
                throw NodeError(.configuration, "the witness \(witness.url) cannot be used", cause: error)
            }
        }
    }

    private static func post(_ body: [UInt8], to address: WitnessAddress, _ pool: HTTPClientPool) async throws -> Reply
    {
        let connection = try await pool.connection(host: address.host, port: address.port)
        let authority = NodeConfiguration.HostPort(host: address.host, port: address.port).description
        var head = HTTPRequest(
            method: .post,
            scheme: "https",
            authority: authority,
            path: address.path + "/add-checkpoint"
        )
        head.headerFields[.contentType] = "text/plain; charset=utf-8"
        head.headerFields[.userAgent] = "ftnode/\(ProductVersion.text)"
        let response = try await connection.execute(
            head,
            body: .bytes(ByteBuffer(bytes: body)),
            timeout: Self.timeout
        )
        let answer = try await response.collect(upTo: Self.answerBytesMax)
        return Reply(status: response.head.status.code, body: Array(answer.readableBytesView))
    }
}
