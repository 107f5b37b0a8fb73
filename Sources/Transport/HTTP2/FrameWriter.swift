internal import NIOCore

/// Writes a session's frames in bursts: one flush each.
final class FrameWriter {
    private var burst = FrameBurst()
    /// A flush can make the channel writable at once, which calls back while a burst is being written.
    private var isSending = false

    /// Writes what is ready while the socket takes it; the rest waits for the channel to become writable.
    func sendFrames(of session: HTTP2Session, context: ChannelHandlerContext) throws(TransportError) {
        guard !self.isSending else { return }
        self.isSending = true
        defer { self.isSending = false }
        var hasMore = true
        while hasMore, context.channel.isWritable {
            hasMore = try session.drain(into: &self.burst, limit: TransportLimits.burstBytesMax)
            guard self.burst.byteCount > 0 else { break }
            if self.burst.hasManyParts {
                context.triggerUserOutboundEvent(PlaintextBurst(byteCount: self.burst.byteCount), promise: nil)
            }
            self.burst.takeParts { context.write(NIOAny($0), promise: nil) }
            context.flush()
        }
    }
}
