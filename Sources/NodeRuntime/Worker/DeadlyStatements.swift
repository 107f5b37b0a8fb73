internal import Primitives
internal import QueryRouter
internal import Shards
internal import Synchronization

/// Statements that were running when their worker process ended: who repeats one would end the next process too, and with
/// it the statements of others. Pure: moments come in as values.
///
/// A statement that ran alone when its process ended is under suspicion twice as much as one that ran beside others.
/// One under full suspicion is refused for a while, then tried again; one that comes to its end is cleared.
struct DeadlyStatements<Instant: InstantProtocol> where Instant.Duration == Duration {
    /// Most statements that are remembered; beyond, the one whose process ended first is forgotten.
    static var entriesMax: Int { 256 }
    /// How long a statement is refused.
    static var refusedFor: Duration { .seconds(60) }
    /// Ends within this time are one: a statement over several organizations runs in several processes.
    static var oneIncident: Duration { .seconds(2) }
    /// How long suspicion lasts.
    static var rememberedFor: Duration { .seconds(600) }
    /// Suspicion by one end of a process, and from which a statement is refused: two ends alone.
    static var suspicion: (alone: Int, beside: Int, full: Int) { (2, 1, 4) }

    private struct Entry {
        var suspicion: Int
        var last: Instant
    }

    private var entries: [Digest: Entry] = [:]

    /// Statements that are remembered.
    var count: Int { self.entries.count }

    /// A process ended while these ran, each once however often it ran there.
    mutating func ended(with statements: Set<Digest>, at now: Instant) {
        let more = statements.count == 1 ? Self.suspicion.alone : Self.suspicion.beside
        for statement in statements {
            var entry = self.entries[statement] ?? Entry(suspicion: 0, last: now)
            let pause = entry.last.duration(to: now)
            if entry.suspicion > 0, pause < Self.oneIncident { continue }
            if pause >= Self.rememberedFor { entry.suspicion = 0 }
            entry.suspicion = min(entry.suspicion + more, Self.suspicion.full)
            entry.last = now
            self.entries[statement] = entry
        }
        while self.entries.count > Self.entriesMax {
            guard let oldest = self.entries.min(by: { $0.value.last < $1.value.last }) else { return }
            self.entries[oldest.key] = nil
        }
    }

    /// A statement came to its end without harm.
    mutating func clear(_ statement: Digest) { self.entries[statement] = nil }

    /// How long a statement is still refused; nil: it may run.
    func refusal(of statement: Digest, at now: Instant) -> Duration? {
        guard let entry = self.entries[statement], entry.suspicion >= Self.suspicion.full else { return nil }
        let left = Self.refusedFor - entry.last.duration(to: now)
        return left > .zero ? left : nil
    }
}

/// The memory of a node's workers; safe to use from any task.
final class StatementMemory: Sendable {
    private let state = Mutex(DeadlyStatements<ContinuousClock.Instant>())
    private let now: @Sendable () -> ContinuousClock.Instant

    init(now: @escaping @Sendable () -> ContinuousClock.Instant = { NodeClock.monotonic.now }) { self.now = now }

    /// - Throws: ``QueryError`` `.quarantined`.
    func check(_ statement: Digest) throws(QueryError) {
        let now = self.now()
        guard let left = self.state.withLock({ $0.refusal(of: statement, at: now) }) else { return }
        throw QueryError(
            .quarantined,
            "the process that ran this statement ended each of the last times; the statement is refused for another "
                + "\(left.components.seconds + 1) s"
        )
    }

    func ended(with statements: Set<Digest>) {
        guard !statements.isEmpty else { return }
        let now = self.now()
        self.state.withLock { $0.ended(with: statements, at: now) }
    }

    func clear(_ statement: Digest) {
        self.state.withLock { memory in
            if memory.count > 0 { memory.clear(statement) }
        }
    }
}

extension ShardStatement {
    /// Which statement it is, with its values; nil when a value has no form on the wire.
    var digest: Digest? {
        guard let parameters = try? WireParameters.encode(self.parameters) else { return nil }
        return sha256(Array(self.sql.utf8) + [0] + Array(parameters))
    }
}
