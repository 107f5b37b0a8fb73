internal import Primitives

/// Where an entry's payload lies, and what it must be.
struct EntryPlace: Sendable, Hashable {
    var segment: UInt64
    var offset: UInt32
    var payloadBytes: UInt32
    var checksum: UInt32
    var kind: UInt8

    /// What the entry takes of its segment.
    var sizeBytes: Int { Int(self.payloadBytes) + SegmentCoding.entryBytes }
}

/// What a segment log knows of one group.
///
/// Invariant: one place for each entry of `terms`, in order.
struct GroupLog: Sendable {
    var state = StoredState()
    var terms = TermRuns()
    /// The segment of the group's last write, which has its state.
    var stateSegment: UInt64 = 0
    /// Places of the entries after the base; the first `head` are used up.
    private var places: [EntryPlace] = []
    private var head = 0
    /// Used places at the front before they are cut off.
    private static let unusedMax = 1_024

    var entryCount: Int { self.places.count - self.head }

    func place(of index: LogIndex) -> EntryPlace? {
        guard index > self.terms.base, index <= self.terms.last else { return nil }
        return self.places[self.head + Int(index.rawValue - self.terms.base.rawValue) - 1]
    }

    mutating func append(_ place: EntryPlace, term: Term) {
        self.terms.append(term)
        self.places.append(place)
    }

    mutating func replace(_ index: LogIndex, by place: EntryPlace) {
        self.places[self.head + Int(index.rawValue - self.terms.base.rawValue) - 1] = place
    }

    /// Removes the entries at `index` and after it; hands each to `gone`.
    mutating func truncate(from index: LogIndex, _ gone: (EntryPlace) -> Void) {
        guard index <= self.terms.last else { return }
        let kept = self.head + Int(index.rawValue - self.terms.base.rawValue) - 1
        while self.places.count > kept { gone(self.places.removeLast()) }
        self.terms.truncate(from: index)
    }

    /// Removes the entries up to `index`; hands each to `gone`.
    mutating func compact(through index: LogIndex, _ gone: (EntryPlace) -> Void) {
        guard index > self.terms.base else { return }
        let count = Int(index.rawValue - self.terms.base.rawValue)
        for place in self.places[self.head..<self.head + count] { gone(place) }
        self.head += count
        self.terms.compact(through: index)
        if self.head >= Self.unusedMax, self.head * 2 >= self.places.count {
            self.places.removeFirst(self.head)
            self.head = 0
        }
    }

    /// Makes the log empty after `base`; hands each entry to `gone`.
    mutating func reset(to base: LogMark, _ gone: (EntryPlace) -> Void) {
        for place in self.places[self.head...] { gone(place) }
        self.places = []
        self.head = 0
        self.terms = TermRuns(base: base.index, term: base.term)
    }

    /// Whether an entry lies in `segment`.
    func hasEntries(in segment: UInt64) -> Bool { self.places[self.head...].contains { $0.segment == segment } }

    /// The first run of consecutive entries that lie in `segment`, as far as `bytesMax` allows but at least one.
    func run(in segment: UInt64, bytesMax: Int) -> [(index: LogIndex, term: Term, place: EntryPlace)] {
        guard let start = self.places[self.head...].firstIndex(where: { $0.segment == segment }) else { return [] }
        var found: [(index: LogIndex, term: Term, place: EntryPlace)] = []
        var index = LogIndex(self.terms.base.rawValue + UInt64(start - self.head) + 1)
        var bytes = 0
        for place in self.places[start...] {
            bytes += place.sizeBytes
            guard place.segment == segment, found.isEmpty || bytes <= bytesMax, let term = self.terms.term(at: index)
            else { break }
            found.append((index, term, place))
            index = index.next
        }
        return found
    }
}
