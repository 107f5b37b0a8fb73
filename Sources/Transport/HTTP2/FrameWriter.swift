internal import NIOCore

/// Writes a session's frames in bursts: one encryption and one flush each.
final class FrameWriter {
    /// Kept between bursts: its storage is free again once TLS has encrypted it.
    private var frames = ByteBuffer()
    /// A flush can make the channel writable at once, which calls back while a burst is being written.
    private var isSending = false

    /// Writes what is ready while the socket takes it; the rest waits for the channel to become writable.
    func sendFrames(of session: HTTP2Session, context: ChannelHandlerContext) throws(TransportError) {
        guard !self.isSending else { return }
        self.isSending = true
        defer { self.isSending = false }
        var hasMore = true
        while hasMore, context.channel.isWritable {
            self.frames.clear()
            hasMore = try session.drain(into: &self.frames, limit: TransportLimits.burstBytesMax)
            guard self.frames.readableBytes > 0 else { break }
            context.writeAndFlush(NIOAny(self.frames), promise: nil)
        }
    }
}
