internal import Consensus
internal import NIOCore
internal import Primitives

/// The wire form of consensus messages: frames of many messages, each after its length as a UInt32.
///
/// A frame (numbers are LEB128 varints unless said otherwise):
///
///     version (1 byte) · sender · receiver · count of messages · messages
///
/// A message is one byte, kind in the low five bits and flags in the high three, then the group, the term and the
/// fields of its kind in the order of ``RaftFrameWriter`` and ``RaftFrameReader``. The entries of an append carry no
/// index (they are consecutive) and their term as the step from the one before. There is no checksum: TLS has one.
/// The version changes with any change to this form; nodes of different versions agree on one in the handshake.
enum RaftFrame {
    /// The form that this program writes, and the only one that it reads.
    static let version: UInt8 = 1
    /// Largest frame that is taken from a peer, in bytes; two of the largest entries fit.
    static let bytesMax = 64 << 20
    /// Bytes of the length before each frame.
    static let lengthByteCount = 4
    /// Bytes after which a new frame is begun, so that the receiver can start on the first while the next travels; a
    /// single larger message still travels, alone.
    static let bytesTarget = 1 << 20
    /// The largest number that is taken for an index, term, session or beat: arithmetic on it cannot overflow.
    static let numberMax = UInt64(1) << 62
    /// Largest encoded membership that is taken, in bytes.
    static let membershipBytesMax = 16 << 10

    /// What a message's first byte says; raw values are on the wire and never change.
    enum Kind: UInt8, CaseIterable {
        case preVoteRequest = 1
        case preVoteResponse = 2
        case voteRequest = 3
        case voteResponse = 4
        case append = 5
        case appendAccepted = 6
        case appendRejected = 7
        case heartbeat = 8
        case heartbeatResponse = 9
        case snapshot = 10
        case timeoutNow = 11
        case readRequest = 12
        case readResponse = 13
        /// Of the node, not of a group: neither group nor term follow.
        case nodeBeat = 14
        /// Of the node about a group: no term follows.
        case removalNotice = 15
    }

    static let kindMask: UInt8 = 0x1F
    /// The one flag in use: granted, wants an answer, is a transfer, has an index, as the kind says.
    static let flag: UInt8 = 0x20
}

/// Collects messages for one peer into frames; writes straight into the buffers that travel.
struct RaftFrameWriter {
    private let from: NodeID
    private let to: NodeID
    private let bytesTarget: Int
    private var finished: [ByteBuffer] = []
    private var buffer = ByteBuffer()
    private var count = 0

    /// Bytes before the messages of a frame: its length, version, addresses, and the count as a fixed-width varint.
    private static let headBytesMax = RaftFrame.lengthByteCount + 1 + 2 * FrameCursor.varintBytesMax + countBytes
    /// Bytes of the count, which is written last: a varint padded to this width.
    private static let countBytes = 5
    /// Bytes that a message takes at most besides its entries and membership.
    private static let messageBytesMax = 1 + 8 * FrameCursor.varintBytesMax
    /// Bytes that an entry takes at most besides its payload.
    private static let entryBytesMax = 1 + 2 * FrameCursor.varintBytesMax

    init(from: NodeID, to: NodeID, bytesTarget: Int = RaftFrame.bytesTarget) {
        self.from = from
        self.to = to
        self.bytesTarget = bytesTarget
    }

    /// Whether nothing was added.
    var isEmpty: Bool { self.count == 0 && self.finished.isEmpty }

    /// Ends the last frame and gives all of them, each with its length before it.
    mutating func finish() -> [ByteBuffer] {
        self.endFrame()
        defer { self.finished = [] }
        return self.finished
    }

    mutating func add(_ message: HostMessage) {
        switch message {
        case .raft(let message): self.add(message)
        case .beat(let beat):
            self.addMessage(atMost: Self.messageBytesMax) { cursor in
                cursor.put(RaftFrame.Kind.nodeBeat.rawValue)
                cursor.put(varint: beat.epoch)
            }
        case .removed(let notice):
            self.addMessage(atMost: Self.messageBytesMax) { cursor in
                cursor.put(RaftFrame.Kind.removalNotice.rawValue)
                cursor.put(varint: UInt64(notice.group.rawValue))
                cursor.put(notice.index)
            }
        }
    }

