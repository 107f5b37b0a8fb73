internal import COpenSSL
internal import NIOCore

/// The end of an `SSL` at which records come out: a BIO that appends them to a buffer, which is handed on as it is.
///
/// A memory BIO would copy all of them twice more. The BIO keeps an unretained pointer to this object, which therefore
/// has to outlive the `SSL`. Confined to one event loop.
@safe final class CiphertextSink {
    /// The kind of BIO; made once for the process, never freed.
    private static let method: UInt = {
        let method = unsafe BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "ciphertext sink")
        unsafe BIO_meth_set_write_ex(method, writeCiphertext)
        unsafe BIO_meth_set_ctrl(method, controlCiphertext)
        return UInt(bitPattern: method)
    }()

    private var buffer = ByteBuffer()

    /// Bytes that wait.
    var waitingBytes: Int { self.buffer.readableBytes }

    /// A BIO that writes here; nil when there is no memory. The caller owns it.
    func makeBIO() -> OpaquePointer? {
        guard let bio = unsafe BIO_new(OpaquePointer(bitPattern: Self.method)) else { return nil }
        // Unretained: the `SSL` that owns the BIO belongs to a session, which keeps this object until it is freed.
        unsafe BIO_set_data(bio, Unmanaged.passUnretained(self).toOpaque())
        unsafe BIO_set_init(bio, 1)
        return unsafe bio
    }

    /// Makes room for the records of so much plaintext, so that they are never moved.
    func reserve(plaintextBytes: Int) {
        // Header, content type and tag of TLS 1.3 are 22 bytes; TLS 1.2's explicit nonce makes it 29.
        let recordOverheadMax = 32
        // In several parts, about two for each full record at most, there are more records than full ones.
        let records = 2 * (plaintextBytes / TransportLimits.recordBytes) + 2
        self.buffer.reserveCapacity(minimumWritableBytes: plaintextBytes + records * recordOverheadMax)
    }

    fileprivate func append(_ bytes: UnsafeRawBufferPointer) { _ = unsafe self.buffer.writeBytes(bytes) }

    /// Everything that waits, or nil.
    func take() -> ByteBuffer? {
        guard self.buffer.readableBytes > 0 else { return nil }
        defer { self.buffer = ByteBuffer() }
        return self.buffer
    }
}

private let writeCiphertext:
    @convention(c) (OpaquePointer?, UnsafePointer<CChar>?, Int, UnsafeMutablePointer<Int>?) -> Int32 = {
        bio,
        bytes,
        count,
        written in
        guard let owner = unsafe BIO_get_data(bio) else { return 0 }
        unsafe Unmanaged<CiphertextSink>.fromOpaque(owner).takeUnretainedValue()
            .append(UnsafeRawBufferPointer(start: bytes, count: count))
        unsafe written?.pointee = count
        return 1
    }

private let controlCiphertext: @convention(c) (OpaquePointer?, Int32, Int, UnsafeMutableRawPointer?) -> Int = {
    _,
    command,
    _,
    _ in
    // Everything is flushed at once; nothing else is supported.
    command == BIO_CTRL_FLUSH ? 1 : 0
}
