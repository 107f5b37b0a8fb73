internal import CNGHTTP2
internal import HTTPTypes
internal import NIOCore

/// Owns one `nghttp2_session`: one end of one HTTP/2 connection as a transformation of bytes into events and of heads
/// and bodies into bytes. No socket, no clock. Confined to one event loop.
///
/// nghttp2 keeps an unretained pointer to this object as its user data. That is sound because the session dies in
/// `deinit`, and callbacks come only from within this object's own methods.
///
/// Invariant of flow control: every received body byte is reported to nghttp2 as consumed exactly once, also when its
/// stream is gone, or the connection's window would leak shut.
@safe final class HTTP2Session {
    enum Role: Sendable { case server, client }

    /// What arrived, in its order; handlers look at it after `receive`, never inside callbacks.
    enum Event {
        /// A head is complete; `hasInboundEnded` says whether a body follows.
        case head(HTTP2Stream)
        /// The body is complete; reported only if the head came with an earlier `receive` or before body bytes.
        case end(HTTP2Stream)
        /// A collected body went over its limit.
        case tooLarge(HTTP2Stream)
        /// A stream is over; `code` is an HTTP/2 error code.
        case closed(HTTP2Stream, code: UInt32)
        case settings
        case pong
        case goingAway(lastStreamID: Int32, code: UInt32)
    }

    /// RFC 9113, section 4.1.
    static let frameHeaderBytes = 9

    let handle: OpaquePointer
    let role: Role
    let limits: TransportLimits
    private(set) var streams: [Int32: HTTP2Stream] = [:]
    /// The stream whose head is arriving; header blocks never interleave.
    private var headerTarget: HTTP2Stream?
    private var isReadingTrailers = false
    private var events: [Event] = []
    private var headerBlock = HeaderBlock()
    private var flood: FloodGuard
    private var isFlooded = false
    /// Bytes held by streams whose bodies are being collected.
    private var collectedBytes = 0
    /// When the head that is arriving began.
    private(set) var headStartedAt: NIODeadline?
    private var now: NIODeadline
    /// Where frames go during ``drain(into:limit:)``, and how many bytes of them are wanted.
    private var sink = FrameBurst()
    private var sinkBytesMax = 0
    /// A DATA frame waits for room in the sink.
    private var isSinkFull = false

    init(
        role: Role,
        callbacks: HTTP2Callbacks,
        options: HTTP2Options,
        limits: TransportLimits,
        now: NIODeadline
    ) throws(TransportError) {
        var handle: OpaquePointer?
        let result =
            unsafe role == .server
            ? nghttp2_session_server_new2(&handle, callbacks.handle, nil, options.handle)
            : nghttp2_session_client_new2(&handle, callbacks.handle, nil, options.handle)
        guard result == 0, let handle = unsafe handle else { throw TransportError(.outOfMemory, "nghttp2_session") }
        unsafe self.handle = handle
        self.role = role
        self.limits = limits
        self.now = now
        self.flood = FloodGuard(burst: limits.controlFramesMax, perSecond: limits.controlFramesPerSecond, now: now)
        unsafe nghttp2_session_set_user_data(handle, Unmanaged.passUnretained(self).toOpaque())
    }

    deinit { unsafe nghttp2_session_del(self.handle) }

    /// The session that nghttp2 passes to a callback.
    static func of(_ userData: UnsafeMutableRawPointer?) -> HTTP2Session? {
        unsafe userData.map { unsafe Unmanaged<HTTP2Session>.fromOpaque($0).takeUnretainedValue() }
    }

    /// True once neither side has anything more to say.
    var isFinished: Bool {
        unsafe nghttp2_session_want_read(self.handle) == 0 && nghttp2_session_want_write(self.handle) == 0
    }

    /// True when frames wait that may be sent now.
    var wantsToSend: Bool { unsafe nghttp2_session_want_write(self.handle) != 0 }

    /// True when the other side owes bytes of a request, or does not take bytes of an answer.
    var isWaitingForPeer: Bool {
        self.streams.values.contains { stream in
            if !stream.hasInboundEnded { return true }
            switch stream.outbound {
            case .none: return false
            case .bytes: return true
            case .pipe(let pipe): return pipe.waitingBytes > 0
            }
        }
    }

