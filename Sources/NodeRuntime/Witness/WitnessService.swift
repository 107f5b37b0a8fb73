internal import AuditLedger
internal import Crypto
internal import HTTPTypes
package import Logging
internal import NIOCore
internal import NIOPosix
internal import Primitives
internal import RocksStorage
internal import ServiceLifecycle
internal import Storage
internal import Transport
internal import UnixSignals

/// What a witness remembers: the last checkpoint of each log, and proofs of forks that it was shown.
///
/// Every call blocks; one at a time.
struct WitnessMemory: Sendable {
    private let store: any KeyValueStore

    init(store: any KeyValueStore) { self.store = store }

    /// - Throws: ``StorageError`` or ``NoteError``.
    func last(of origin: LogOrigin) throws -> SignedCheckpoint? {
        guard let value = try self.store.get(Self.key(origin), in: .checkpoints) else { return nil }
        return try SignedCheckpoint(parsing: value)
    }

    /// Keeps a checkpoint; when this returns it survives a power failure.
    /// - Throws: ``StorageError``.
    func keep(_ note: SignedCheckpoint) throws {
        var batch = WriteBatch()
        batch.put(.checkpoints, key: Self.key(note.checkpoint.origin), value: note.encoded)
        try self.store.write(batch, durability: .logged)
        try self.store.sync()
    }

    /// Keeps a proof that a log forked.
    /// - Throws: ``StorageError``.
    func keep(fork proof: ForkProof) throws {
        var batch = WriteBatch()
        batch.put(.forks, key: LedgerHash.leaf(proof.encoded).bytes, value: proof.encoded)
        try self.store.write(batch, durability: .logged)
        try self.store.sync()
    }

    /// Proofs of forks, in no order that means anything.
    /// - Throws: ``StorageError``.
    func forks() throws -> [[UInt8]] {
        let countMax = 1000
        var found: [[UInt8]] = []
        try self.store.scan(.forks, from: [], to: nil) { _, value in
            found.append(value)
            return found.count < countMax
        }
        return found
    }

    private static func key(_ origin: LogOrigin) -> [UInt8] { Array(SHA256.hash(data: origin.bytes)) }
}

/// A witness: cosigns checkpoints that continue those it has cosigned, and nothing else.
///
/// Looking, keeping and signing are one step on a thread of its own, so that no two requests can cross.
struct WitnessService: Sendable {
    /// An answer as HTTP has it.
    struct Answer: Sendable, Equatable {
        let status: Int
        let contentType: String
        let body: [UInt8]

        static func text(_ status: Int, _ text: String) -> Answer {
            Answer(status: status, contentType: "text/plain; charset=utf-8", body: Array((text + "\n").utf8))
        }
    }

    let keys: [NoteSignerKey]
    let trust: WitnessTrust
    let memory: WitnessMemory
    let thread: SerialThread
    let logger: Logger

    init(
        keys: [NoteSignerKey],
        trust: WitnessTrust,
        memory: WitnessMemory,
        thread: SerialThread,
        logger: Logger
    ) {
        self.keys = keys
        self.trust = trust
        self.memory = memory
        self.thread = thread
        self.logger = logger
    }

    /// Answers one request.
    func answer(_ body: [UInt8], timeSeconds: UInt64) async -> Answer {
        do {
            return try await self.thread.run { try self.decide(body, timeSeconds) }
        } catch {
            self.logger.error("the witness cannot keep its promise", metadata: ["error.chain": "\(errorChain(error))"])
            return .text(500, "the witness cannot write; nothing was signed")
        }
    }

    private func decide(_ body: [UInt8], _ timeSeconds: UInt64) throws -> Answer {
        let request: WitnessRequest
        do throws(NoteError) {
            request = try WitnessRequest(parsing: body)
        } catch {
            return .text(400, error.message)
        }
        let note = request.checkpoint
        let last = try self.memory.last(of: note.checkpoint.origin)
        switch WitnessRules.decide(request, trust: self.trust, last: last?.checkpoint) {
        case .cosign:
            try self.memory.keep(note)
            return try self.cosigned(note, timeSeconds)
        case .cosignAgain: return try self.cosigned(note, timeSeconds)
        case .malformed(let reason): return .text(400, reason)
        case .unknownLog: return .text(404, "no key of this log is known")
        case .notSigned: return .text(403, "no known key of the log has signed")
        case .conflict(let size): return Self.size(size)
        case .fork(let size):
            if let last { try self.remember(last, note) }
            return Self.size(size)
        case .notProven:
            self.logger.warning(
                "a checkpoint is not proven to continue the last one",
                metadata: ["log.origin": "\(note.checkpoint.origin)", "checkpoint.size": "\(note.checkpoint.size)"]
            )
            return .text(422, "the consistency proof does not hold")
        }
    }

    private static func size(_ size: UInt64) -> Answer {
        Answer(status: 409, contentType: "text/x.tlog.size", body: Array("\(size)\n".utf8))
    }

