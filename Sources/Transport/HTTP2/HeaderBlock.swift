internal import CNGHTTP2
internal import HTTPTypes

/// Header fields as one run of bytes, in the form nghttp2 reads them.
///
/// nghttp2 copies names and values when a head is submitted, so one block is refilled for every head and seldom
/// allocates.
struct HeaderBlock {
    private var bytes: [UInt8] = []
    private var lengths: [(name: Int, value: Int)] = []

    /// Refills the block with a response's head.
    mutating func fill(_ head: HTTPResponse, contentLength: Int?) {
        self.clear()
        self.append(":status") { $0.appendDecimal(head.status.code) }
        self.append(contentLength: contentLength, unlessIn: head.headerFields)
        self.append(head.headerFields)
    }

    /// Refills the block with a request's head.
    mutating func fill(_ head: HTTPRequest, contentLength: Int?) {
        self.clear()
        self.append(":method") { $0.append(contentsOf: head.method.rawValue.utf8) }
        self.append(":scheme") { $0.append(contentsOf: (head.scheme ?? "https").utf8) }
        if let authority = head.authority { self.append(":authority") { $0.append(contentsOf: authority.utf8) } }
        self.append(":path") { $0.append(contentsOf: (head.path ?? "/").utf8) }
        self.append(contentLength: contentLength, unlessIn: head.headerFields)
        self.append(head.headerFields)
    }

    /// Refills the block with trailers.
    mutating func fill(trailers: HTTPFields) {
        self.clear()
        self.append(trailers)
    }

    private mutating func clear() {
        self.bytes.removeAll(keepingCapacity: true)
        self.lengths.removeAll(keepingCapacity: true)
    }

    private mutating func append(contentLength: Int?, unlessIn fields: HTTPFields) {
        guard let contentLength, !fields.contains(.contentLength) else { return }
        self.append("content-length") { $0.appendDecimal(contentLength) }
    }

    private mutating func append(_ fields: HTTPFields) {
        for field in fields where !Self.isConnectionSpecific(field.name) {
            let name = field.name.canonicalName
            self.append(name) { bytes in
                unsafe field.withUnsafeBytesOfValue { unsafe bytes.append(contentsOf: $0) }
            }
        }
    }

    /// Fields that HTTP/2 forbids (RFC 9113, section 8.2.2).
    private static func isConnectionSpecific(_ name: HTTPField.Name) -> Bool {
        name == .connection || name == .transferEncoding || name == .upgrade
    }

    private mutating func append(_ name: String, _ appendValue: (inout [UInt8]) -> Void) {
        self.bytes.append(contentsOf: name.utf8)
        let valueStart = self.bytes.count
        appendValue(&self.bytes)
        self.lengths.append((name.utf8.count, self.bytes.count - valueStart))
    }

    /// Calls `body` with the fields; they are valid only during the call.
    mutating func withFields<R>(_ body: (UnsafeBufferPointer<nghttp2_nv>) -> R) -> R {
        let lengths = self.lengths
        return unsafe self.bytes.withUnsafeMutableBufferPointer { bytes in
            unsafe withUnsafeTemporaryAllocation(of: nghttp2_nv.self, capacity: lengths.count) { fields in
                var next = bytes.baseAddress
                for (index, length) in lengths.enumerated() {
                    let value = unsafe next.map { unsafe $0 + length.name }
                    let field = unsafe nghttp2_nv(
                        name: next,
                        value: value,
                        namelen: length.name,
                        valuelen: length.value,
                        flags: UInt8(NGHTTP2_NV_FLAG_NONE.rawValue)
                    )
                    unsafe fields.initializeElement(at: index, to: field)
                    unsafe next = value.map { unsafe $0 + length.value }
                }
                return unsafe body(UnsafeBufferPointer(rebasing: fields[..<lengths.count]))
            }
        }
    }
}

extension [UInt8] {
    /// Appends a number that is not negative.
    fileprivate mutating func appendDecimal(_ number: Int) {
        let zero = UInt8(ascii: "0")
        guard number >= 10 else {
            self.append(zero + UInt8(number))
            return
        }
        self.appendDecimal(number / 10)
        self.append(zero + UInt8(number % 10))
    }
}
