internal import NIOCore
internal import Primitives

/// Writes one JSON text member by member, in the order in which it is told.
///
/// Commas are its own affair; the caller closes what it opens.
struct JSONOutput {
    private(set) var bytes: [UInt8] = []
    private var needsComma = false

    init(capacity: Int = 256) { self.bytes.reserveCapacity(capacity) }

    /// The text so far as a buffer.
    var buffer: ByteBuffer { ByteBuffer(bytes: self.bytes) }

    mutating func beginObject(_ name: StaticString? = nil) { self.open(name, UInt8(ascii: "{")) }
    mutating func endObject() { self.close(UInt8(ascii: "}")) }
    mutating func beginArray(_ name: StaticString? = nil) { self.open(name, UInt8(ascii: "[")) }
    mutating func endArray() { self.close(UInt8(ascii: "]")) }

    mutating func member(_ name: StaticString, _ value: String) {
        self.name(name)
        self.quoted(value)
    }

    mutating func member(_ name: StaticString, _ value: String?) {
        if let value { self.member(name, value) } else { self.null(name) }
    }

    mutating func member(_ name: StaticString, _ value: some BinaryInteger) {
        self.name(name)
        self.bytes.append(contentsOf: String(value).utf8)
    }

    mutating func member(_ name: StaticString, _ value: UInt64?) {
        if let value { self.member(name, value) } else { self.null(name) }
    }

    mutating func member(_ name: StaticString, _ value: Bool) {
        self.name(name)
        self.bytes.append(contentsOf: (value ? "true" : "false").utf8)
    }

    /// Three digits after the point: for milliseconds and seconds.
    mutating func member(_ name: StaticString, thousandths value: Int64) {
        self.name(name)
        let fraction = String(value.magnitude % 1000)
        if value < 0 { self.bytes.append(UInt8(ascii: "-")) }
        self.bytes.append(contentsOf: String(value.magnitude / 1000).utf8)
        self.bytes.append(UInt8(ascii: "."))
        self.bytes.append(contentsOf: String(repeating: "0", count: 3 - fraction.count).utf8)
        self.bytes.append(contentsOf: fraction.utf8)
    }

    mutating func member(_ name: StaticString, _ value: Digest) {
        self.name(name)
        self.bytes.append(UInt8(ascii: "\""))
        value.appendHex(to: &self.bytes)
        self.bytes.append(UInt8(ascii: "\""))
    }

    mutating func member(_ name: StaticString, _ value: Timestamp) {
        self.name(name)
        self.bytes.append(UInt8(ascii: "\""))
        value.appendText(to: &self.bytes)
        self.bytes.append(UInt8(ascii: "\""))
    }

    /// A member whose value is JSON already.
    mutating func member(_ name: StaticString, raw value: some Collection<UInt8>) {
        self.name(name)
        self.bytes.append(contentsOf: value)
    }

    /// A member whose name is only known at run time.
    mutating func member(named name: String, _ value: String) {
        self.separate()
        self.quoted(name)
        self.bytes.append(UInt8(ascii: ":"))
        self.quoted(value)
    }

    mutating func null(_ name: StaticString) {
        self.name(name)
        self.bytes.append(contentsOf: "null".utf8)
    }

    mutating func element(_ value: String) {
        self.separate()
        self.quoted(value)
    }

    mutating func element(raw value: some Collection<UInt8>) {
        self.separate()
        self.bytes.append(contentsOf: value)
    }

    /// Ends a line of newline-delimited JSON.
    mutating func endLine() {
        self.bytes.append(UInt8(ascii: "\n"))
        self.needsComma = false
    }

    private mutating func open(_ name: StaticString?, _ bracket: UInt8) {
        if let name { self.name(name) } else { self.separate() }
        self.bytes.append(bracket)
        self.needsComma = false
    }

    private mutating func close(_ bracket: UInt8) {
        self.bytes.append(bracket)
        self.needsComma = true
    }

    private mutating func separate() {
        if self.needsComma { self.bytes.append(UInt8(ascii: ",")) }
        self.needsComma = true
    }

    private mutating func name(_ name: StaticString) {
        self.separate()
        self.bytes.append(UInt8(ascii: "\""))
        name.withUTF8Buffer { self.bytes.append(contentsOf: $0) }
        self.bytes.append(UInt8(ascii: "\""))
        self.bytes.append(UInt8(ascii: ":"))
    }

    private mutating func quoted(_ text: String) {
        self.bytes.append(UInt8(ascii: "\""))
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "\""), UInt8(ascii: "\\"):
                self.bytes.append(UInt8(ascii: "\\"))
                self.bytes.append(byte)
            case 0..<0x20:
                self.bytes.append(contentsOf: "\\u00".utf8)
                self.bytes.append(Hex.digit(byte >> 4))
                self.bytes.append(Hex.digit(byte & 0x0F))
            default: self.bytes.append(byte)
            }
        }
        self.bytes.append(UInt8(ascii: "\""))
    }
}
