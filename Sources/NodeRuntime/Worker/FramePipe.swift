internal import CSandbox
internal import Columnar
internal import Foundation
internal import Synchronization

/// One end of the socket between a node and a worker.
///
/// Anyone may send, and nobody waits for it: what the socket does not take at once is sent by the thread in
/// ``run(tickMilliseconds:onFrame:onTick:)``, which also receives. How much may gather here is bounded by what is asked
/// for: a result's rows are sent as the other side has room for them, and requests are counted.
final class FramePipe: Sendable {
    /// Why ``run(tickMilliseconds:onFrame:onTick:)`` returned.
    enum Ending: Sendable, CustomStringConvertible {
        /// The other side is gone, or ``close()`` was called.
        case closed
        /// The other side does not speak the protocol.
        case malformed(String)
        case failed(Int32)

        var description: String {
            switch self {
            case .closed: "closed"
            case .malformed(let what): "malformed: \(what)"
            case .failed(let code): "failed: \(String(cString: strerror(code)))"
            }
        }
    }

    private struct State {
        /// Blocks that the socket has not taken yet; none is empty but those that it has taken.
        var waiting: [Block] = []
        var next = 0
        /// Bytes of the next block that it has taken.
        var taken = 0
        var isClosed = false
    }

    /// Bytes to be sent, in whatever memory they are.
    private enum Block {
        case bytes([UInt8])
        case buffer(ArrowBuffer)

        var count: Int {
            switch self {
            case .bytes(let bytes): bytes.count
            case .buffer(let buffer): buffer.count
            }
        }

        func withBytes<R>(_ body: (UnsafeRawBufferPointer) -> R) -> R {
            switch self {
            case .bytes(let bytes): bytes.withUnsafeBytes(body)
            case .buffer(let buffer): buffer.withBytes(body)
            }
        }
    }

    private static let readBytes = 256 << 10
    /// After a batch comes a header, and then, most often, another batch, of which little is to be read into the wrong
    /// place.
    private static let readBytesAfterBatch = 1 << 10
    /// Reads before what waits to be sent is looked at again.
    private static let readTurnsMax = 16
    /// Blocks of one call to the system.
    private static let sentBlocksMax = 64
    /// What the system may hold of what one side sends, as far as it permits.
    private static let socketBytes: Int32 = 1 << 20
    /// Places of blocks that were taken and still stand in the queue.
    private static let takenMax = 1024

    private let socket: Int32
    private let alarm: Int32
    private let bodyBytesMax: Int
    private let state = Mutex(State())

    /// Takes over `socket`, which is closed with this object.
    init(socket: Int32, bodyBytesMax: Int) {
        self.socket = socket
        self.bodyBytesMax = bodyBytesMax
        self.alarm = eventfd(0, Int32(EFD_CLOEXEC | EFD_NONBLOCK))
    }

    deinit {
        Foundation.close(self.socket)
        if self.alarm >= 0 { Foundation.close(self.alarm) }
    }