    /// Streams that the other side lets this one open.
    var remoteStreamsMax: Int {
        let setting = unsafe nghttp2_session_get_remote_settings(
            self.handle,
            NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS
        )
        return Int(min(setting, UInt32(Int32.max)))
    }

    /// Queues this side's SETTINGS and opens the connection's window.
    func start() throws(TransportError) {
        var settings = [
            setting(NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, UInt32(self.limits.headerBytesMax)),
            setting(NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, UInt32(self.limits.streamWindowBytes)),
        ]
        switch self.role {
        case .server:
            settings.append(
                setting(NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, UInt32(self.limits.concurrentStreamsMax))
            )
        case .client:
            settings.append(setting(NGHTTP2_SETTINGS_ENABLE_PUSH, 0))
        }
        let flags = UInt8(NGHTTP2_FLAG_NONE.rawValue)
        try self.check(unsafe nghttp2_submit_settings(self.handle, flags, settings, settings.count), "settings")
        try self.check(
            unsafe nghttp2_session_set_local_window_size(
                self.handle,
                flags,
                0,
                Int32(self.limits.connectionWindowBytes)
            ),
            "connection window"
        )
    }

    /// Reads frames; what they say waits for `takeEvents()`.
    func receive(_ bytes: ByteBuffer, now: NIODeadline) throws(TransportError) {
        self.now = now
        self.flood.refill(now: now)
        let count = unsafe bytes.withUnsafeReadableBytes {
            unsafe nghttp2_session_mem_recv(
                self.handle,
                $0.assumingMemoryBound(to: UInt8.self).baseAddress,
                $0.count
            )
        }
        try self.check(Int32(truncatingIfNeeded: min(count, 0)), "receive")
        if self.isFlooded { self.terminate(code: NGHTTP2_ENHANCE_YOUR_CALM.rawValue) }
    }

    func takeEvents() -> [Event] {
        guard !self.events.isEmpty else { return [] }
        let events = self.events
        self.events.removeAll(keepingCapacity: false)
        return events
    }

    /// Appends frames that are ready, until `burst` holds about `limit` bytes; true if there may be more.
    func drain(into burst: inout FrameBurst, limit: Int) throws(TransportError) -> Bool {
        swap(&burst, &self.sink)  // DATA frames write themselves there (`sendData`), others are returned.
        defer { swap(&burst, &self.sink) }
        self.sinkBytesMax = limit
        self.isSinkFull = false
        while self.sink.byteCount < limit {
            var frame: UnsafePointer<UInt8>?  // Valid until the next call.
            let count = unsafe nghttp2_session_mem_send(self.handle, &frame)
            try self.check(Int32(truncatingIfNeeded: min(count, 0)), "send")
            if count == 0 { return self.isSinkFull }
            unsafe self.sink.write(copying: UnsafeRawBufferPointer(start: frame, count: count))
        }
        return true
    }

    private func check(_ result: Int32, _ operation: String) throws(TransportError) {
        guard result < 0 else { return }
        let code: TransportError.Code =
            result == NGHTTP2_ERR_NOMEM.rawValue ? .outOfMemory : .protocolViolation
        throw TransportError(code, unsafe "HTTP/2 \(operation): \(String(cString: nghttp2_strerror(result)))")
    }
}

// MARK: - What handlers ask for

extension HTTP2Session {
    /// Queues a response's head, and its body unless `sendsBody` is false; `contentLength` is added when given.
    func submitResponse(
        _ head: HTTPResponse,
        on stream: HTTP2Stream,
        content: OutboundContent,
        contentLength: Int?
    ) throws(TransportError) {
        guard !stream.isClosed, !stream.isResponseSubmitted else { return }
        stream.isResponseSubmitted = true
        self.headerBlock.fill(head, contentLength: contentLength)
        var provider = unsafe Self.provider(of: content, for: stream)
        let result = unsafe self.headerBlock.withFields { fields in
            unsafe withOptionalPointer(to: &provider) { provider in
                unsafe nghttp2_submit_response(self.handle, stream.id, fields.baseAddress, fields.count, provider)
            }
        }
        try self.check(result, "respond")
    }

