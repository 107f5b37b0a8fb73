internal import Primitives

/// Which checkpoint one witness is given next; pure.
///
/// Of every organization only the newest checkpoint matters. One request at a time; a witness that does not answer is
/// left alone for a while, whatever is waiting for it.
struct WitnessQueue: Sendable {
    /// How fast and how long.
    struct Pace: Sendable {
        /// Between two checkpoints of one organization.
        var interval = Duration.seconds(1)
        /// After a failure; doubles up to ``backoffMax``.
        var backoffFirst = Duration.seconds(1)
        var backoffMax = Duration.seconds(60)
        /// Answers of other sizes that one checkpoint may lead to.
        var conflictsMax = 3
    }

    /// What came of the last request.
    enum Condition: String, Sendable {
        case untried = ""
        case ok
        case unreachable
        case refused
    }

    /// A checkpoint to be cosigned.
    struct Job: Sendable, Equatable {
        let organization: OrganizationID
        /// What the witness is thought to have cosigned last.
        let oldSize: UInt64
        let size: UInt64
    }

    let pace: Pace
    private var due = DueQueue<OrganizationID>()
    /// The newest checkpoint of each organization that the witness has not cosigned.
    private var wanted: [OrganizationID: UInt64] = [:]
    /// What the witness is known to have cosigned.
    private var known: [OrganizationID: UInt64] = [:]
    private var conflicts = 0
    private var job: Job?
    private var failures = 0
    private var quietUntil = Duration.zero
    private(set) var condition = Condition.untried

    init(pace: Pace = Pace()) { self.pace = pace }

    /// Organizations whose newest checkpoint it has not cosigned.
    var pendingCount: Int { self.wanted.count }

    /// A checkpoint was signed by a majority.
    mutating func published(_ organization: OrganizationID, size: UInt64, at now: Duration) {
        guard self.known[organization].map({ $0 < size }) ?? true else { return }
        let isNew = self.wanted[organization] == nil
        self.wanted[organization] = max(self.wanted[organization] ?? 0, size)
        if isNew { self.due.push(organization, at: now) }
    }

    /// The next job; nil while one is under way, or when nothing is due.
    mutating func next(at now: Duration) -> Job? {
        guard self.job == nil, now >= self.quietUntil else { return nil }
        while let organization = self.due.pop(at: now) {
            guard let size = self.wanted[organization] else { continue }
            let job = Job(organization: organization, oldSize: min(self.known[organization] ?? 0, size), size: size)
            self.job = job
            return job
        }
        return nil
    }

    /// When to ask again at the latest; nil when only an event can bring something.
    var again: Duration? {
        guard self.job == nil else { return nil }
        return self.due.first.map { max($0, self.quietUntil) }
    }

    /// The witness has cosigned the job's checkpoint.
    mutating func cosigned(at now: Duration) {
        guard let job = self.take(.ok) else { return }
        self.known[job.organization] = job.size
        self.conflicts = 0
        self.settle(job.organization, at: now + self.pace.interval)
    }

    /// The witness has cosigned another size last.
    mutating func conflict(size: UInt64, at now: Duration) {
        guard let job = self.take(.ok) else { return }
        self.known[job.organization] = size
        self.conflicts += 1
        // The same size with another root, or sizes that do not settle: not for us to solve by asking again.
        guard size != job.oldSize, self.conflicts <= self.pace.conflictsMax else { return self.refuse(job, now) }
        self.settle(job.organization, at: now)
    }

    /// The witness does not want the job's checkpoint.
    mutating func refused(at now: Duration) {
        if let job = self.take(.refused) { self.refuse(job, now) }
    }

    /// The witness does not answer.
    mutating func unreachable(at now: Duration) {
        guard let job = self.take(.unreachable) else { return }
        self.failures += 1
        self.quietUntil = now + min(self.pace.backoffMax, self.pace.backoffFirst * (1 << min(self.failures - 1, 10)))
        self.due.push(job.organization, at: self.quietUntil)
    }

    /// The job's organization is another node's affair now.
    mutating func dropped() {
        guard let job = self.job else { return }
        self.job = nil
        self.wanted[job.organization] = nil
    }

    private mutating func take(_ condition: Condition) -> Job? {
        guard let job = self.job else { return nil }
        self.job = nil
        self.condition = condition
        if condition != .unreachable { self.failures = 0 }
        return job
    }

    private mutating func refuse(_ job: Job, _ now: Duration) {
        self.condition = .refused
        self.conflicts = 0
        self.due.push(job.organization, at: now + self.pace.backoffMax)
    }

    private mutating func settle(_ organization: OrganizationID, at time: Duration) {
        guard let wanted = self.wanted[organization] else { return }
        if let known = self.known[organization], known >= wanted {
            self.wanted[organization] = nil
        } else {
            self.due.push(organization, at: time)
        }
    }
}
