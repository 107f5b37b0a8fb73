internal import Primitives

/// The bytes of keys and values in the families `raftLog` and `raftState`; all integers big-endian.
///
///     raftLog    group u32 · index u64  →  checksum u32 · term u64 · kind u8 · payload
///     raftState  group u32              →  format u8 · checksum u32 · term u64 · voted u8 · vote u64 · commit u64
///                                          · last index u64 · last term u64
///
/// A checksum (CRC32C) covers the key and everything after it, so that a value found under another key is noticed.
enum RaftLogCoding {
    /// The version of both forms.
    static let format: UInt8 = 1
    /// Bytes of an entry's value before its payload.
    static let entryHeaderBytes = 13
    private static let stateBytes = 46

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

    static func index(ofKey key: [UInt8], group: GroupID) -> LogIndex? {
        var reader = ByteReader(key)
        guard key.count == 12, (try? reader.read(UInt32.self)) == group.rawValue,
            let index = try? reader.read(UInt64.self)
        else { return nil }
        return LogIndex(index)
    }

    private static func checksum(_ group: GroupID, _ entry: LogEntry) -> UInt32 {
        var checksum = CRC32C()
        checksum.update(group.rawValue)
        checksum.update(entry.index.rawValue)
        checksum.update(entry.term.rawValue)
        checksum.update(entry.kind.rawValue)
        checksum.update(entry.payload)
        return checksum.value
    }

    static func encode(_ entry: LogEntry, group: GroupID) -> [UInt8] {
        var writer = ByteWriter(capacity: Self.entryHeaderBytes + entry.payload.count)
        writer.write(Self.checksum(group, entry))
        writer.write(entry.term.rawValue)
        writer.write(entry.kind.rawValue)
        writer.write(raw: entry.payload)
        return writer.bytes
    }

    /// - Returns: nil when the bytes are not those of this entry.
    static func decodeEntry(_ bytes: [UInt8], group: GroupID, index: LogIndex) -> LogEntry? {
        var reader = ByteReader(bytes)
        guard let checksum = try? reader.read(UInt32.self), let term = try? reader.read(UInt64.self),
            let kindByte = try? reader.read(UInt8.self), let kind = LogEntry.Kind(rawValue: kindByte)
        else { return nil }
        let entry = LogEntry(index: index, term: Term(term), kind: kind, payload: Array(reader.readRest()))
        return Self.checksum(group, entry) == checksum ? entry : nil
    }

    static func encode(_ state: StoredState, group: GroupID) -> [UInt8] {
        var body = ByteWriter(capacity: Self.stateBytes)
        body.write(state.hardState.term.rawValue)
        body.write(UInt8(state.hardState.vote == nil ? 0 : 1))
        body.write(state.hardState.vote?.rawValue ?? 0)
        body.write(state.commit.rawValue)
        body.write(state.last.rawValue)
        body.write(state.lastTerm.rawValue)
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
            let term = Term(try reader.read(UInt64.self))
            let isVoted = try reader.read(UInt8.self) == 1
            let vote = NodeID(try reader.read(UInt64.self))
            let commit = LogIndex(try reader.read(UInt64.self))
            let last = LogIndex(try reader.read(UInt64.self))
            let lastTerm = Term(try reader.read(UInt64.self))
            try reader.finish("hard state")
            guard checksum.value == stored else {
                throw ConsensusError(code: .corruption, message: "hard state fails its checksum", group: group)
            }
            let hardState = HardState(term: term, vote: isVoted ? vote : nil)
            return StoredState(hardState: hardState, commit: commit, last: last, lastTerm: lastTerm)
        } catch let error as ConsensusError {
            throw error
        } catch {
            throw ConsensusError(code: .corruption, message: "hard state is cut short", group: group, cause: error)
        }
    }
}

/// What `raftState` keeps of a group: written with every append, so that a lost tail is noticed.
struct StoredState: Sendable, Hashable {
    var hardState: HardState
    var commit: LogIndex
    var last: LogIndex
    var lastTerm: Term
}