    /// Queues an informational response, such as 100.
    func submitInformational(_ status: HTTPResponse.Status, on stream: HTTP2Stream) throws(TransportError) {
        self.headerBlock.fill(HTTPResponse(status: status), contentLength: nil)
        let result = unsafe self.headerBlock.withFields { fields in
            unsafe nghttp2_submit_headers(
                self.handle,
                UInt8(NGHTTP2_FLAG_NONE.rawValue),
                stream.id,
                nil,
                fields.baseAddress,
                fields.count,
                nil
            )
        }
        try self.check(result, "inform")
    }

    /// Queues a request on a new stream, whose arriving body goes to `inbound`.
    func submitRequest(
        _ head: HTTPRequest,
        content: OutboundContent,
        inbound: InboundBody
    ) throws(TransportError) -> HTTP2Stream {
        let id = unsafe nghttp2_session_get_next_stream_id(self.handle)
        let stream = HTTP2Stream(
            id: Int32(truncatingIfNeeded: min(id, UInt32(Int32.max))),
            inbound: .streaming(inbound)
        )
        let contentLength: Int? = if case .bytes(let bytes) = content { bytes.readableBytes } else { nil }
        self.headerBlock.fill(head, contentLength: contentLength)
        var provider = unsafe Self.provider(of: content, for: stream)
        self.streams[stream.id] = stream
        let result = unsafe self.headerBlock.withFields { fields in
            unsafe withOptionalPointer(to: &provider) { provider in
                unsafe nghttp2_submit_request(self.handle, nil, fields.baseAddress, fields.count, provider, nil)
            }
        }
        guard result == stream.id else {
            self.streams[stream.id] = nil
            try self.check(min(result, 0), "request")
            throw TransportError(.connectionClosed, "HTTP/2 stream ids are used up")
        }
        return stream
    }

    private static func provider(of content: OutboundContent, for stream: HTTP2Stream) -> nghttp2_data_provider? {
        switch content {
        case .none: return nil
        case .bytes(let bytes):
            guard bytes.readableBytes > 0 else { return nil }
            stream.outbound = .bytes(bytes)
        case .pipe(let pipe): stream.outbound = .pipe(pipe)
        }
        var provider = unsafe nghttp2_data_provider()
        unsafe provider.read_callback = readOutboundBytes
        return unsafe provider
    }

    /// Goes on sending a body that had nothing to send.
    func resume(_ stream: HTTP2Stream) {
        guard !stream.isClosed else { return }
        // Refused when the body is not waiting: a harmless race.
        _ = unsafe nghttp2_session_resume_data(self.handle, stream.id)
    }

    /// Ends a stream at once.
    func reset(_ stream: HTTP2Stream, code: UInt32) {
        guard !stream.isClosed else { return }
        // Fails only when out of memory; the connection's end then ends the stream.
        _ = unsafe nghttp2_submit_rst_stream(self.handle, UInt8(NGHTTP2_FLAG_NONE.rawValue), stream.id, code)
    }

    /// Ends a stream whose body has failed: behind a shut window nobody would ask for the body again and find that.
    func endFailed(_ stream: HTTP2Stream) {
        let window = unsafe min(
            nghttp2_session_get_stream_remote_window_size(self.handle, stream.id),
            nghttp2_session_get_remote_window_size(self.handle)
        )
        guard window <= 0 else { return self.resume(stream) }
        self.reset(stream, code: NGHTTP2_INTERNAL_ERROR.rawValue)
    }

    /// Opens the windows by bytes that somebody has taken or that are dropped.
    func consume(_ count: Int, on stream: HTTP2Stream) {
        guard count > 0 else { return }
        // A stream that is gone counts for the connection only.
        _ = unsafe nghttp2_session_consume(self.handle, stream.id, count)
    }

    /// Routes arriving bytes into one buffer, beginning with those that are here.
    func beginCollecting(_ stream: HTTP2Stream, bytesMax: Int) {
        guard case .undecided(let early) = stream.inbound else { return }
        stream.inbound = .collecting(nil, bytesMax: bytesMax)
        guard let early, early.readableBytes > 0 else { return }
        _ = unsafe early.withUnsafeReadableBytes { unsafe self.receivedData($0, on: stream.id, stream: stream) }
    }

