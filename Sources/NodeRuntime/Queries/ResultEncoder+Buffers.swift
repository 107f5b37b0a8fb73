internal import Columnar
internal import NIOCore

extension ResultEncoder {
    /// The rows of a batch as buffers to be sent one after the other.
    ///
    /// In the Arrow form a body that came from a worker is sent from where it lies.
    /// - Throws: As ``encode(_:)``.
    mutating func buffers(of batch: ArrowRecordBatch) throws -> [ByteBuffer] {
        guard let message = try self.message(of: batch) else { return [ByteBuffer(bytes: try self.encode(batch))] }
        let parts = message.body
        if let body = parts.bodyOwner as? ByteBuffer, body.readableBytes == parts.bodyBytes {
            return [ByteBuffer(bytes: message.head), body]
        }
        var buffer = ByteBuffer()
        buffer.reserveCapacity(message.head.count + parts.bodyBytes)
        buffer.writeBytes(message.head)
        parts.forEachSpan { buffer.writeBytes($0) }
        return [buffer]
    }
}
