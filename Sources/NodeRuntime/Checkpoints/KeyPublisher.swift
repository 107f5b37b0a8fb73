internal import AuditLedger
internal import Logging
internal import Primitives
internal import Shards

/// Makes this node's public keys known in the cluster, and changes them.
struct KeyPublisher: Sendable {
    /// Between two attempts.
    static let pause = Duration.milliseconds(200)
    /// Between two attempts while other nodes run programs that do not know keys.
    static let upgradePause = Duration.seconds(2)
    /// The longest time for which a key stays valid beside its successor.
    static let overlapMax = Duration.seconds(366 * 86_400)

    let node: NodeID
    let cluster: String
    let keys: SigningKeys
    let directory: ShardDirectory
    let gateway: CommandGateway
    let logger: Logger

    private func text(_ key: NoteSignerKey) -> String { String(decoding: key.verifierKey.text, as: UTF8.self) }

    /// Publishes the keys of the file that are not known yet; ends when all are, or when there is none.
    func run() async {
        guard let file = self.keys.file else {
            self.logger.notice("no key for checkpoints is configured: this node signs none")
            return
        }
        self.warnOfRetired(file)
        while !Task.isCancelled {
            let state = self.directory.current
            let missing = self.keys.all.filter { key in !state.keys.contains { $0.key == self.text(key) } }
            if self.directory.isBootstrapped, missing.isEmpty { return }
            guard self.directory.isBootstrapped, state.node(self.node) != nil, state.featureLevel >= .three else {
                try? await Task.sleep(for: self.directory.isBootstrapped ? Self.upgradePause : Self.pause)
                continue
            }
            // The one in use last, so that it is the newest.
            for key in missing.reversed() { await self.publish(key) }
            try? await Task.sleep(for: Self.pause)
        }
    }

    private func publish(_ key: NoteSignerKey) async {
        do {
            try await self.submit(
                .publishKey(PublishKeyCommand(node: self.node, key: self.text(key))),
                .node(self.node)
            )
            self.logger.info("key for checkpoints published", metadata: ["key": "\(self.text(key))"])
        } catch {
            self.logger.debug("key not published yet", metadata: ["error.chain": "\(errorChain(error))"])
        }
    }

    private func warnOfRetired(_ file: SigningKeyFile) {
        let now = SystemTime.now()
        let known = self.directory.current.keys
        guard let key = self.keys.all.first, let entry = known.first(where: { $0.key == self.text(key) }),
            entry.validTo.map({ $0 < now }) ?? false
        else { return }
        self.logger.error(
            "the key for checkpoints was retired: this node signs none until it has another",
            metadata: ["file": "\(file.path)", "key": "\(entry.key)"]
        )
    }

    private func submit(_ command: Command, _ origin: CommandOrigin) async throws {
        let result = try await self.gateway.submit(command, to: .system, mayRepeat: true, origin: origin)
        if case .refused(let refusal) = result { throw Problem(refusal: refusal) }
    }

    // MARK: Rotation

    /// Makes another key, publishes it, and lets the one before be valid for `overlap` more: meanwhile both sign.
    ///
    /// The key is in its file before anybody hears of it; a call that is cut off may be repeated.
    /// - Returns: The new public key and the one before.
    /// - Throws: ``Problem`` and what the gateway throws.
    func rotate(overlap: Duration, by origin: CommandOrigin) async throws -> (key: String, previous: String) {
        guard let file = self.keys.file, let current = self.keys.all.first else {
            throw Problem(.notSigning, "node \(self.node) has no key for checkpoints")
        }
        guard self.directory.current.featureLevel >= .three else { throw Problem(refusal: .featureUnsupported) }
        let (next, keys) = try self.makeNext(file)
        try await self.submit(.publishKey(PublishKeyCommand(node: self.node, key: self.text(next))), origin)
        self.keys.replace(keys)
        let end = Timestamp(microseconds: SystemTime.now().rawValue + overlap.components.seconds * 1_000_000)
        // Also those that an earlier attempt left valid.
        for entry in self.directory.current.keys(of: self.node)
        where entry.validTo == nil && entry.key != self.text(next) {
            try await self.submit(.retireKey(RetireKeyCommand(node: self.node, key: entry.key, at: end)), origin)
        }
        if let path = file.verifierKeyPath {
            try? SigningKeyFile.writePublic(next.verifierKey, to: path, replacing: true)
        }
        self.logger.notice(
            "key for checkpoints changed",
            metadata: ["key": "\(self.text(next))", "key.previous": "\(self.text(current))", "until": "\(end)"]
        )
        return (self.text(next), self.text(current))
    }

    /// Puts a new key into the file, before those that are still valid.
    private func makeNext(_ file: SigningKeyFile) throws(Problem) -> (next: NoteSignerKey, keys: [NoteSignerKey]) {
        let now = SystemTime.now()
        let known = self.directory.current.keys(of: self.node)
        let valid = self.keys.all.filter { key in
            known.first { $0.key == self.text(key) }?.isValid(at: now) ?? false
        }
        do {
            let next = try SigningKeyFile.makeKey(cluster: self.cluster, node: self.node)
            let keys = [next] + valid.prefix(SigningKeyFile.keysMax - 1)
            try file.write(keys, replacing: true)
            return (next, keys)
        } catch {
            throw Problem(.internal, "the key file cannot be written", cause: error)
        }
    }

    /// Changes this node's key because a peer passes an operator's wish on.
    func answer(_ request: WireRotateKeyRequest, from peer: NodeID) async -> WireRotateKeyResponse {
        var response = WireRotateKeyResponse()
        do {
            let origin = CommandOrigin(actor: request.actor, kind: .apiKey, requestID: request.requestID)
            let overlap = min(Duration.seconds(Int64(request.overlapSeconds)), Self.overlapMax)
            let changed = try await self.rotate(overlap: overlap, by: origin)
            response.key = changed.key
            response.previous = changed.previous
        } catch {
            let problem = Problem.wrapping(error)
            response.problem = problem.code.rawValue
            response.detail = problem.detail
        }
        return response
    }
}