    private func remember(_ last: SignedCheckpoint, _ note: SignedCheckpoint) throws {
        let proof = try ForkProof(last, note)
        try self.memory.keep(fork: proof)
        self.logger.critical(
            "a log has signed two histories",
            metadata: ["log.origin": "\(note.checkpoint.origin)", "checkpoint.size": "\(note.checkpoint.size)"]
        )
    }

    private func cosigned(_ note: SignedCheckpoint, _ timeSeconds: UInt64) throws(NoteError) -> Answer {
        var body: [UInt8] = []
        for key in self.keys { body += try key.cosignature(over: note.checkpoint, timeSeconds: timeSeconds).line }
        return Answer(status: 200, contentType: "text/plain; charset=utf-8", body: body)
    }
}

extension WitnessService: RequestRouter {
    func route(_ head: HTTPRequest, _ connection: ConnectionInfo) -> RoutePlan {
        let path = (head.path ?? "/").split(separator: "?", maxSplits: 1).first ?? "/"
        if path == "/healthz", head.method == .get { return .immediate(ServerResponse(status: .ok)) }
        guard path.hasSuffix("/add-checkpoint") else { return .immediate(ServerResponse(status: .notFound)) }
        guard head.method == .post else {
            return .immediate(ServerResponse(status: .methodNotAllowed, headerFields: [.allow: "POST"]))
        }
        return .collected(bodyBytesMax: WitnessRequest.bytesMax) { _, body in
            let seconds = UInt64(max(0, SystemTime.now().rawValue / 1_000_000))
            let answer = await self.answer(Array(body.readableBytesView), timeSeconds: seconds)
            return ServerResponse(
                status: .init(code: answer.status),
                headerFields: [.contentType: answer.contentType],
                body: .bytes(ByteBuffer(bytes: answer.body))
            )
        }
    }
}

/// A witness as a program of its own.
package enum WitnessProgram {
    /// Serves until SIGTERM or SIGINT.
    ///
    /// - Parameters:
    ///   - tls: Certificate chain and key (PEM files); nil to speak HTTP without TLS, on the loopback address only.
    ///   - trusted: Public keys (C2SP vkeys) of logs or nodes.
    /// - Throws: ``NodeError``, ``PKIError``, ``StorageError``, ``TransportError``.
    package static func run(
        listen: NodeConfiguration.HostPort,
        tls: (certificateFile: String, keyFile: String)?,
        keyFile: String,
        trusted: [String],
        dataDirectory: String,
        logger: Logger
    ) async throws {
        let keys = try SigningKeyFile(path: keyFile).read()
        let trust: WitnessTrust
        do {
            trust = try WitnessTrust(keys: try trusted.map { try NoteVerifierKey(parsing: $0) })
        } catch {
            throw NodeError(.configuration, "a key of a log or a node cannot be used", cause: error)
        }
        guard !trust.isEmpty else { throw NodeError(.configuration, "a witness needs the key of a log or a node") }
        guard tls != nil || ["127.0.0.1", "::1"].contains(listen.host) else {
            throw NodeError(.configuration, "without TLS a witness listens on 127.0.0.1 or ::1 only")
        }
        try WholeTextFile.makeFolder(dataDirectory, for: .owner)
        let store = try NodeGround.openStore(dataDirectory)
        let thread = try SerialThread(name: "ft-witness")
        let loops = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        let service = WitnessService(
            keys: keys,
            trust: trust,
            memory: WitnessMemory(store: store),
            thread: thread,
            logger: logger
        )
        var failure: (any Error)?
        do {
            try await self.serve(service, listen, tls, loops, logger)
        } catch {
            failure = error
        }
        thread.shutdown()
        try? store.close()
        try? await loops.shutdownGracefully()
        if let failure { throw failure }
    }

    private static func serve(
        _ service: WitnessService,
        _ listen: NodeConfiguration.HostPort,
        _ tls: (certificateFile: String, keyFile: String)?,
        _ loops: MultiThreadedEventLoopGroup,
        _ logger: Logger
    ) async throws {
        let context = try tls.map {
            try ReloadableTLSContext(
                server: TLSServerConfiguration(certificateChainFile: $0.certificateFile, privateKeyFile: $0.keyFile)
            )
        }
        let server = HTTPServer(
            host: listen.host,
            port: listen.port,
            tls: context,
            eventLoopGroup: loops,
            router: service
        )
        let port = try await server.start()
        for key in service.keys {
            let text = String(decoding: key.verifierKey.text, as: UTF8.self)
            logger.info("witness key", metadata: ["key": "\(text)"])
        }
        logger.info("serving", metadata: ["listen": "\(listen.host):\(port)"])
        let group = ServiceGroup(
            services: [ServerService(server: server, logger: logger, name: "logs")],
            gracefulShutdownSignals: [.sigterm, .sigint],
            logger: logger
        )
        try await group.run()
    }
}
