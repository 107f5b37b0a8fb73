internal import Primitives

/// The bytes of keys and values in the families `raftLog` and `raftState`; all integers big-endian.
///
///     raftLog    group u32 · index u64           →  checksum u32 · term u64 · kind u8 · commit u64 · payload
///     raftState  group u32                       →  format u8 · checksum u32 · flags u8 · term u64 · vote u64 · commit u64
///                                                   · base index u64 · base term u64 · last index u64 · last term u64
///                                                   · removed at u64
///     raftState  group u32 · 1 u8 · index u64    →  checksum u32 · term u64    where a term begins in the log
///
/// A checksum (CRC32C) covers the key and everything after it, so that a value found under another key is noticed.
/// `commit` in an entry is what was known when the entry was written.
enum RaftLogCoding {
    /// The version of all forms.
    static let format: UInt8 = 2
    /// Bytes of an entry's value before its payload.
    static let entryHeaderBytes = 21
    private static let stateBytes = 70
    private static let runTag: UInt8 = 1
    private static let votedFlag: UInt8 = 1
    private static let removedFlag: UInt8 = 2

    // MARK: Keys

    static func entryKey(_ group: GroupID, _ index: LogIndex) -> [UInt8] {
        var writer = ByteWriter(capacity: 12)
        writer.write(group.rawValue)
        writer.write(index.rawValue)
        return writer.bytes
    }

    static func stateKey(_ group: GroupID) -> [UInt8] {
        var writer = ByteWriter(capacity: 4)
        writer.write(group.rawValue)
        return writer.bytes
    }

    static func runKey(_ group: GroupID, _ first: LogIndex) -> [UInt8] {
        var writer = ByteWriter(capacity: 13)
        writer.write(group.rawValue)
        writer.write(Self.runTag)
        writer.write(first.rawValue)
        return writer.bytes
    }

    static func index(ofKey key: [UInt8], group: GroupID) -> LogIndex? {
        var reader = ByteReader(key)
        guard key.count == 12, (try? reader.read(UInt32.self)) == group.rawValue,
            let index = try? reader.read(UInt64.self)
        else { return nil }
        return LogIndex(index)
    }

    /// The group of a key of the family `raftState` that holds a state; nil for other keys.
    static func group(ofStateKey key: [UInt8]) -> GroupID? {
        var reader = ByteReader(key)
        guard key.count == 4, let group = try? reader.read(UInt32.self) else { return nil }
        return GroupID(group)
    }

    // MARK: Entries

    private static func checksum(_ group: GroupID, _ entry: LogEntry, _ commit: LogIndex) -> UInt32 {
        var checksum = CRC32C()
        checksum.update(group.rawValue)
        checksum.update(entry.index.rawValue)
        checksum.update(entry.term.rawValue)
        checksum.update(entry.kind.rawValue)
        checksum.update(commit.rawValue)
        checksum.update(entry.payload)
        return checksum.value
    }

    static func encode(_ entry: LogEntry, commit: LogIndex, group: GroupID) -> [UInt8] {
        var writer = ByteWriter(capacity: Self.entryHeaderBytes + entry.payload.count)
        writer.write(Self.checksum(group, entry, commit))
        writer.write(entry.term.rawValue)
        writer.write(entry.kind.rawValue)
        writer.write(commit.rawValue)
        writer.write(raw: entry.payload)
        return writer.bytes
    }

    /// - Returns: nil when the bytes are not those of this entry.
    static func decodeEntry(
        _ bytes: [UInt8],
        group: GroupID,
        index: LogIndex
    ) -> (entry: LogEntry, commit: LogIndex)? {
        var reader = ByteReader(bytes)
        guard let checksum = try? reader.read(UInt32.self), let term = try? reader.read(UInt64.self),
            let kindByte = try? reader.read(UInt8.self), let kind = LogEntry.Kind(rawValue: kindByte),
            let commit = try? reader.read(UInt64.self)
        else { return nil }
        let entry = LogEntry(index: index, term: Term(term), kind: kind, payload: Array(reader.readRest()))
        guard Self.checksum(group, entry, LogIndex(commit)) == checksum else { return nil }
        return (entry, LogIndex(commit))
    }

    // MARK: Runs of one term

    private static func runChecksum(_ key: [UInt8], _ term: Term) -> UInt32 {
        var checksum = CRC32C()
        checksum.update(key)
        checksum.update(term.rawValue)
        return checksum.value
    }

