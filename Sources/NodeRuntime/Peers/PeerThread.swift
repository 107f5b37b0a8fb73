internal import Consensus
internal import NIOCore

/// The event loop of the peers' connections as the thread that consensus runs on.
///
/// It is no loop for anybody else: it waits for the disk when the log is written, and the messages of peers that come
/// meanwhile share the next turn.
struct PeerThread: RaftThread {
    let eventLoop: any EventLoop

    func execute(_ work: @escaping @Sendable () -> Void) { self.eventLoop.execute(work) }

    func schedule(after delay: Duration, _ work: @escaping @Sendable () -> Void) {
        self.eventLoop.scheduleTask(in: TimeAmount(delay), work)
    }
}
