/// Who runs now and who waits: a bounded number at once, fair between keys, in order within a key.
///
/// A key is whoever shares the machine with the others: an organization, or the token of a statement over several.
/// No key has more than its own share at once, and freed places go round the keys that wait, one each.
struct AdmissionQueue<Key: Hashable & Sendable>: Sendable {
    /// How many may run and wait.
    struct Limits: Sendable, Hashable {
        /// At once, of all keys.
        var runningMax: Int
        /// At once, of one key.
        var runningPerKeyMax: Int
        /// Waiting, of all keys.
        var waitingMax: Int
        /// Waiting, of one key.
        var waitingPerKeyMax: Int

        init(runningMax: Int, runningPerKeyMax: Int, waitingMax: Int, waitingPerKeyMax: Int) {
            precondition(min(runningMax, runningPerKeyMax) > 0 && min(waitingMax, waitingPerKeyMax) >= 0)
            self.runningMax = runningMax
            self.runningPerKeyMax = runningPerKeyMax
            self.waitingMax = waitingMax
            self.waitingPerKeyMax = waitingPerKeyMax
        }
    }

    /// What becomes of a request.
    enum Answer: Sendable, Hashable {
        case runs
        case waits
        /// Too many wait already.
        case refused
    }

    let limits: Limits
    private(set) var running = 0
    private(set) var waiting = 0
    private var runningOf: [Key: Int] = [:]
    private var waitingOf: [Key: [UInt64]] = [:]
    /// The keys that have somebody waiting; the first is next.
    private var turns: [Key] = []

    init(limits: Limits) { self.limits = limits }

    /// Asks for a place for `ticket`, which is not used twice.
    mutating func request(_ ticket: UInt64, of key: Key) -> Answer {
        if self.running < self.limits.runningMax, self.hasShare(key) {
            self.start(key)
            return .runs
        }
        let ahead = self.waitingOf[key]?.count ?? 0
        guard self.waiting < self.limits.waitingMax, ahead < self.limits.waitingPerKeyMax else { return .refused }
        if ahead == 0 { self.turns.append(key) }
        self.waitingOf[key, default: []].append(ticket)
        self.waiting += 1
        return .waits
    }

    /// Whether the request has no place yet.
    func isWaiting(_ ticket: UInt64, of key: Key) -> Bool { self.waitingOf[key]?.contains(ticket) == true }

    /// Takes back a request that waits; false when it does not wait any more.
    mutating func withdraw(_ ticket: UInt64, of key: Key) -> Bool {
        guard let place = self.waitingOf[key]?.firstIndex(of: ticket) else { return false }
        self.waitingOf[key]?.remove(at: place)
        self.waiting -= 1
        if self.waitingOf[key]?.isEmpty == true {
            self.waitingOf[key] = nil
            self.turns.removeAll { $0 == key }
        }
        return true
    }

    /// Gives back the place of one that ran; returns the tickets that run now.
    mutating func finish(_ key: Key) -> [UInt64] {
        guard let count = self.runningOf[key], count > 0 else { return [] }
        self.running -= 1
        self.runningOf[key] = count > 1 ? count - 1 : nil
        var started: [UInt64] = []
        while self.running < self.limits.runningMax,
            let turn = self.turns.firstIndex(where: { self.hasShare($0) })
        {
            let next = self.turns.remove(at: turn)
            guard let ticket = self.waitingOf[next]?.first else { continue }
            self.waitingOf[next]?.removeFirst()
            self.waiting -= 1
            if self.waitingOf[next]?.isEmpty == true {
                self.waitingOf[next] = nil
            } else {
                self.turns.append(next)
            }
            self.start(next)
            started.append(ticket)
        }
        return started
    }

    private func hasShare(_ key: Key) -> Bool { self.runningOf[key, default: 0] < self.limits.runningPerKeyMax }

    private mutating func start(_ key: Key) {
        self.running += 1
        self.runningOf[key, default: 0] += 1
    }
}