    /// Routes arriving bytes to a consumer, beginning with those that are here.
    func beginStreaming(_ stream: HTTP2Stream, to body: InboundBody) {
        guard case .undecided(let early) = stream.inbound else { return }
        stream.inbound = .streaming(body)
        if let early { body.append(early) }
    }

    /// Drops bytes that wait and all that are still to come.
    func beginDiscarding(_ stream: HTTP2Stream) {
        let dropped: Int
        switch stream.inbound {
        case .undecided(let early): dropped = early?.readableBytes ?? 0
        case .collecting(let bytes, _):
            dropped = 0
            self.collectedBytes -= bytes?.readableBytes ?? 0
        case .streaming(let body): dropped = body.discard()
        case .discarding: dropped = 0
        }
        stream.inbound = .discarding
        self.consume(dropped, on: stream)
    }

    /// The body that was collected.
    func takeCollected(_ stream: HTTP2Stream) -> ByteBuffer {
        guard case .collecting(let bytes, _) = stream.inbound else { return ByteBuffer() }
        stream.inbound = .discarding
        self.collectedBytes -= bytes?.readableBytes ?? 0
        return bytes ?? ByteBuffer()
    }

    func submitPing() throws(TransportError) {
        try self.check(
            unsafe nghttp2_submit_ping(self.handle, UInt8(NGHTTP2_FLAG_NONE.rawValue), nil),
            "ping"
        )
    }

    /// Tells the client that no new stream is welcome, while those on their way still are (RFC 9113, section 6.8).
    func submitShutdownNotice() throws(TransportError) {
        try self.check(unsafe nghttp2_submit_shutdown_notice(self.handle), "shutdown notice")
    }

    /// Refuses new streams; the session is finished when those known so far are over.
    func submitGoAway() throws(TransportError) {
        let last = unsafe nghttp2_session_get_last_proc_stream_id(self.handle)
        let flags = UInt8(NGHTTP2_FLAG_NONE.rawValue)
        let code = NGHTTP2_NO_ERROR.rawValue
        try self.check(unsafe nghttp2_submit_goaway(self.handle, flags, last, code, nil, 0), "goaway")
    }

    /// Ends the session once what is queued has been sent.
    func terminate(code: UInt32) {
        // Fails only when out of memory; the connection is closed anyway.
        _ = unsafe nghttp2_session_terminate_session(self.handle, code)
    }

    /// Forgets all streams, for the end of the connection.
    func removeAllStreams() -> [HTTP2Stream] {
        // Streams reach their handler through their bodies: whoever keeps one here keeps everything.
        defer {
            self.streams = [:]
            self.headerTarget = nil
            self.events = []
        }
        for stream in self.streams.values { stream.isClosed = true }
        return Array(self.streams.values)
    }
}

// MARK: - What nghttp2 calls; results other than zero are its error codes

extension HTTP2Session {
    func beganHeaders(of frame: nghttp2_frame) -> Int32 {
        let id = unsafe frame.hd.stream_id
        self.headStartedAt = self.now
        if unsafe self.role == .server && frame.headers.cat == NGHTTP2_HCAT_REQUEST {
            let stream = HTTP2Stream(id: id)
            self.streams[id] = stream
            self.headerTarget = stream
            self.isReadingTrailers = false
            return 0
        }
        self.headerTarget = self.streams[id]
        self.isReadingTrailers = self.headerTarget?.isHeadReported ?? false
        return 0
    }

    func receivedHeader(name: UnsafeBufferPointer<UInt8>, value: UnsafeBufferPointer<UInt8>) -> Int32 {
        let fieldOverhead = 32
        guard let stream = self.headerTarget else { return 0 }
        stream.headBytes += name.count + value.count + fieldOverhead
        guard stream.headBytes <= self.limits.headerBytesMax else {
            stream.isHeadTooLarge = true  // Answered with 431, unless it goes on and on.
            return !self.isReadingTrailers
                && stream.headBytes <= TransportLimits.headerOverrunMax * self.limits.headerBytesMax
                ? 0 : NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE.rawValue
        }
        guard unsafe name.first != UInt8(ascii: ":") else {
            unsafe Self.readPseudoHeader(name: name, value: value, into: &stream.head)
            return 0
        }
        guard let fieldName = unsafe HeaderNames.name(name) else {
            return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE.rawValue
        }
        let field = unsafe HTTPField(name: fieldName, value: value)
        if self.isReadingTrailers {
            if stream.trailers == nil { stream.trailers = HTTPFields() }
            stream.trailers?.append(field)
        } else {
            stream.head.fields.append(field)
        }
        return 0
    }

