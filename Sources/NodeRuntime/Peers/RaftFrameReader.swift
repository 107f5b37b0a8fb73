internal import Consensus
internal import NIOCore
internal import Primitives

extension RaftFrame {
    /// Reads one frame's bytes (without the length); each entry's payload is copied once.
    /// - Throws: ``RaftFrameError`` for anything that is not a whole frame of `peer` for `node`.
    static func decode(_ frame: ByteBuffer, from peer: NodeID, to node: NodeID) throws(RaftFrameError) -> [HostMessage]
    {
        var result = Result<[HostMessage], RaftFrameError>.success([])
        frame.withUnsafeReadableBytes { bytes in
            var reader = RaftFrameBytes(bytes, from: peer, to: node)
            do throws(RaftFrameError) {
                result = .success(try reader.frame())
            } catch {
                result = .failure(error)
            }
        }
        return try result.get()
    }
}

/// Cuts a stream of bytes into frames: each a UInt32 length and that many bytes.
struct RaftFrameCutter {
    private var waiting = ByteBuffer()
    private let frameBytesMax: Int

    init(frameBytesMax: Int = RaftFrame.bytesMax) { self.frameBytesMax = frameBytesMax }

    /// Takes bytes and returns the frames that they complete, without their lengths.
    /// - Throws: ``RaftFrameError`` `.oversized` when a length is over the limit; the stream is of no use then.
    mutating func feed(_ bytes: ByteBuffer) throws(RaftFrameError) -> [ByteBuffer] {
        var bytes = bytes
        if self.waiting.readableBytes == 0 { self.waiting = bytes } else { self.waiting.writeBuffer(&bytes) }
        var frames: [ByteBuffer] = []
        while let length = self.waiting.getInteger(at: self.waiting.readerIndex, as: UInt32.self) {
            guard length <= self.frameBytesMax else { throw RaftFrameError(.oversized, "frame length \(length)") }
            guard self.waiting.readableBytes >= RaftFrame.lengthByteCount + Int(length) else { break }
            self.waiting.moveReaderIndex(forwardBy: RaftFrame.lengthByteCount)
            guard let frame = self.waiting.readSlice(length: Int(length)) else { break }
            frames.append(frame)
        }
        if self.waiting.readableBytes == 0 { self.waiting = ByteBuffer() } else { self.waiting.discardReadBytes() }
        return frames
    }
}

/// Reads a frame; every read is checked against the end.
private struct RaftFrameBytes {
    private let bytes: UnsafeRawBufferPointer
    private let from: NodeID
    private let to: NodeID
    private var offset = 0

    init(_ bytes: UnsafeRawBufferPointer, from: NodeID, to: NodeID) {
        self.bytes = bytes
        self.from = from
        self.to = to
    }

    private var remaining: Int { self.bytes.count - self.offset }

    private func failure(_ code: RaftFrameError.Code, _ what: String) -> RaftFrameError {
        RaftFrameError(code, what, offset: self.offset)
    }

    // MARK: Numbers and runs

    private mutating func byte(_ what: String) throws(RaftFrameError) -> UInt8 {
        guard self.offset < self.bytes.count else { throw self.failure(.truncated, what) }
        defer { self.offset += 1 }
        return self.bytes[self.offset]
    }

    private mutating func varint(_ what: String) throws(RaftFrameError) -> UInt64 {
        var value: UInt64 = 0
        var shift: UInt64 = 0
        while true {
            let byte = try self.byte(what)
            let part = UInt64(byte & 0x7F)
            guard shift < 63 || part <= 1 else { throw self.failure(.malformed, what) }
            value |= part << shift
            if byte & 0x80 == 0 { return value }
            shift += 7
            guard shift <= 63 else { throw self.failure(.malformed, what) }
        }
    }

    private mutating func number(_ what: String) throws(RaftFrameError) -> UInt64 {
        let value = try self.varint(what)
        guard value <= RaftFrame.numberMax else { throw self.failure(.malformed, what) }
        return value
    }

    private mutating func index(_ what: String) throws(RaftFrameError) -> LogIndex { LogIndex(try self.number(what)) }

    private mutating func term(_ what: String) throws(RaftFrameError) -> Term { Term(try self.number(what)) }

    private mutating func run(_ count: UInt64, _ what: String) throws(RaftFrameError) -> [UInt8] {
        guard count <= UInt64(self.remaining) else { throw self.failure(.truncated, what) }
        guard count > 0 else { return [] }
        defer { self.offset += Int(count) }
        return [UInt8](UnsafeRawBufferPointer(rebasing: self.bytes[self.offset..<self.offset + Int(count)]))
    }

    // MARK: Frames and messages

    mutating func frame() throws(RaftFrameError) -> [HostMessage] {
        let version = try self.byte("version")
        guard version == RaftFrame.version else { throw self.failure(.unknownVersion, "version \(version)") }
        let from = try self.varint("sender")
        let to = try self.varint("receiver")
        guard from == self.from.rawValue, to == self.to.rawValue else {
            throw self.failure(.wrongAddress, "from node \(from) to node \(to)")
        }
        let count = try self.varint("count of messages")
        // Each message takes two bytes at least.
        guard count <= UInt64(self.remaining) / 2 else { throw self.failure(.truncated, "\(count) messages") }
        var messages: [HostMessage] = []
        messages.reserveCapacity(Int(count))
        for _ in 0..<count { messages.append(try self.message()) }
        guard self.remaining == 0 else { throw self.failure(.malformed, "bytes after the last message") }
        return messages
    }