    private mutating func add(_ message: GroupMessage) {
        let body = message.message.body
        self.addMessage(atMost: Self.bytesMax(of: body)) { cursor in
            cursor.put(Self.kind(of: body).rawValue | (Self.hasFlag(body) ? RaftFrame.flag : 0))
            cursor.put(varint: UInt64(message.group.rawValue))
            cursor.put(varint: message.message.term.rawValue)
            Self.put(body, into: &cursor)
        }
    }

    private mutating func addMessage(atMost size: Int, _ write: (inout FrameCursor) -> Void) {
        self.makeRoom(size)
        self.put(atMost: size, write)
        self.count += 1
    }

    private static func bytesMax(of body: RaftMessage.Body) -> Int {
        switch body {
        case .append(let append):
            append.entries.reduce(self.messageBytesMax) { $0 + self.entryBytesMax + $1.payload.count }
        case .snapshot: self.messageBytesMax + RaftFrame.membershipBytesMax
        default: self.messageBytesMax
        }
    }

    private mutating func makeRoom(_ size: Int) {
        if self.count > 0, self.buffer.readableBytes + size > self.bytesTarget { self.endFrame() }
        guard self.count == 0 else { return }
        self.buffer = ByteBufferAllocator().buffer(capacity: Self.headBytesMax + size)
        let (from, to) = (self.from.rawValue, self.to.rawValue)
        self.put(atMost: Self.headBytesMax) { cursor in
            for _ in 0..<RaftFrame.lengthByteCount { cursor.put(0) }
            cursor.put(RaftFrame.version)
            cursor.put(varint: from)
            cursor.put(varint: to)
            cursor.put(varint: 0, width: Self.countBytes)
        }
    }

    private mutating func endFrame() {
        guard self.count > 0 else { return }
        let start = self.buffer.readerIndex
        let length = self.buffer.readableBytes - RaftFrame.lengthByteCount
        self.buffer.setInteger(UInt32(length), at: start)
        let countPlace =
            start + RaftFrame.lengthByteCount + 1 + FrameCursor.width(ofVarint: self.from.rawValue)
            + FrameCursor.width(ofVarint: self.to.rawValue)
        let count = UInt64(self.count)
        self.buffer.withUnsafeMutableReadableBytes { bytes in
            var cursor = FrameCursor(UnsafeMutableRawBufferPointer(rebasing: bytes[(countPlace - start)...]))
            cursor.put(varint: count, width: Self.countBytes)
        }
        self.finished.append(self.buffer)
        self.buffer = ByteBuffer()
        self.count = 0
    }

    private mutating func put(atMost size: Int, _ body: (inout FrameCursor) -> Void) {
        self.buffer.writeWithUnsafeMutableBytes(minimumWritableBytes: size) { bytes in
            var cursor = FrameCursor(bytes)
            body(&cursor)
            return cursor.offset
        }
    }
}

// MARK: - The fields of each kind

extension RaftFrameWriter {
    private static func kind(of body: RaftMessage.Body) -> RaftFrame.Kind {
        switch body {
        case .preVoteRequest: .preVoteRequest
        case .preVoteResponse: .preVoteResponse
        case .voteRequest: .voteRequest
        case .voteResponse: .voteResponse
        case .append: .append
        case .appendAccepted: .appendAccepted
        case .appendRejected: .appendRejected
        case .heartbeat: .heartbeat
        case .heartbeatResponse: .heartbeatResponse
        case .snapshot: .snapshot
        case .timeoutNow: .timeoutNow
        case .readRequest: .readRequest
        case .readResponse: .readResponse
        }
    }

    private static func hasFlag(_ body: RaftMessage.Body) -> Bool {
        switch body {
        case .preVoteRequest(let request), .voteRequest(let request): request.isTransfer
        case .preVoteResponse(let granted): granted
        case .voteResponse(let answer): answer.isGranted
        case .append(let append): append.wantsAnswer
        case .heartbeat(let heartbeat): heartbeat.sleepAt != nil
        case .readResponse(_, let index): index != nil
        default: false
        }
    }