    private static func readPseudoHeader(
        name: UnsafeBufferPointer<UInt8>,
        value: UnsafeBufferPointer<UInt8>,
        into head: inout HTTP2Stream.Head
    ) {
        // Their second bytes tell them apart; nghttp2 has checked that no other pseudo-header comes.
        switch unsafe (name.count, name[1]) {
        case (7, UInt8(ascii: "m")):
            head.method =
                if unsafe value.elementsEqual("GET".utf8) {
                    .get
                } else if unsafe value.elementsEqual("POST".utf8) {
                    .post
                } else {
                    unsafe HTTPRequest.Method(rawValue: String(decoding: value, as: UTF8.self))
                }
        case (5, _): head.path = unsafe String(decoding: value, as: UTF8.self)
        case (7, UInt8(ascii: "s")) where unsafe name[2] == UInt8(ascii: "c"):
            head.scheme = unsafe value.elementsEqual("https".utf8) ? "https" : String(decoding: value, as: UTF8.self)
        case (10, _): head.authority = unsafe String(decoding: value, as: UTF8.self)
        case (7, UInt8(ascii: "s")): head.status = unsafe Int(String(decoding: value, as: UTF8.self))
        default: break
        }
    }

    func receivedData(_ bytes: UnsafeRawBufferPointer, on id: Int32) -> Int32 {
        if bytes.count > 0 { self.flood.reward() }
        guard let stream = self.streams[id] else {
            return unsafe nghttp2_session_consume_connection(self.handle, bytes.count)
        }
        return unsafe self.receivedData(bytes, on: id, stream: stream)
    }

    private func receivedData(_ bytes: UnsafeRawBufferPointer, on id: Int32, stream: HTTP2Stream) -> Int32 {
        switch stream.inbound {
        case .undecided(var early):
            stream.inbound = .undecided(nil)
            if early == nil {
                early = unsafe ByteBuffer(bytes: bytes)
            } else {
                _ = unsafe early?.writeBytes(bytes)
            }
            stream.inbound = .undecided(early)
            return 0
        case .collecting(var collected, let bytesMax):
            guard (collected?.readableBytes ?? 0) + bytes.count <= bytesMax else {
                self.beginDiscarding(stream)
                self.events.append(.tooLarge(stream))
                break
            }
            guard self.collectedBytes + bytes.count <= self.limits.collectedBytesMax else {
                self.beginDiscarding(stream)
                self.reset(stream, code: NGHTTP2_REFUSED_STREAM.rawValue)
                break
            }
            stream.inbound = .discarding  // So that the buffer is not shared while it grows.
            if collected == nil {
                collected = unsafe ByteBuffer(bytes: bytes)
            } else {
                _ = unsafe collected?.writeBytes(bytes)
            }
            stream.inbound = .collecting(collected, bytesMax: bytesMax)
            self.collectedBytes += bytes.count
        case .streaming(let body):
            if unsafe body.append(copying: bytes) { return 0 }
        case .discarding: break
        }
        return unsafe nghttp2_session_consume(self.handle, id, bytes.count)
    }

    func receivedFrame(_ frame: nghttp2_frame) -> Int32 {
        let flags = unsafe UInt32(frame.hd.flags)
        switch unsafe UInt32(frame.hd.type) {
        case NGHTTP2_HEADERS.rawValue:
            self.headStartedAt = nil
            self.flood.reward()
            guard let stream = unsafe self.streams[frame.hd.stream_id] else { return 0 }
            self.completedHeaders(of: stream, endsStream: flags & NGHTTP2_FLAG_END_STREAM.rawValue != 0)
        case NGHTTP2_DATA.rawValue:
            if flags & NGHTTP2_FLAG_END_STREAM.rawValue != 0 {
                if let stream = unsafe self.streams[frame.hd.stream_id] { self.ended(stream) }
            } else if unsafe frame.hd.length == 0 {
                self.countControlFrame()
            }
        case NGHTTP2_SETTINGS.rawValue:
            self.countControlFrame()
            if flags & NGHTTP2_FLAG_ACK.rawValue == 0 { self.events.append(.settings) }
        case NGHTTP2_PING.rawValue:
            self.countControlFrame()
            if flags & NGHTTP2_FLAG_ACK.rawValue != 0 { self.events.append(.pong) }
        case NGHTTP2_GOAWAY.rawValue:
            self.countControlFrame()
            unsafe self.events.append(
                .goingAway(lastStreamID: frame.goaway.last_stream_id, code: frame.goaway.error_code)
            )
        default: self.countControlFrame()
        }
        return 0
    }

