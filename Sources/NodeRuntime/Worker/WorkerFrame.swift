internal import Columnar
internal import NIOCore

/// One message between a node and a worker process: what it is, which request it belongs to, and its bytes.
///
/// On the socket a frame is a header of ``headerBytes`` (length of the body, kind, three zeros, request; big-endian) and
/// the body. Requests go from the node to the worker, answers the other way.
struct WorkerFrame: Sendable {
    /// What a frame is; the numbers stand on the socket.
    enum Kind: UInt8, Sendable, CaseIterable {
        // From the node.
        /// The first frame: what the worker is to be (``WorkerSettings``).
        case hello = 1
        /// Asks for a sign of life.
        case ping = 2
        /// Gives a request up; it is answered all the same.
        case cancel = 3
        /// The consumer of a result has taken so many bytes of it.
        case credit = 4
        /// Close everything and end.
        case shutdown = 5
        /// A question, to be answered by ``done``, or by ``head`` and a stream.
        case ask = 6

        // From the worker.
        /// It lives in its sandbox (``WorkerReadiness``).
        case ready = 65
        case pong = 66
        /// The whole answer.
        case done = 67
        /// The request has failed (``WorkerFailure``); ends a stream too.
        case failed = 68
        /// The result's columns and position; its rows follow.
        case head = 69
        /// A part of the result's Arrow stream.
        case rows = 70
        /// The result is complete.
        case end = 71
        /// An organization (its number) has a new table or column: what the node knew of its tables is old.
        case tables = 72
        /// A whole message of the result's Arrow stream (``WorkerBatch``).
        case batch = 73
        /// A whole short result (``WorkerShortAnswer``), in place of ``head``, the stream and ``end``.
        case answer = 74
    }

    static let headerBytes = 16
    /// Largest body that a worker takes from its node: a batch that is gathered may be large.
    static let requestBytesMax = 1 << 30
    /// Largest body that a node takes from a worker, which may be under a stranger's control.
    static let answerBytesMax = 64 << 20
    /// Rows are cut into frames of at most this, so that short answers do not wait long behind them.
    static let rowBytesMax = 256 << 10
    /// Messages of the stream up to this size travel whole: longer ones are cut.
    static let batchBytesMax = 4 << 20
    /// Rows of a short result: it travels in one frame.
    static let answerRowsBytesMax = 64 << 10

    let kind: Kind
    let request: UInt64
    /// Empty for a ``Kind/batch``.
    var body: [UInt8] = []
    /// What a ``Kind/batch`` has instead of a body.
    var batch: ByteBuffer?

    /// The header of a frame.
    static func header(_ kind: Kind, _ request: UInt64, bodyBytes: Int) -> [UInt8] {
        var header = [UInt8](repeating: 0, count: Self.headerBytes)
        for place in 0..<4 { header[place] = UInt8(truncatingIfNeeded: bodyBytes >> (24 - 8 * place)) }
        header[4] = kind.rawValue
        for place in 0..<8 { header[8 + place] = UInt8(truncatingIfNeeded: request >> (56 - 8 * UInt64(place))) }
        return header
    }
}

/// Puts frames together from the bytes of a socket; pure.
struct WorkerFrameReader {
    /// The bytes are not those of the other side.
    struct Malformed: Error, CustomStringConvertible {
        let description: String
    }

    private let bodyBytesMax: Int
    private var pending: [UInt8] = []
    private var head = 0
    /// A frame whose body is not complete.
    private var open: Open?

    private struct Open {
        let kind: WorkerFrame.Kind
        let request: UInt64
        let length: Int
        var body: [UInt8] = []
        var batch: ByteBuffer?

        var missing: Int { self.length - (self.batch?.readableBytes ?? self.body.count) }
    }

    init(bodyBytesMax: Int) { self.bodyBytesMax = bodyBytesMax }

    /// Takes the next bytes.
    mutating func feed(_ bytes: UnsafeRawBufferPointer) {
        if var open = self.open {
            self.open = nil
            let wanted = min(open.missing, bytes.count)
            Self.append(UnsafeRawBufferPointer(rebasing: bytes[..<wanted]), to: &open)
            self.open = open
            self.pending.append(contentsOf: bytes[wanted...])
        } else {
            self.pending.append(contentsOf: bytes)
        }
    }

    private static func append(_ bytes: UnsafeRawBufferPointer, to open: inout Open) {
        if open.batch != nil {
            open.batch?.writeBytes(bytes)
        } else {
            open.body.append(contentsOf: bytes)
        }
    }

    /// Whether the next bytes belong to a batch: then ``receive(_:)`` puts them where they stay.
    var isInsideBatch: Bool { self.open.map { $0.batch != nil && $0.missing > 0 } ?? false }