    private static func put(_ body: RaftMessage.Body, into cursor: inout FrameCursor) {
        switch body {
        case .preVoteRequest(let request), .voteRequest(let request):
            cursor.put(request.session)
            cursor.put(request.lastIndex)
            cursor.put(request.lastTerm)
            cursor.put(request.commit)
            cursor.put(request.commitTerm)
        case .voteResponse(let answer):
            cursor.put(answer.lastIndex)
            cursor.put(answer.lastTerm)
        case .preVoteResponse, .timeoutNow: break
        case .append(let append): self.put(append, into: &cursor)
        case .appendAccepted(let answer):
            cursor.put(answer.session)
            cursor.put(varint: answer.beat)
            cursor.put(answer.match)
        case .appendRejected(let answer):
            cursor.put(answer.session)
            cursor.put(varint: answer.beat)
            cursor.put(answer.previousIndex)
            cursor.put(answer.hintIndex)
            cursor.put(answer.hintTerm)
        case .heartbeat(let heartbeat):
            cursor.put(heartbeat.session)
            cursor.put(varint: heartbeat.beat)
            cursor.put(heartbeat.commit)
            if let sleepAt = heartbeat.sleepAt { cursor.put(sleepAt) }
        case .heartbeatResponse(let answer):
            cursor.put(answer.session)
            cursor.put(varint: answer.beat)
        case .snapshot(let offer):
            cursor.put(offer.session)
            cursor.put(varint: offer.beat)
            cursor.put(offer.mark.index)
            cursor.put(offer.mark.term)
            let membership = offer.mark.membership.encoded()
            cursor.put(varint: UInt64(membership.count))
            cursor.put(membership)
        case .readRequest(let token): cursor.put(varint: token)
        case .readResponse(let token, let index):
            cursor.put(varint: token)
            if let index { cursor.put(index) }
        }
    }

    private static func put(_ append: RaftMessage.Append, into cursor: inout FrameCursor) {
        cursor.put(append.session)
        cursor.put(varint: append.beat)
        cursor.put(append.previousIndex)
        cursor.put(append.previousTerm)
        cursor.put(append.commit)
        cursor.put(varint: UInt64(append.entries.count))
        var term = append.previousTerm.rawValue
        for entry in append.entries {
            cursor.put(entry.kind.rawValue)
            cursor.put(varint: entry.term.rawValue &- term)
            cursor.put(varint: UInt64(entry.payload.count))
            cursor.put(entry.payload)
            term = entry.term.rawValue
        }
    }
}

/// Writes numbers and bytes into memory that is large enough.
struct FrameCursor {
    /// Bytes of the largest varint.
    static let varintBytesMax = 10

    private let bytes: UnsafeMutableRawBufferPointer
    private(set) var offset = 0

    init(_ bytes: UnsafeMutableRawBufferPointer) { self.bytes = bytes }

    static func width(ofVarint value: UInt64) -> Int { max(1, (UInt64.bitWidth - value.leadingZeroBitCount + 6) / 7) }

    mutating func put(_ byte: UInt8) {
        precondition(self.offset < self.bytes.count, "a frame is larger than was reckoned")
        self.bytes[self.offset] = byte
        self.offset += 1
    }

    mutating func put(varint value: UInt64) {
        var rest = value
        while rest > 0x7F {
            self.put(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        self.put(UInt8(rest))
    }

    /// Writes a varint in exactly `width` bytes.
    mutating func put(varint value: UInt64, width: Int) {
        for place in 0..<width {
            let part = UInt8(truncatingIfNeeded: value >> (7 * UInt64(place))) & 0x7F
            self.put(place == width - 1 ? part : part | 0x80)
        }
    }

    mutating func put(_ index: LogIndex) { self.put(varint: index.rawValue) }

    mutating func put(_ term: Term) { self.put(varint: term.rawValue) }

    mutating func put(_ run: [UInt8]) {
        guard !run.isEmpty else { return }
        precondition(run.count <= self.bytes.count - self.offset, "a frame is larger than was reckoned")
        run.withUnsafeBytes { UnsafeMutableRawBufferPointer(rebasing: self.bytes[self.offset...]).copyMemory(from: $0) }
        self.offset += run.count
    }
}
