internal import CSandbox
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
        /// Blocks that the socket has not taken yet.
        var waiting: [[UInt8]] = []
        var next = 0
        /// Bytes of the next block that it has taken.
        var taken = 0
        var isClosed = false
    }

    private static let readBytes = 256 << 10
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
        return (ends[0], ends[1])
    }

    /// Sends a frame; lost when the pipe is closed.
    func send(_ kind: WorkerFrame.Kind, _ request: UInt64, _ body: [UInt8] = []) {
        let header = WorkerFrame.header(kind, request, bodyBytes: body.count)
        let mustWake = self.state.withLock { state -> Bool in
            guard !state.isClosed else { return false }
            guard state.waiting.isEmpty else {
                state.waiting.append(header)
                if !body.isEmpty { state.waiting.append(body) }
                return false
            }
            let sent = Self.send(header[...], body[...], to: self.socket)
            guard sent < header.count + body.count else { return false }
            state.waiting = body.isEmpty ? [header] : [header, body]
            (state.next, state.taken) = (0, max(0, sent))
            Self.skipTaken(&state)
            return true
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

    /// - Returns: Bytes that were taken; negative when none could be.
    private static func send(_ one: ArraySlice<UInt8>, _ other: ArraySlice<UInt8>, to socket: Int32) -> Int {
        one.withUnsafeBytes { one in
            other.withUnsafeBytes { other in
                Int(ft_send_blocks(socket, one.baseAddress, one.count, other.baseAddress, other.count))
            }
        }
    }

    /// Moves over the blocks that have been taken as a whole.
    private static func skipTaken(_ state: inout State) {
        while state.next < state.waiting.count, state.taken >= state.waiting[state.next].count {
            state.taken -= state.waiting[state.next].count
            state.waiting[state.next] = []
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
    private func flush() -> Bool {
        self.state.withLock { state in
            while state.next < state.waiting.count {
                let first = state.waiting[state.next][state.taken...]
                let second = state.next + 1 < state.waiting.count ? state.waiting[state.next + 1][...] : []
                let sent = Self.send(first, second, to: self.socket)
                guard sent > 0 else { return true }
                state.taken += sent
                Self.skipTaken(&state)
            }
            return false
        }
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
        while true {
            let count = recv(self.socket, buffer.baseAddress, buffer.count, Int32(MSG_DONTWAIT))
            if count == 0 { return .closed }
            if count < 0 {
                if errno == EINTR { continue }
                return errno == EAGAIN || errno == EWOULDBLOCK ? nil : errno == ECONNRESET ? .closed : .failed(errno)
            }
            reader.feed(UnsafeRawBufferPointer(rebasing: buffer[..<count]))
            do {
                while let frame = try reader.next() { onFrame(frame) }
            } catch {
                return .malformed(error.description)
            }
            // Sending has its turn too, and a short read means that there is no more.
            if count < buffer.count { return nil }
        }
    }

    /// Milliseconds of a clock that never jumps.
    static func milliseconds() -> Int {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)  // ambient-ok: sockets are watched in real time
        return time.tv_sec * 1000 + time.tv_nsec / 1_000_000
    }
}
