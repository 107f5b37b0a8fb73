internal import CNGHTTP2

/// Owns one `nghttp2_option`: how sessions behave. Read only after `init`.
@safe final class HTTP2Options: Sendable {
    nonisolated(unsafe) let handle: OpaquePointer  // sendable-ok: read only after init

    init(limits: TransportLimits) throws(TransportError) {
        var handle: OpaquePointer?
        guard unsafe nghttp2_option_new(&handle) == 0, let handle = unsafe handle else {
            throw TransportError(.outOfMemory, "nghttp2_option")
        }
        unsafe self.handle = handle
        // Windows open only for bytes that somebody has taken; see `HTTP2Session.receivedData`.
        unsafe nghttp2_option_set_no_auto_window_update(handle, 1)
        unsafe nghttp2_option_set_no_closed_streams(handle, 1)
        unsafe nghttp2_option_set_stream_reset_rate_limit(
            handle,
            UInt64(limits.streamResetsMax),
            UInt64(limits.streamResetsPerSecond)
        )
        unsafe nghttp2_option_set_max_outbound_ack(handle, limits.controlFramesMax)
        unsafe nghttp2_option_set_max_reserved_remote_streams(handle, 0)
        unsafe nghttp2_option_set_max_send_header_block_length(handle, 4 * limits.headerBytesMax)
    }

    deinit { unsafe nghttp2_option_del(self.handle) }
}

/// Owns one `nghttp2_session_callbacks`: which functions sessions call.
///
/// Every callback finds its session through the user data pointer, so one table serves all connections.
/// Read only after `init`.
@safe final class HTTP2Callbacks: Sendable {
    nonisolated(unsafe) let handle: OpaquePointer  // sendable-ok: read only after init

    init() throws(TransportError) {
        var handle: OpaquePointer?
        guard unsafe nghttp2_session_callbacks_new(&handle) == 0, let handle = unsafe handle else {
            throw TransportError(.outOfMemory, "nghttp2_session_callbacks")
        }
        unsafe self.handle = handle
        unsafe nghttp2_session_callbacks_set_on_begin_headers_callback(handle) { _, frame, user in
            guard let session = unsafe HTTP2Session.of(user), let frame = unsafe frame else { return callbackFailure }
            return unsafe session.beganHeaders(of: frame.pointee)
        }
        unsafe nghttp2_session_callbacks_set_on_header_callback(handle) {
            _,
            _,
            name,
            nameLength,
            value,
            valueLength,
            _,
            user in
            guard let session = unsafe HTTP2Session.of(user) else { return callbackFailure }
            return unsafe session.receivedHeader(
                name: UnsafeBufferPointer(start: name, count: nameLength),
                value: UnsafeBufferPointer(start: value, count: valueLength)
            )
        }
        unsafe nghttp2_session_callbacks_set_on_data_chunk_recv_callback(handle) {
            _,
            _,
            streamID,
            data,
            length,
            user in
            guard let session = unsafe HTTP2Session.of(user) else { return callbackFailure }
            return unsafe session.receivedData(UnsafeRawBufferPointer(start: data, count: length), on: streamID)
        }
        unsafe nghttp2_session_callbacks_set_on_frame_recv_callback(handle) { _, frame, user in
            guard let session = unsafe HTTP2Session.of(user), let frame = unsafe frame else { return callbackFailure }
            return unsafe session.receivedFrame(frame.pointee)
        }
        unsafe nghttp2_session_callbacks_set_send_data_callback(handle) { _, frame, header, count, _, user in
            guard let session = unsafe HTTP2Session.of(user), let frame = unsafe frame else { return callbackFailure }
            return unsafe session.sendData(
                of: frame.pointee.hd.stream_id,
                header: UnsafeRawBufferPointer(start: header, count: HTTP2Session.frameHeaderBytes),
                count: count
            )
        }
        unsafe nghttp2_session_callbacks_set_data_source_read_length_callback(handle) {
            _,
            _,
            _,
            connectionWindow,
            streamWindow,
            frameBytesMax,
            user in
            guard let session = unsafe HTTP2Session.of(user) else { return Int(callbackFailure) }
            return session.dataFrameBytesMax(windows: connectionWindow, streamWindow, frame: frameBytesMax)
        }
        unsafe nghttp2_session_callbacks_set_on_frame_send_callback(handle) { _, frame, user in
            guard let session = unsafe HTTP2Session.of(user), let frame = unsafe frame else { return callbackFailure }
            return unsafe session.sentFrame(frame.pointee)
        }
        unsafe nghttp2_session_callbacks_set_on_frame_not_send_callback(handle) { _, frame, code, user in
            guard let session = unsafe HTTP2Session.of(user), let frame = unsafe frame else { return callbackFailure }
            return unsafe session.couldNotSend(frame.pointee, code: code)
        }
        unsafe nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(handle) { _, _, _, user in
            guard let session = unsafe HTTP2Session.of(user) else { return callbackFailure }
            return session.receivedInvalidFrame()
        }
        unsafe nghttp2_session_callbacks_set_on_stream_close_callback(handle) { _, streamID, code, user in
            guard let session = unsafe HTTP2Session.of(user) else { return callbackFailure }
            return session.closedStream(streamID, code: code)
        }
    }

    deinit { unsafe nghttp2_session_callbacks_del(self.handle) }
}

/// What a callback returns to end the whole session.
let callbackFailure = NGHTTP2_ERR_CALLBACK_FAILURE.rawValue
