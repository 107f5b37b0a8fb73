internal import NIOCore
internal import Primitives

/// Cuts a stream of bytes into frames: each a UInt32 length and that many bytes.
struct RaftFrameReader {
    private var waiting = ByteBuffer()
    private let frameBytesMax: Int

    init(frameBytesMax: Int = RaftWire.frameBytesMax) { self.frameBytesMax = frameBytesMax }

    /// Takes bytes and returns the frames that they complete, without their lengths.
    /// - Throws: ``MalformedBytes`` when a length is over the limit; the stream is of no use then.
    mutating func feed(_ bytes: ByteBuffer) throws(MalformedBytes) -> [ByteBuffer] {
        var bytes = bytes
        if self.waiting.readableBytes == 0 { self.waiting = bytes } else { self.waiting.writeBuffer(&bytes) }
        var frames: [ByteBuffer] = []
        while let length = self.waiting.getInteger(at: self.waiting.readerIndex, as: UInt32.self) {
            guard length <= self.frameBytesMax else { throw MalformedBytes(what: "frame length \(length)", offset: 0) }
            guard self.waiting.readableBytes >= RaftWire.lengthByteCount + Int(length) else { break }
            self.waiting.moveReaderIndex(forwardBy: RaftWire.lengthByteCount)
            guard let frame = self.waiting.readSlice(length: Int(length)) else { break }
            frames.append(frame)
        }
        if self.waiting.readableBytes == 0 { self.waiting = ByteBuffer() } else { self.waiting.discardReadBytes() }
        return frames
    }
}