    private mutating func message() throws(RaftFrameError) -> HostMessage {
        let first = try self.byte("message")
        guard let kind = RaftFrame.Kind(rawValue: first & RaftFrame.kindMask) else {
            throw self.failure(.unknownKind, "message kind \(first & RaftFrame.kindMask)")
        }
        guard first & ~(RaftFrame.kindMask | RaftFrame.flag) == 0 else {
            throw self.failure(.unknownKind, "message flags")
        }
        switch kind {
        case .nodeBeat: return .beat(NodeBeat(epoch: try self.varint("epoch")))
        case .removalNotice:
            return .removed(RemovalNotice(group: try self.group(), index: try self.index("removal index")))
        default:
            let group = try self.group()
            let term = try self.term("term")
            let body = try self.body(kind, first & RaftFrame.flag != 0)
            let message = RaftMessage(from: self.from, to: self.to, term: term, body: body)
            return .raft(GroupMessage(group: group, message: message))
        }
    }

    private mutating func group() throws(RaftFrameError) -> GroupID {
        let group = try self.varint("group")
        guard group <= UInt64(UInt32.max) else { throw self.failure(.malformed, "group") }
        return GroupID(UInt32(group))
    }

    private mutating func body(_ kind: RaftFrame.Kind, _ hasFlag: Bool) throws(RaftFrameError) -> RaftMessage.Body {
        switch kind {
        case .preVoteRequest: return .preVoteRequest(try self.voteRequest(isTransfer: hasFlag))
        case .preVoteResponse: return .preVoteResponse(granted: hasFlag)
        case .voteRequest: return .voteRequest(try self.voteRequest(isTransfer: hasFlag))
        case .voteResponse:
            return .voteResponse(
                RaftMessage.VoteAnswer(
                    isGranted: hasFlag,
                    lastIndex: try self.index("last index"),
                    lastTerm: try self.term("last term")
                )
            )
        case .append: return .append(try self.append(wantsAnswer: hasFlag))
        case .appendAccepted:
            return .appendAccepted(
                RaftMessage.AppendAcceptance(
                    session: try self.index("session"),
                    beat: try self.number("beat"),
                    match: try self.index("match")
                )
            )
        case .appendRejected:
            return .appendRejected(
                RaftMessage.AppendRejection(
                    session: try self.index("session"),
                    beat: try self.number("beat"),
                    previousIndex: try self.index("previous index"),
                    hintIndex: try self.index("hint"),
                    hintTerm: try self.term("term of the hint")
                )
            )
        case .heartbeat:
            return .heartbeat(
                RaftMessage.Heartbeat(
                    session: try self.index("session"),
                    beat: try self.number("beat"),
                    commit: try self.index("commit"),
                    sleepAt: hasFlag ? try self.index("sleep") : nil
                )
            )
        case .heartbeatResponse:
            return .heartbeatResponse(
                RaftMessage.HeartbeatResponse(session: try self.index("session"), beat: try self.number("beat"))
            )
        case .snapshot: return .snapshot(try self.offer())
        case .timeoutNow: return .timeoutNow
        case .readRequest: return .readRequest(token: try self.varint("token"))
        case .readResponse:
            return .readResponse(token: try self.varint("token"), index: hasFlag ? try self.index("read index") : nil)
        case .nodeBeat, .removalNotice: throw self.failure(.unknownKind, "message of a group")
        }
    }

    private mutating func voteRequest(isTransfer: Bool) throws(RaftFrameError) -> RaftMessage.VoteRequest {
        RaftMessage.VoteRequest(
            session: try self.index("session"),
            lastIndex: try self.index("last index"),
            lastTerm: try self.term("last term"),
            commit: try self.index("commit"),
            commitTerm: try self.term("term of the commit"),
            isTransfer: isTransfer
        )
    }

    private mutating func offer() throws(RaftFrameError) -> RaftMessage.SnapshotOffer {
        let session = try self.index("session")
        let beat = try self.number("beat")
        let index = try self.index("snapshot index")
        let term = try self.term("snapshot term")
        let count = try self.varint("membership length")
        guard count <= UInt64(RaftFrame.membershipBytesMax) else { throw self.failure(.oversized, "membership") }
        let bytes = try self.run(count, "membership")
        let membership: Membership
        do {
            membership = try Membership(bytes: bytes)
        } catch {
            throw self.failure(.malformed, "membership")
        }
        return RaftMessage.SnapshotOffer(
            session: session,
            beat: beat,
            mark: SnapshotMark(index: index, term: term, membership: membership)
        )
    }

    private mutating func append(wantsAnswer: Bool) throws(RaftFrameError) -> RaftMessage.Append {
        let session = try self.index("session")
        let beat = try self.number("beat")
        let previousIndex = try self.index("previous index")
        let previousTerm = try self.term("previous term")
        let commit = try self.index("commit")
        let count = try self.varint("count of entries")
        let entryBytesMin: UInt64 = 3
        guard count <= UInt64(self.remaining) / entryBytesMin else {
            throw self.failure(.truncated, "\(count) entries")
        }
        var entries: [LogEntry] = []
        entries.reserveCapacity(Int(count))
        var index = previousIndex
        var term = previousTerm
        for _ in 0..<count {
            let raw = try self.byte("entry kind")
            guard let kind = LogEntry.Kind(rawValue: raw) else { throw self.failure(.unknownKind, "entry kind \(raw)") }
            let step = try self.number("step of the term")
            let length = try self.varint("payload length")
            let payload = try self.run(length, "payload")
            index = index.next
            term = Term(term.rawValue + step)
            guard term.rawValue <= RaftFrame.numberMax else { throw self.failure(.malformed, "term of an entry") }
            entries.append(LogEntry(index: index, term: term, kind: kind, payload: payload))
        }
        return RaftMessage.Append(
            session: session,
            beat: beat,
            previousIndex: previousIndex,
            previousTerm: previousTerm,
            entries: entries,
            commit: commit,
            wantsAnswer: wantsAnswer
        )
    }
}