    /// Lends the room for the rest of a batch to `body`, which says how many bytes it has put there.
    mutating func receive(_ body: (UnsafeMutableRawBufferPointer) -> Int) -> Int {
        guard self.isInsideBatch, let missing = self.open?.missing else { return 0 }
        var count = 0
        _ = self.open?.batch?.writeWithUnsafeMutableBytes(minimumWritableBytes: missing) { room in
            count = body(UnsafeMutableRawBufferPointer(rebasing: room[..<missing]))
            return max(0, min(count, missing))
        }
        return count
    }

    /// The next complete frame.
    mutating func next() throws(Malformed) -> WorkerFrame? {
        if self.open == nil { try self.readHeader() }
        guard let open = self.open, open.missing == 0 else { return nil }
        self.open = nil
        return WorkerFrame(kind: open.kind, request: open.request, body: open.body, batch: open.batch)
    }

    private mutating func readHeader() throws(Malformed) {
        guard self.pending.count - self.head >= WorkerFrame.headerBytes else { return self.compact() }
        let start = self.head
        var length = 0
        for place in 0..<4 { length = length << 8 | Int(self.pending[start + place]) }
        guard let kind = WorkerFrame.Kind(rawValue: self.pending[start + 4]) else {
            throw Malformed(description: "a frame of kind \(self.pending[start + 4])")
        }
        guard length <= self.bodyBytesMax else { throw Malformed(description: "a frame of \(length) bytes") }
        var request = UInt64(0)
        for place in 8..<16 { request = request << 8 | UInt64(self.pending[start + place]) }
        self.head += WorkerFrame.headerBytes
        let there = min(length, self.pending.count - self.head)
        var open = Open(kind: kind, request: request, length: length)
        if kind == .batch {
            guard length <= WorkerFrame.batchBytesMax else {
                throw Malformed(description: "a batch of \(length) bytes")
            }
            open.batch = ByteBufferAllocator().buffer(capacity: length)
        } else {
            // What is announced is not there yet: room for it is made as it comes.
            open.body.reserveCapacity(min(length, Self.reservedBytesMax))
        }
        self.pending.withUnsafeBytes {
            Self.append(UnsafeRawBufferPointer(rebasing: $0[self.head..<self.head + there]), to: &open)
        }
        self.head += there
        self.open = open
        self.compact()
    }

    private static let reservedBytesMax = 1 << 20

    private mutating func compact() {
        guard self.head > 0 else { return }
        self.pending.removeFirst(self.head)
        self.head = 0
    }
}

/// A message of a result's Arrow stream as it travels: both lengths, the metadata, and the body at a place that suits the
/// engine.
struct WorkerBatch {
    /// Where the body begins is a multiple of this.
    private static let alignment = 64
    private static let lengthBytes = 4

    let metadata: [UInt8]
    let body: ArrowBuffer

    /// Bytes of a frame with such a message.
    static func frameBytes(_ parts: ArrowMessageParts) -> Int { self.bodyStart(parts.header.count) + parts.bodyBytes }

    private static func bodyStart(_ metadataBytes: Int) -> Int {
        (self.lengthBytes + metadataBytes + self.alignment - 1) / self.alignment * self.alignment
    }

    /// What stands in front of the body.
    static func head(_ parts: ArrowMessageParts) -> [UInt8] {
        var head: [UInt8] = []
        head.reserveCapacity(self.bodyStart(parts.header.count))
        for shift in [24, 16, 8, 0] { head.append(UInt8(truncatingIfNeeded: parts.header.count >> shift)) }
        head += parts.header
        head += [UInt8](repeating: 0, count: self.bodyStart(parts.header.count) - head.count)
        return head
    }

    /// Reads a frame; the body stays where it is.
    init(_ frame: ByteBuffer) throws(WorkerFrameReader.Malformed) {
        guard let count = frame.getInteger(at: frame.readerIndex, as: UInt32.self).map(Int.init),
            count <= frame.readableBytes - Self.lengthBytes, Self.bodyStart(count) <= frame.readableBytes,
            let metadata = frame.getBytes(at: frame.readerIndex + Self.lengthBytes, length: count),
            let body = frame.getSlice(
                at: frame.readerIndex + Self.bodyStart(count),
                length: frame.readableBytes - Self.bodyStart(count)
            )
        else { throw WorkerFrameReader.Malformed(description: "a batch shorter than it says") }
        self.metadata = metadata
        // The storage neither moves nor changes while a buffer refers to it, and nobody writes to this one.
        self.body = body.withUnsafeReadableBytesWithStorageManagement { bytes, _ in
            ArrowBuffer(lent: bytes, owner: body)
        }
    }
}
