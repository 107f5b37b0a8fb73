internal import Primitives

/// How much of a group's log is kept, and where it is cut.
///
/// A snapshot costs more than some entries, so a tail is kept for replicas that are a little behind; a replica that is
/// far behind must not make the log grow without end.
struct LogTail: Sendable {
    /// Bytes of all entries written by this life of the replica, at some of them.
    private var marks = Fifo<(index: LogIndex, bytes: Int)>()
    private var total = 0

    /// Marks within `logTailBytes`; the cut by bytes is as exact as this.
    private static let marksPerTail = 16

    mutating func wrote(_ entries: [LogEntry], configuration: RaftConfiguration) {
        for entry in entries { self.total += entry.costBytes }
        guard let last = entries.last else { return }
        let step = configuration.logTailBytes / Self.marksPerTail
        if self.total - (self.marks.last?.bytes ?? 0) >= max(1, step) { self.marks.append((last.index, self.total)) }
    }

    mutating func cut(from index: LogIndex) {
        while let last = self.marks.last, last.index >= index { self.marks.removeLast() }
    }

    mutating func compacted(through index: LogIndex) {
        while let first = self.marks.first, first.index <= index { self.marks.removeFirst() }
    }

    /// Whether the log is long enough that ``cut(first:last:durable:slowest:configuration:)`` may find something.
    func mayCut(first: LogIndex, last: LogIndex, configuration: RaftConfiguration) -> Bool {
        if last.rawValue.subtracting(first.rawValue) >= UInt64(configuration.logTailEntries) { return true }
        return self.total - (self.marks.first?.bytes ?? self.total) >= configuration.logTailBytes
    }

    /// - Parameters:
    ///   - first: The first entry of the log.
    ///   - durable: The last entry that the state machine holds durably; nothing after it may go.
    ///   - slowest: The last entry that the slowest replica holds which is being served, nil on a follower.
    /// - Returns: The last entry that is to go, nil while cutting is not worth it.
    func cut(
        first: LogIndex,
        last: LogIndex,
        durable: LogIndex,
        slowest: LogIndex?,
        configuration: RaftConfiguration
    ) -> LogIndex? {
        var through = durable.rawValue.subtracting(UInt64(configuration.logTailEntries))
        for mark in self.marks.elements where self.total - mark.bytes >= configuration.logTailBytes {
            through = max(through, min(mark.index, durable).rawValue)
        }
        if let slowest, slowest.rawValue < through {
            let isNear =
                last.rawValue - min(slowest, last).rawValue <= UInt64(configuration.logTailEntriesMax)
                && self.bytes(after: slowest) <= configuration.logTailBytesMax
            if isNear { through = slowest.rawValue }
        }
        guard through >= first.rawValue else { return nil }
        let step = UInt64(max(1, configuration.logTailEntries / Self.stepsPerTail))
        // Few entries are worth it too when they are large.
        let isWorthIt = through - first.rawValue >= step - 1 || self.marks(through: through) >= Self.marksPerCut
        return isWorthIt ? LogIndex(through) : nil
    }

    /// A cut takes at least this part of a tail, by entries or by bytes, so that cuts are few.
    private static let stepsPerTail = 8
    private static let marksPerCut = marksPerTail / stepsPerTail

    /// Marks up to an entry, as far as they count for a cut.
    private func marks(through index: UInt64) -> Int {
        self.marks.elements.prefix(Self.marksPerCut).count { $0.index.rawValue <= index }
    }

    private func bytes(after index: LogIndex) -> Int {
        for mark in self.marks.elements where mark.index >= index { return self.total - mark.bytes }
        return 0
    }
}

extension UInt64 {
    /// The difference, zero instead of less.
    fileprivate func subtracting(_ other: UInt64) -> UInt64 { self > other ? self - other : 0 }
}
