internal import AuditLedger
internal import Primitives

/// What a caller was refused or looked at: what counts as the same when it happens again.
struct AccessAct: Hashable, Sendable {
    /// What happened; the raw value is the action of its record.
    enum Kind: String, CaseIterable, Sendable {
        /// The caller's role does not allow it.
        case denied = "authorization_denied"
        /// It is of an organization of which the caller knows nothing, or outside of what anybody may do.
        case restricted = "restricted_attempt"
        /// The caller showed no valid token.
        case unknownCaller = "login_failed"
        /// Somebody who oversees the organization read what others did.
        case reading = "read_ledger"
    }

    /// What was concerned.
    enum Entity: Hashable, Sendable {
        case organization(OrganizationKey)
        /// An organization that does not exist.
        case unknownOrganization
        case cluster
        /// Many different things at once.
        case various
    }

    /// What stands for many different things at once.
    static let various = "various"

    let kind: Kind
    /// The token by which it was tried.
    let actor: Actor
    /// In whose ledger it is recorded.
    let ledger: OrganizationKey
    let entity: Entity
    /// What was tried or read: from a closed set.
    let subject: String
}

/// What goes into one record.
struct AccessEntry: Hashable, Sendable {
    let act: AccessAct
    private(set) var count: UInt64
    private(set) var firstAt: Timestamp
    private(set) var lastAt: Timestamp
    /// The last request.
    private(set) var request: RequestInfo

    init(_ act: AccessAct, count: UInt64 = 1, at time: Timestamp, by request: RequestInfo) {
        self.act = act
        self.count = count
        self.firstAt = time
        self.lastAt = time
        self.request = request
    }

    /// One that was counted earlier.
    init(_ act: AccessAct, count: UInt64, from first: Timestamp, to last: Timestamp, by request: RequestInfo) {
        self.init(act, count: count, at: first, by: request)
        self.lastAt = last
    }

    /// Adds what happened before or after.
    mutating func add(_ other: AccessEntry) {
        self.count += other.count
        self.firstAt = min(self.firstAt, other.firstAt)
        guard other.lastAt >= self.lastAt else { return }
        self.lastAt = other.lastAt
        self.request = other.request
    }
}

/// Counts refusals and readings so that each is on record and none can fill the ledger.
///
/// The first refusal of a kind is due at once. What follows is counted until its window closes and is then one entry;
/// each further window is twice as long, up to ``windowMax``, and after a window without any the next is due at once
/// again. Readings are not urgent: their first entry is due when the first window closes. What finds no row of its own
/// is counted in a row for everything else of the caller, and beyond that in one for all callers, both of which go into
/// the cluster's ledger.
///
/// Time is a value: `uptime` never goes back, and says when; `time` is what the records say.
struct AccessTally: Sendable {
    /// Rows of acts that are kept apart.
    static let rowsMax = 2048
    /// Those of one caller.
    static let rowsPerActorMax = 64
    /// The first window.
    static let windowMin = Duration.seconds(60)
    static let windowMax = Duration.seconds(3600)

    private struct Row {
        var pending: AccessEntry?
        /// The next window.
        var window: Duration
        var dueAt: Duration
    }

    /// What has come since the beginning.
    struct Counts: Hashable, Sendable {
        var noted: UInt64 = 0
        /// Those that had no entry of their own, as they were counted with others.
        var folded: UInt64 = 0
        /// Those whose entry does not name what was tried, as there were too many different things.
        var overflowed: UInt64 = 0
    }

    /// The ledger of what belongs to no organization.
    private let system: OrganizationKey
    private var rows: [AccessAct: Row] = [:]
    private var rowsByActor: [Actor: Int] = [:]
    private(set) var counts = Counts()

    init(system: OrganizationKey) { self.system = system }

    var rowCount: Int { self.rows.count }

    /// Counts an act.
    /// - Returns: Whether its entry is due now.
    mutating func note(_ act: AccessAct, at time: Timestamp, by request: RequestInfo, uptime: Duration) -> Bool {
        self.counts.noted += 1
        return self.add(AccessEntry(act, at: time, by: request), uptime: uptime, isNew: true)
    }