    private func completedHeaders(of stream: HTTP2Stream, endsStream: Bool) {
        if !stream.isHeadReported {
            let isInformational = self.role == .client && (100...199).contains(stream.head.status ?? 0)
            if isInformational && !endsStream {
                stream.head = HTTP2Stream.Head()
                return
            }
            stream.isHeadReported = true
            stream.headBytes = 0  // Trailers have a budget of their own.
            stream.hasInboundEnded = endsStream
            self.events.append(.head(stream))
        } else if endsStream {
            self.ended(stream)
        }
    }

    private func ended(_ stream: HTTP2Stream) {
        stream.hasInboundEnded = true
        self.events.append(.end(stream))
    }

    private func countControlFrame() {
        if !self.flood.take() { self.isFlooded = true }
    }

    func receivedInvalidFrame() -> Int32 {
        self.countControlFrame()
        return 0
    }

    func sentFrame(_ frame: nghttp2_frame) -> Int32 {
        let type = unsafe UInt32(frame.hd.type)
        guard type == NGHTTP2_DATA.rawValue || type == NGHTTP2_HEADERS.rawValue else { return 0 }
        self.flood.reward()
        guard unsafe UInt32(frame.hd.flags) & NGHTTP2_FLAG_END_STREAM.rawValue != 0,
            let stream = unsafe self.streams[frame.hd.stream_id]
        else { return 0 }
        stream.hasOutboundEnded = true
        // The answer is complete and nobody reads the rest of the request (RFC 9113, section 8.1).
        if self.role == .server, !stream.hasInboundEnded { self.reset(stream, code: NGHTTP2_NO_ERROR.rawValue) }
        return 0
    }

    /// A head that could not be sent, because it is too long or the connection is ending, ends its stream.
    func couldNotSend(_ frame: nghttp2_frame, code: Int32) -> Int32 {
        guard unsafe UInt32(frame.hd.type) == NGHTTP2_HEADERS.rawValue,
            let stream = unsafe self.streams[frame.hd.stream_id]
        else { return 0 }
        if code == NGHTTP2_ERR_START_STREAM_NOT_ALLOWED.rawValue {
            return self.closedStream(stream.id, code: NGHTTP2_REFUSED_STREAM.rawValue)
        }
        self.reset(stream, code: NGHTTP2_INTERNAL_ERROR.rawValue)
        return 0
    }

    func closedStream(_ id: Int32, code: UInt32) -> Int32 {
        guard let stream = self.streams.removeValue(forKey: id) else { return 0 }
        stream.isClosed = true
        if self.headerTarget === stream { self.headerTarget = nil }
        self.settle(stream)
        self.events.append(.closed(stream, code: code))
        return 0
    }

    /// Counts as consumed what nobody has taken of a stream that is over.
    private func settle(_ stream: HTTP2Stream) {
        let count: Int
        switch stream.inbound {
        case .undecided(let early): count = early?.readableBytes ?? 0
        case .collecting(let bytes, _):
            self.collectedBytes -= bytes?.readableBytes ?? 0
            count = 0
        case .streaming(let body):
            count = body.settle()
            // The body stays where it is: its consumer still learns of its end.
            _ = unsafe nghttp2_session_consume_connection(self.handle, count)
            return
        case .discarding: return
        }
        stream.inbound = .discarding
        _ = unsafe nghttp2_session_consume_connection(self.handle, count)
    }

    /// How long the next DATA frame may be: nghttp2 would not use more than its least size.
    func dataFrameBytesMax(windows: Int32, _ other: Int32, frame: UInt32) -> Int {
        max(1, min(Int(windows), Int(other), Int(frame), TransportLimits.dataFrameBytesMax))
    }