    /// Makes both ends of a pipe; they are closed when another program is started, unless that is given one.
    /// - Returns: Nil when the process has no descriptors left.
    static func pair() -> (Int32, Int32)? {
        var ends: [Int32] = [-1, -1]
        let type = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue)
        guard socketpair(AF_UNIX, type, 0, &ends) == 0 else { return nil }
        var bytes = self.socketBytes
        let length = socklen_t(MemoryLayout<Int32>.size)
        // Without it all works, with more turns.
        for end in ends { _ = setsockopt(end, SOL_SOCKET, SO_SNDBUF, &bytes, length) }
        return (ends[0], ends[1])
    }

    /// Sends a frame; lost when the pipe is closed.
    func send(_ kind: WorkerFrame.Kind, _ request: UInt64, _ body: [UInt8] = []) {
        let header = WorkerFrame.header(kind, request, bodyBytes: body.count)
        self.send(body.isEmpty ? [.bytes(header)] : [.bytes(header), .bytes(body)])
    }

    /// Sends a message of a result's Arrow stream from where it is; lost when the pipe is closed.
    func send(_ batch: ArrowMessageParts, _ request: UInt64) {
        let header = WorkerFrame.header(.batch, request, bodyBytes: WorkerBatch.frameBytes(batch))
        self.send([.bytes(header + WorkerBatch.head(batch))] + batch.buffers.map(Block.buffer))
    }

    private func send(_ blocks: [Block]) {
        let mustWake = self.state.withLock { state -> Bool in
            guard !state.isClosed else { return false }
            let isFirst = state.waiting.isEmpty
            state.waiting += blocks
            return isFirst && self.sendWaiting(&state)
        }
        if mustWake { self.wake() }
    }

    /// Ends the pipe for both sides.
    func close() {
        self.state.withLock { $0.isClosed = true }
        _ = shutdown(self.socket, Int32(SHUT_RDWR))
        self.wake()
    }

    private func wake() { _ = eventfd_write(self.alarm, 1) }

    /// Sends some of the blocks, the first without the bytes that were taken of it.
    /// - Returns: Bytes that were taken; negative when none could be.
    private static func send(_ blocks: ArraySlice<Block>, taken: Int, to socket: Int32) -> Int {
        withUnsafeTemporaryAllocation(of: iovec.self, capacity: Self.sentBlocksMax) { places in
            func add(_ rest: ArraySlice<Block>, _ count: Int) -> Int {
                guard count < Self.sentBlocksMax, let block = rest.first else {
                    return Int(ft_send_blocks(socket, places.baseAddress, count))
                }
                return block.withBytes { bytes in
                    let start = count == 0 ? taken : 0
                    places.initializeElement(
                        at: count,
                        to: iovec(
                            iov_base: UnsafeMutableRawPointer(mutating: bytes.baseAddress).map { $0 + start },
                            iov_len: bytes.count - start
                        )
                    )
                    return add(rest.dropFirst(), count + 1)
                }
            }
            return add(blocks, 0)
        }
    }

    /// Moves over the blocks that have been taken as a whole.
    private static func skipTaken(_ state: inout State) {
        while state.next < state.waiting.count, state.taken >= state.waiting[state.next].count {
            state.taken -= state.waiting[state.next].count
            state.waiting[state.next] = .bytes([])
            state.next += 1
        }
        if state.next == state.waiting.count {
            state.waiting = []
            (state.next, state.taken) = (0, 0)
        } else if state.next > Self.takenMax {
            state.waiting.removeFirst(state.next)
            state.next = 0
        }
    }

    /// Sends what waits, as far as the socket takes it.
    /// - Returns: Whether something is left.
    private func flush() -> Bool { self.state.withLock { self.sendWaiting(&$0) } }

    private func sendWaiting(_ state: inout State) -> Bool {
        while state.next < state.waiting.count {
            let sent = Self.send(state.waiting[state.next...], taken: state.taken, to: self.socket)
            guard sent > 0 else { return true }
            state.taken += sent
            Self.skipTaken(&state)
        }
        return false
    }

    /// Sends and receives on the calling thread until the pipe ends.
    ///
    /// - Parameters:
    ///   - tickMilliseconds: `onTick` is called about this often.
    ///   - onTick: False: end here.
    func run(tickMilliseconds: Int, onFrame: (WorkerFrame) -> Void, onTick: () -> Bool) -> Ending {
        var reader = WorkerFrameReader(bodyBytesMax: self.bodyBytesMax)
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: Self.readBytes, alignment: 64)
        defer { buffer.deallocate() }
        var hasMore = false
        var nextTick = Self.milliseconds() + tickMilliseconds
        while true {
            let wait = max(0, nextTick - Self.milliseconds())
            var polled = [
                pollfd(fd: self.socket, events: Int16(POLLIN) | (hasMore ? Int16(POLLOUT) : 0), revents: 0),
                pollfd(fd: self.alarm, events: Int16(POLLIN), revents: 0),
            ]
            let count = poll(&polled, 2, Int32(clamping: wait))
            if count < 0, errno != EINTR { return .failed(errno) }
            if polled[1].revents != 0 {
                var value = eventfd_t()
                _ = eventfd_read(self.alarm, &value)
            }
            hasMore = self.flush()
            if count > 0, polled[0].revents & ~Int16(POLLOUT) != 0 {
                if let ending = self.receive(&reader, buffer, onFrame) { return ending }
            }
            if self.state.withLock({ $0.isClosed }) { return .closed }
            if Self.milliseconds() >= nextTick {
                nextTick = Self.milliseconds() + tickMilliseconds
                guard onTick() else { return .closed }
            }
        }
    }

    private func receive(
        _ reader: inout WorkerFrameReader,
        _ buffer: UnsafeMutableRawBufferPointer,
        _ onFrame: (WorkerFrame) -> Void
    ) -> Ending? {
        var wanted = buffer.count
        // Sending and ticks have their turn too.
        for _ in 0..<Self.readTurnsMax {
            let isInsideBatch = reader.isInsideBatch
            let room = UnsafeMutableRawBufferPointer(rebasing: buffer[..<wanted])
            let count = isInsideBatch ? reader.receive { self.read(into: $0) } : self.read(into: room)
            if count == 0 { return .closed }
            if count < 0 {
                let code = Int32(truncatingIfNeeded: -count)
                return code == EAGAIN || code == EWOULDBLOCK ? nil : code == ECONNRESET ? .closed : .failed(code)
            }
            if !isInsideBatch { reader.feed(UnsafeRawBufferPointer(rebasing: room[..<count])) }
            do {
                while let frame = try reader.next() { onFrame(frame) }
            } catch {
                return .malformed(error.description)
            }
            if isInsideBatch {
                // The other side is still putting it there.
                if reader.isInsideBatch { return nil }
                wanted = Self.readBytesAfterBatch
            } else {
                // A short read means that there is no more.
                if count < wanted { return nil }
                wanted = buffer.count
            }
        }
        return nil
    }

    /// - Returns: Bytes that have come; 0 at the end; a negative error number.
    private func read(into room: UnsafeMutableRawBufferPointer) -> Int {
        while true {
            let count = recv(self.socket, room.baseAddress, room.count, Int32(MSG_DONTWAIT))
            if count >= 0 { return count }
            if errno != EINTR { return -Int(errno) }
        }
    }

    /// Milliseconds of a clock that never jumps.
    static func milliseconds() -> Int {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)  // ambient-ok: sockets are watched in real time
        return time.tv_sec * 1000 + time.tv_nsec / 1_000_000
    }
}
