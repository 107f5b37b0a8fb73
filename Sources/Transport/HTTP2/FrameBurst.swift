internal import NIOCore

/// Frames that are encrypted and sent together, in their order: bytes that were written here, and parts of bodies where
/// they lie.
///
/// A long part of a body is not copied before it is encrypted. A short one is, so that it shares a record with what
/// stands around it.
struct FrameBurst {
    /// A part of a body that is shorter than this is copied: what fills a record alone costs no record more.
    static let sharedBytesMin = TransportLimits.recordBytes

    private enum Part {
        /// A range of ``own``.
        case own(start: Int, count: Int)
        case shared(ByteBuffer)
    }

    /// Kept between bursts: its storage is free again once the parts are encrypted.
    private var own = ByteBuffer()
    /// Own bytes that belong to a part already.
    private var ownTaken = 0
    private var parts: [Part] = []
    /// Bytes of all parts.
    private(set) var byteCount = 0

    /// Appends bytes.
    mutating func write(copying bytes: UnsafeRawBufferPointer) {
        _ = unsafe self.own.writeBytes(bytes)
        self.byteCount += bytes.count
    }

    /// Appends a part of a body.
    mutating func write(_ body: ByteBuffer) {
        self.byteCount += body.readableBytes
        guard body.readableBytes >= Self.sharedBytesMin else {
            self.own.writeImmutableBuffer(body)
            return
        }
        self.endOwnPart()
        self.parts.append(.shared(body))
    }

    private mutating func endOwnPart() {
        let count = self.own.writerIndex - self.ownTaken
        guard count > 0 else { return }
        self.parts.append(.own(start: self.ownTaken, count: count))
        self.ownTaken += count
    }

    /// Hands out the parts and forgets them.
    mutating func takeParts(_ body: (ByteBuffer) -> Void) {
        self.endOwnPart()
        for part in self.parts {
            switch part {
            case .own(let start, let count): if let bytes = self.own.getSlice(at: start, length: count) { body(bytes) }
            case .shared(let bytes): body(bytes)
            }
        }
        self.parts.removeAll(keepingCapacity: true)
        self.own.clear()
        self.ownTaken = 0
        self.byteCount = 0
    }

    /// Whether there is more than one part.
    var hasManyParts: Bool { !self.parts.isEmpty }
}