    static func encodeRun(_ term: Term, key: [UInt8]) -> [UInt8] {
        var writer = ByteWriter(capacity: 12)
        writer.write(Self.runChecksum(key, term))
        writer.write(term.rawValue)
        return writer.bytes
    }

    static func decodeRun(_ bytes: [UInt8], key: [UInt8], group: GroupID) -> (first: LogIndex, term: Term)? {
        var name = ByteReader(key)
        var reader = ByteReader(bytes)
        guard key.count == 13, (try? name.read(UInt32.self)) == group.rawValue,
            (try? name.read(UInt8.self)) == Self.runTag, let first = try? name.read(UInt64.self),
            let checksum = try? reader.read(UInt32.self), let term = try? reader.read(UInt64.self), reader.isAtEnd,
            Self.runChecksum(key, Term(term)) == checksum
        else { return nil }
        return (LogIndex(first), Term(term))
    }

    // MARK: State

    static func encode(_ state: StoredState, group: GroupID) -> [UInt8] {
        var body = ByteWriter(capacity: Self.stateBytes)
        let voted = state.hardState.vote == nil ? 0 : Self.votedFlag
        body.write(voted | (state.isRemoved ? Self.removedFlag : 0))
        body.write(state.hardState.term.rawValue)
        body.write(state.hardState.vote?.rawValue ?? 0)
        for index in [state.commit.rawValue, state.base.index.rawValue, state.base.term.rawValue] { body.write(index) }
        body.write(state.last.rawValue)
        body.write(state.lastTerm.rawValue)
        body.write(state.removedAt.rawValue)
        var checksum = CRC32C()
        checksum.update(group.rawValue)
        checksum.update(body.bytes)
        var writer = ByteWriter(capacity: Self.stateBytes)
        writer.write(Self.format)
        writer.write(checksum.value)
        writer.write(raw: body.bytes)
        return writer.bytes
    }

    static func decodeState(_ bytes: [UInt8], group: GroupID) throws(ConsensusError) -> StoredState {
        guard let format = bytes.first, format == Self.format else {
            throw ConsensusError(
                code: .incompatible,
                message: "hard state has format \(bytes.first.map { String($0) } ?? "none"), known is \(Self.format)",
                group: group
            )
        }
        do {
            var reader = ByteReader(bytes[1...])
            let stored = try reader.read(UInt32.self)
            var checksum = CRC32C()
            checksum.update(group.rawValue)
            checksum.update(bytes[5...])
            guard checksum.value == stored else {
                throw ConsensusError(code: .corruption, message: "hard state fails its checksum", group: group)
            }
            let flags = try reader.read(UInt8.self)
            let term = Term(try reader.read(UInt64.self))
            let vote = NodeID(try reader.read(UInt64.self))
            var state = StoredState()
            state.hardState = HardState(term: term, vote: flags & Self.votedFlag == 0 ? nil : vote)
            state.isRemoved = flags & Self.removedFlag != 0
            state.commit = LogIndex(try reader.read(UInt64.self))
            let base = LogIndex(try reader.read(UInt64.self))
            state.base = LogMark(index: base, term: Term(try reader.read(UInt64.self)))
            state.last = LogIndex(try reader.read(UInt64.self))
            state.lastTerm = Term(try reader.read(UInt64.self))
            state.removedAt = LogIndex(try reader.read(UInt64.self))
            try reader.finish("hard state")
            return state
        } catch let error as ConsensusError {
            throw error
        } catch {
            throw ConsensusError(code: .corruption, message: "hard state is cut short", group: group, cause: error)
        }
    }
}

/// What `raftState` keeps of a group: written whenever more than the end of the log has changed.
struct StoredState: Sendable, Hashable {
    var hardState = HardState()
    /// Later commits are in the entries written since.
    var commit: LogIndex = .zero
    /// Where the log begins: its first entry is the next one. Of a removed replica: what it knew to be committed.
    var base = LogMark.zero
    /// The end of the log when this was written; it has only grown since.
    var last: LogIndex = .zero
    var lastTerm: Term = .zero
    /// The replica is not here any more; `removedAt` says since when.
    var isRemoved = false
    /// The entry that removed the replica the last time, zero if none did.
    var removedAt: LogIndex = .zero
}