    /// Says how much of a body the next DATA frame has; ``sendData(of:header:count:)`` puts it there.
    fileprivate func lookAtOutbound(of id: Int32, upTo bytesMax: Int, flags: inout UInt32) -> Int {
        guard let stream = self.streams[id] else { return Int(NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE.rawValue) }
        switch stream.outbound {
        case .none:
            flags |= NGHTTP2_DATA_FLAG_EOF.rawValue
            return 0
        case .bytes(let bytes):
            flags |= NGHTTP2_DATA_FLAG_NO_COPY.rawValue
            if bytes.readableBytes <= bytesMax { flags |= NGHTTP2_DATA_FLAG_EOF.rawValue }
            return min(bytes.readableBytes, bytesMax)
        case .pipe(let pipe): return self.lookAt(pipe, of: stream, upTo: bytesMax, flags: &flags)
        }
    }

    private func lookAt(_ pipe: OutboundBody, of stream: HTTP2Stream, upTo bytesMax: Int, flags: inout UInt32) -> Int {
        switch pipe.look(upTo: bytesMax) {
        case .bytes(let count):
            flags |= NGHTTP2_DATA_FLAG_NO_COPY.rawValue
            return count
        case .starved: return Int(NGHTTP2_ERR_DEFERRED.rawValue)
        case .failed: return Int(NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE.rawValue)
        case .end(let count, let trailers):
            if count > 0 { flags |= NGHTTP2_DATA_FLAG_NO_COPY.rawValue }
            flags |= NGHTTP2_DATA_FLAG_EOF.rawValue
            guard let trailers, !trailers.isEmpty else { return count }
            flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM.rawValue
            self.headerBlock.fill(trailers: trailers)
            let result = unsafe self.headerBlock.withFields { fields in
                unsafe nghttp2_submit_trailer(self.handle, stream.id, fields.baseAddress, fields.count)
            }
            return result == 0 ? count : Int(NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE.rawValue)
        }
    }

    /// Writes a DATA frame with the next `count` bytes of a body into the sink, unless that has enough.
    func sendData(of id: Int32, header: UnsafeRawBufferPointer, count: Int) -> Int32 {
        guard self.sink.byteCount < self.sinkBytesMax else {
            self.isSinkFull = true
            return NGHTTP2_ERR_WOULDBLOCK.rawValue
        }
        guard let stream = self.streams[id], let parts = Self.take(count, of: stream) else {
            return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE.rawValue
        }
        unsafe self.sink.write(copying: header)
        for part in parts { self.sink.write(part) }
        return 0
    }

    /// The next `count` bytes of a stream's body; nil when there are no longer so many.
    private static func take(_ count: Int, of stream: HTTP2Stream) -> [ByteBuffer]? {
        switch stream.outbound {
        case .none: return count == 0 ? [] : nil
        case .bytes(var bytes):
            guard let part = bytes.readSlice(length: count) else { return nil }
            stream.outbound = bytes.readableBytes > 0 ? .bytes(bytes) : .none
            return [part]
        case .pipe(let pipe): return pipe.take(count)
        }
    }
}

private func setting(_ id: nghttp2_settings_id, _ value: UInt32) -> nghttp2_settings_entry {
    nghttp2_settings_entry(settings_id: Int32(id.rawValue), value: value)
}

/// Calls `body` with a pointer to the value, or nil when there is none.
private func withOptionalPointer<R>(
    to provider: inout nghttp2_data_provider?,
    _ body: (UnsafePointer<nghttp2_data_provider>?) -> R
) -> R {
    guard var value = unsafe provider else { return body(nil) }
    return unsafe withUnsafePointer(to: &value) { unsafe body($0) }
}

/// The data provider of every body. It finds the body by stream id in the session instead of through `source.ptr`, so
/// that no pointer has to outlive a call.
private let readOutboundBytes: nghttp2_data_source_read_callback = { _, id, _, length, flags, _, user in
    guard let session = unsafe HTTP2Session.of(user), let flags = unsafe flags else { return Int(callbackFailure) }
    return unsafe session.lookAtOutbound(of: id, upTo: length, flags: &flags.pointee)
}
