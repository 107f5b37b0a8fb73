/// Bounds of one stream.
package struct ArrowStreamLimits: Sendable {
    /// Most bytes of one message, metadata and body together.
    package var messageBytesMax: Int
    /// Most rows of one batch.
    package var batchRowsMax: Int

    /// Creates limits.
    package init(messageBytesMax: Int = 64 << 20, batchRowsMax: Int = 4 << 20) {
        self.messageBytesMax = messageBytesMax
        self.batchRowsMax = batchRowsMax
    }
}

/// Reads an Arrow IPC stream as its bytes arrive. Whatever is not a valid stream is refused with an error.
package struct ArrowStreamDecoder: Sendable {
    private enum Stage {
        case frame
        case metadata(length: Int)
        case body(length: Int)
        case ended
        case failed
    }

    /// Columns of every batch, once the first message has been read.
    package var schema: ArrowSchema? { self.messages.schema }
    /// True once the stream's own end mark has been read: only then is it known that nothing was cut off.
    package var hasEnded: Bool {
        if case .ended = self.stage { return true }
        return false
    }
    private let limits: ArrowStreamLimits
    private var messages: ArrowMessageDecoder
    private var pending: [UInt8] = []
    private var head = 0
    private var stage = Stage.frame

    /// Creates a decoder for one stream.
    package init(limits: ArrowStreamLimits = .init()) {
        self.limits = limits
        self.messages = ArrowMessageDecoder(limits: limits)
    }

    /// Takes the next bytes of the stream.
    /// - Returns: The batches that are complete now; empty ones are kept.
    /// - Throws: ``ColumnarError`` `.invalidArrow`, or `.unsupported` for valid streams with what is not carried. The
    ///   decoder stays unusable.
    package mutating func feed(_ bytes: some Collection<UInt8>) throws -> [ArrowRecordBatch] {
        if self.head > 0 {
            self.pending.removeFirst(self.head)
            self.head = 0
        }
        self.pending.append(contentsOf: bytes)
        var batches: [ArrowRecordBatch] = []
        do {
            while try self.step(&batches) {}
        } catch {
            self.stage = .failed
            throw error
        }
        return batches
    }

    /// Takes a whole message of the stream at once; its columns stay in `body`.
    /// - Throws: As ``feed(_:)``, and `.invalidArrow` inside of another message or after the end.
    package mutating func feed(metadata: [UInt8], body: ArrowBuffer) throws -> ArrowRecordBatch? {
        do {
            guard case .frame = self.stage, self.available == 0 else {
                throw ColumnarError(.invalidArrow, "a message inside of another one, or after the end")
            }
            return try self.messages.decode(metadata: metadata, body: body)
        } catch {
            self.stage = .failed
            throw error
        }
    }

    /// Says that no more bytes come.
    /// - Throws: ``ColumnarError`` `.invalidArrow` when the stream was cut short. The end mark may be missing, as the
    ///   format allows, but not a part of a message, and not the schema.
    package mutating func finish() throws {
        switch self.stage {
        case .ended: return
        case .frame where self.available == 0 && self.schema != nil: self.stage = .ended
        default:
            self.stage = .failed
            throw ColumnarError(.invalidArrow, "the stream ends inside of a message")
        }
    }

    private var available: Int { self.pending.count - self.head }

    private mutating func word() -> UInt32 {
        let value = (0..<4).reduce(UInt32(0)) { $0 | UInt32(self.pending[self.head + $1]) << UInt32($1 * 8) }
        self.head += 4
        return value
    }

    /// Reads one part if it is complete.
    private mutating func step(_ batches: inout [ArrowRecordBatch]) throws -> Bool {
        switch self.stage {
        case .frame: return try self.readFrame()
        case .metadata(let length): return try self.readMetadata(length)
        case .body(let length):
            guard self.available >= length else { return false }
            let body = self.pending[self.head..<self.head + length]
            self.head += length
            self.stage = .frame
            if let batch = try self.messages.takeBody(body) { batches.append(batch) }
            return true
        case .ended:
            guard self.available == 0 else { throw ColumnarError(.invalidArrow, "bytes after the end of the stream") }
            return false
        case .failed: throw ColumnarError(.invalidArrow, "the stream has already failed")
        }
    }

    private mutating func readFrame() throws -> Bool {
        guard self.available >= 8 else { return false }
        guard self.word() == ArrowWire.continuation else {
            throw ColumnarError(.invalidArrow, "not an Arrow IPC stream")
        }
        let length = self.word()
        if length == 0 {
            guard self.schema != nil else { throw ColumnarError(.invalidArrow, "a stream without a schema") }
            self.stage = .ended
            return true
        }
        guard length <= UInt32(clamping: self.limits.messageBytesMax) else {
            throw ColumnarError(.invalidArrow, "a message of more than \(self.limits.messageBytesMax) bytes")
        }
        self.stage = .metadata(length: Int(length))
        return true
    }

    private mutating func readMetadata(_ length: Int) throws -> Bool {
        guard self.available >= length else { return false }
        let bodyBytes = try self.messages.takeMetadata(Array(self.pending[self.head..<self.head + length]))
        self.head += length
        self.stage = .body(length: bodyBytes)
        return true
    }
}
