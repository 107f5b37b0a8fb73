internal import Consensus
internal import Primitives
internal import Synchronization

/// The disk of a virtual node: what survives a restart.
struct VirtualDisk: Sendable {
    /// The log begins after this entry.
    var base: (index: LogIndex, term: Term) = (.zero, .zero)
    /// Consecutive, the first at `base.index` + 1.
    var entries: [LogEntry] = []
    var hardState = HardState()
    var commit = LogIndex.zero

    var last: LogIndex { LogIndex(self.base.index.rawValue + UInt64(self.entries.count)) }

    func entry(at index: LogIndex) -> LogEntry? {
        guard index > self.base.index, index <= self.last else { return nil }
        return self.entries[Int(index.rawValue - self.base.index.rawValue) - 1]
    }

    mutating func truncate(from index: LogIndex) {
        guard index <= self.last else { return }
        let kept = index > self.base.index ? Int(index.rawValue - self.base.index.rawValue) - 1 : 0
        self.entries.removeSubrange(kept...)
    }

    mutating func append(_ new: [LogEntry]) {
        guard let first = new.first else { return }
        self.truncate(from: first.index)
        precondition(self.last.next == first.index, "the core gives out entries without a gap")
        self.entries.append(contentsOf: new)
    }

    mutating func reset(to index: LogIndex, term: Term) {
        self.base = (index, term)
        self.entries = []
    }

    /// Drops the entries up to `index`.
    mutating func compact(through index: LogIndex) {
        guard index > self.base.index, let last = self.entry(at: index) else { return }
        self.entries.removeFirst(Int(index.rawValue - self.base.index.rawValue))
        self.base = (index, last.term)
    }
}

/// A disk that a core can read entries from.
final class VirtualDiskOwner: LogReader {
    private let disk = Mutex(VirtualDisk())

    func with<Result: Sendable>(_ body: (inout sending VirtualDisk) -> sending Result) -> Result {
        self.disk.withLock(body)
    }

    var contents: VirtualDisk { self.disk.withLock { $0 } }

    func entries(
        from first: LogIndex,
        through last: LogIndex,
        bytesMax: Int
    ) throws(ConsensusError) -> [LogEntry] {
        let disk = self.contents
        var found: [LogEntry] = []
        var bytes = 0
        var index = first
        while index <= last, let entry = disk.entry(at: index) {
            bytes += entry.payload.count
            if !found.isEmpty, bytes > bytesMax { break }
            found.append(entry)
            index = index.next
        }
        guard !found.isEmpty else {
            throw ConsensusError(code: .hole, message: "the virtual disk has no such entry", index: first)
        }
        return found
    }
}

/// The state machine of a virtual node: data of applied entries, one after the other.
struct Appender: Sendable, Hashable {
    /// The state after one applied entry, or as a snapshot brought it.
    struct Version: Sendable, Hashable {
        var mark: SnapshotMark
        var text: String
    }

    /// Ascending by index, never empty: the past is kept for restarts that lose a part of it.
    private(set) var versions: [Version]

    init(mark: SnapshotMark, text: String) {
        self.versions = [Version(mark: mark, text: text)]
    }

    var newest: Version { self.versions[self.versions.count - 1] }
    var applied: LogIndex { self.newest.mark.index }

    mutating func apply(_ entry: LogEntry, membership: Membership) {
        let before = self.newest
        let data = entry.kind == .commands ? ScenarioData.text(of: entry) : ""
        self.versions.append(
            Version(
                mark: SnapshotMark(index: entry.index, term: entry.term, membership: membership),
                text: before.text + data
            )
        )
    }

    /// Replaces everything.
    mutating func install(_ version: Version) { self.versions = [version] }

    /// Forgets what was applied after `index`.
    /// - Returns: Whether there is a version to go back to.
    mutating func goBack(to index: LogIndex) -> Bool {
        guard let place = self.versions.lastIndex(where: { $0.mark.index <= index }) else { return false }
        self.versions.removeSubrange((place + 1)...)
        return true
    }

    func version(at index: LogIndex) -> Version? { self.versions.last { $0.mark.index == index } }
}

/// How data of a scenario travel in entries: as their UTF-8 text, one command an entry.
enum ScenarioData {
    static func payload(_ text: String) -> [UInt8] { Array(text.utf8) }

    static func text(of entry: LogEntry) -> String {
        switch entry.kind {
        case .commands: return String(decoding: entry.payload, as: UTF8.self)
        case .empty: return ""
        case .membership:
            guard let change = try? MembershipChange(bytes: entry.payload) else { return "?" }
            return ScenarioData.text(of: change)
        }
    }

    /// As the changes are written in a scenario.
    static func text(of change: MembershipChange) -> String {
        change.steps.map { step in
            switch step {
            case .addVoter(let node): return "v\(node.rawValue)"
            case .addLearner(let node): return "l\(node.rawValue)"
            case .remove(let node): return "r\(node.rawValue)"
            }
        }.joined(separator: ",")
    }
}
