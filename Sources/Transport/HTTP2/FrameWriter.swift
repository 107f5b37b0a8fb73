internal import NIOCore

/// Writes a session's frames in bursts: one flush each.
final class FrameWriter {
    private var burst = FrameBurst()
    /// A flush can make the channel writable at once, which calls back while a burst is being written.
    private var isSending = false
    private var isClosing = false

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
    /// Closes when the socket has taken what was written, which closing at once would drop; at the latest after `limit`.
    func closeOnceWritten(_ context: ChannelHandlerContext, limit: Duration) {
        guard !self.isClosing else { return }
        self.isClosing = true
        let bound = NIOLoopBound(context, eventLoop: context.eventLoop)
        let deadline = context.eventLoop.scheduleTask(in: TimeAmount(limit)) { bound.value.close(promise: nil) }
        let written = context.eventLoop.makePromise(of: Void.self)
        written.futureResult.whenComplete { _ in
            deadline.cancel()
            bound.value.close(promise: nil)
        }
        // Writing nothing is done when all is that was written before.
        context.writeAndFlush(NIOAny(ByteBuffer()), promise: written)
    }
}
