package import NIOCore

/// Cuts the messages out of a gRPC body as its bytes arrive; pure.
///
/// A message is a byte that tells whether it is compressed, four bytes of length, and its bytes.
/// - Source: gRPC, «gRPC over HTTP2», section Length-Prefixed-Message
package struct GRPCFrameReader: Sendable {
    private var pending = ByteBuffer()
    private let messageBytesMax: Int

    /// Reads messages of at most `messageBytesMax` bytes.
    package init(messageBytesMax: Int) { self.messageBytesMax = messageBytesMax }

    /// Bytes before a message.
    package static let prefixBytes = 5

    /// Takes the next bytes of the body.
    package mutating func feed(_ bytes: ByteBuffer) {
        if self.pending.readableBytes == 0 {
            self.pending = bytes
        } else {
            self.pending.discardReadBytes()
            self.pending.writeImmutableBuffer(bytes)
        }
    }

    /// The next whole message; nil when more bytes are needed.
    /// - Throws: ``GRPCStatus`` `.resourceExhausted` for a message that is too long, `.unimplemented` for a compressed one.
    package mutating func next() throws(GRPCStatus) -> ByteBuffer? {
        guard let flag = self.pending.getInteger(at: self.pending.readerIndex, as: UInt8.self),
            let length = self.pending.getInteger(at: self.pending.readerIndex + 1, as: UInt32.self)
        else { return nil }
        guard flag == 0 else {
            throw GRPCStatus(.unimplemented, "messages must not be compressed: only grpc-encoding identity is taken")
        }
        guard Int(length) <= self.messageBytesMax else {
            throw GRPCStatus(
                .resourceExhausted,
                "a message of \(length) bytes; at most \(self.messageBytesMax) are taken"
            )
        }
        guard self.pending.readableBytes >= Self.prefixBytes + Int(length) else { return nil }
        self.pending.moveReaderIndex(forwardBy: Self.prefixBytes)
        return self.pending.readSlice(length: Int(length))
    }

    /// Whether the body may end here.
    package var isBetweenMessages: Bool { self.pending.readableBytes == 0 }

    /// Writes the prefix of a message of `length` bytes.
    package static func writePrefix(length: Int, to buffer: inout ByteBuffer) {
        buffer.writeInteger(UInt8(0))
        buffer.writeInteger(UInt32(length))
    }
}