    /// Takes an entry back that could not be written; it is due again after the first window.
    mutating func putBack(_ entry: AccessEntry, uptime: Duration) {
        _ = self.add(entry, uptime: uptime, isNew: false)
    }

    /// The entries that are due, in the order of their first act, at most `limit` of them.
    mutating func take(limit: Int, uptime: Duration) -> [AccessEntry] {
        var due: [AccessEntry] = []
        for (act, row) in self.rows where row.dueAt <= uptime {
            if let entry = row.pending { due.append(entry) } else { self.remove(act) }
        }
        due.sort { Self.precedes($0, $1) }
        due.removeLast(max(0, due.count - limit))
        for entry in due {
            guard let row = self.rows[entry.act] else { continue }
            self.rows[entry.act] = Row(
                pending: nil,
                window: min(row.window * 2, Self.windowMax),
                dueAt: uptime + row.window
            )
        }
        return due
    }

    /// Every entry, due or not: the node stops.
    mutating func takeAll() -> [AccessEntry] {
        let entries = self.pending
        self.rows = [:]
        self.rowsByActor = [:]
        return entries
    }

    /// Every entry that is not written yet.
    var pending: [AccessEntry] { self.rows.values.compactMap(\.pending).sorted { Self.precedes($0, $1) } }

    /// When the next window closes; nil when there is none.
    var nextDue: Duration? { self.rows.values.map(\.dueAt).min() }

    // MARK: Rows

    private mutating func add(_ entry: AccessEntry, uptime: Duration, isNew: Bool) -> Bool {
        // Found once and changed in its place: every reading of an auditor comes by here.
        if let place = self.rows.index(forKey: entry.act) {
            if self.rows.values[place].pending == nil {
                self.rows.values[place].pending = entry
            } else {
                self.rows.values[place].pending?.add(entry)
                if isNew { self.counts.folded += 1 }
            }
            return self.rows.values[place].dueAt <= uptime
        }
        let act = self.place(for: entry.act)
        guard act == entry.act else {
            if isNew { self.counts.overflowed += entry.count }
            return self.add(AccessEntry(act, entry), uptime: uptime, isNew: isNew)
        }
        let waits = act.kind == .reading || !isNew
        self.rows[act] = Row(
            pending: entry,
            window: Self.windowMin,
            dueAt: waits ? uptime + Self.windowMin : uptime
        )
        self.rowsByActor[act.actor, default: 0] += 1
        return !waits
    }

    /// The act itself, or what stands for it when it can have no row.
    private func place(for act: AccessAct) -> AccessAct {
        let isRest = act.subject == AccessAct.various
        if isRest, act.actor == Self.everybody { return act }
        if self.rows.count < Self.rowsMax, isRest || self.rowsByActor[act.actor, default: 0] < Self.rowsPerActorMax {
            return act
        }
        let rest = AccessAct(
            kind: act.kind,
            actor: isRest || self.rows.count >= Self.rowsMax ? Self.everybody : act.actor,
            ledger: self.system,
            entity: .various,
            subject: AccessAct.various
        )
        return self.rows[rest] != nil ? rest : self.place(for: rest)
    }

    /// Stands for callers whose acts found no row; there is one row of each kind beyond the bound.
    private static let everybody = Actor(kind: .system, id: AccessAct.various)

    private mutating func remove(_ act: AccessAct) {
        self.rows[act] = nil
        let left = self.rowsByActor[act.actor, default: 1] - 1
        self.rowsByActor[act.actor] = left == 0 ? nil : left
    }

    private static func precedes(_ left: AccessEntry, _ right: AccessEntry) -> Bool {
        if left.firstAt != right.firstAt { return left.firstAt < right.firstAt }
        func words(_ act: AccessAct) -> [String] {
            [act.kind.rawValue, act.actor.id, act.ledger.rawValue, "\(act.entity)", act.subject]
        }
        return words(left.act).lexicographicallyPrecedes(words(right.act))
    }
}

extension AccessEntry {
    /// The same for an act that stands for others.
    fileprivate init(_ act: AccessAct, _ other: AccessEntry) {
        self.init(act, count: other.count, from: other.firstAt, to: other.lastAt, by: other.request)
    }
}
