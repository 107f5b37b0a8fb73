/// Reads the JSON that DuckDB prints for a statement; strict, and bounded in depth.
struct SyntaxReader {
    /// The deepest nesting of JSON containers: five for every level of the statement's own depth limit.
    static let depthMax = 5 * StatementGate.depthMax

    enum Failure: Error, Sendable {
        case malformed(offset: Int)
        case tooDeep
    }

    private let bytes: [UInt8]
    private var next = 0

    private init(_ text: String) { self.bytes = Array(text.utf8) }

    /// The value of a whole JSON text.
    static func read(_ text: String) throws(Failure) -> SyntaxNode {
        var reader = SyntaxReader(text)
        let node = try reader.value(depth: 0)
        reader.skipSpace()
        guard reader.next == reader.bytes.count else { throw .malformed(offset: reader.next) }
        return node
    }

    private var malformed: Failure { .malformed(offset: self.next) }
    private var byte: UInt8? { self.next < self.bytes.count ? self.bytes[self.next] : nil }

    private mutating func skipSpace() {
        while let byte = self.byte, byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 { self.next += 1 }
    }

    private mutating func take(_ expected: UInt8) throws(Failure) {
        guard self.byte == expected else { throw self.malformed }
        self.next += 1
    }

    private mutating func take(word: StaticString, as node: SyntaxNode) throws(Failure) -> SyntaxNode {
        let word = Array(word.description.utf8)
        guard self.bytes[self.next...].starts(with: word) else { throw self.malformed }
        self.next += word.count
        return node
    }

    private mutating func value(depth: Int) throws(Failure) -> SyntaxNode {
        guard depth <= Self.depthMax else { throw .tooDeep }
        self.skipSpace()
        switch self.byte {
        case UInt8(ascii: "{"): return try self.object(depth: depth)
        case UInt8(ascii: "["): return try self.array(depth: depth)
        case UInt8(ascii: "\""): return .string(try self.string())
        case UInt8(ascii: "t"): return try self.take(word: "true", as: .bool(true))
        case UInt8(ascii: "f"): return try self.take(word: "false", as: .bool(false))
        case UInt8(ascii: "n"): return try self.take(word: "null", as: .null)
        default: return .number(try self.number())
        }
    }

    private mutating func object(depth: Int) throws(Failure) -> SyntaxNode {
        var members: [SyntaxNode.Member] = []
        members.reserveCapacity(16)
        self.next += 1
        self.skipSpace()
        if self.byte == UInt8(ascii: "}") {
            self.next += 1
            return .object(members)
        }
        while true {
            self.skipSpace()
            let key = try self.string()
            self.skipSpace()
            try self.take(UInt8(ascii: ":"))
            members.append(SyntaxNode.Member(key: key, value: try self.value(depth: depth + 1)))
            self.skipSpace()
            if self.byte == UInt8(ascii: ",") {
                self.next += 1
                continue
            }
            try self.take(UInt8(ascii: "}"))
            return .object(members)
        }
    }

    private mutating func array(depth: Int) throws(Failure) -> SyntaxNode {
        var elements: [SyntaxNode] = []
        self.next += 1
        self.skipSpace()
        if self.byte == UInt8(ascii: "]") {
            self.next += 1
            return .array(elements)
        }
        while true {
            elements.append(try self.value(depth: depth + 1))
            self.skipSpace()
            if self.byte == UInt8(ascii: ",") {
                self.next += 1
                continue
            }
            try self.take(UInt8(ascii: "]"))
            return .array(elements)
        }
    }

    private mutating func number() throws(Failure) -> String {
        let start = self.next
        while let byte = self.byte {
            switch byte {
            case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "+"), UInt8(ascii: "."),
                UInt8(ascii: "e"), UInt8(ascii: "E"):
                self.next += 1
                continue
            default: break
            }
            break
        }
        guard self.next > start else { throw self.malformed }
        return String(decoding: self.bytes[start..<self.next], as: UTF8.self)
    }

    private mutating func string() throws(Failure) -> String {
        try self.take(UInt8(ascii: "\""))
        let start = self.next
        while let byte = self.byte, byte != UInt8(ascii: "\""), byte != UInt8(ascii: "\\") { self.next += 1 }
        if self.byte == UInt8(ascii: "\"") {
            self.next += 1
            return String(decoding: self.bytes[start..<self.next - 1], as: UTF8.self)
        }
        var text = Array(self.bytes[start..<self.next])
        while let byte = self.byte {
            self.next += 1
            switch byte {
            case UInt8(ascii: "\""): return String(decoding: text, as: UTF8.self)
            case UInt8(ascii: "\\"): try self.escape(into: &text)
            default: text.append(byte)
            }
        }
        throw self.malformed
    }

    private mutating func escape(into text: inout [UInt8]) throws(Failure) {
        guard let byte = self.byte else { throw self.malformed }
        self.next += 1
        switch byte {
        case UInt8(ascii: "n"): text.append(0x0A)
        case UInt8(ascii: "t"): text.append(0x09)
        case UInt8(ascii: "r"): text.append(0x0D)
        case UInt8(ascii: "b"): text.append(0x08)
        case UInt8(ascii: "f"): text.append(0x0C)
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): text.append(byte)
        case UInt8(ascii: "u"):
            var code = try self.hexadecimal()
            if (0xD800..<0xDC00).contains(code) {
                try self.take(UInt8(ascii: "\\"))
                try self.take(UInt8(ascii: "u"))
                let low = try self.hexadecimal()
                guard (0xDC00..<0xE000).contains(low) else { throw self.malformed }
                code = 0x10000 + (code - 0xD800) << 10 + (low - 0xDC00)
            }
            guard let scalar = Unicode.Scalar(code) else { throw self.malformed }
            text.append(contentsOf: String(Character(scalar)).utf8)
        default: throw self.malformed
        }
    }

    private mutating func hexadecimal() throws(Failure) -> UInt32 {
        guard self.next + 4 <= self.bytes.count else { throw self.malformed }
        let digits = String(decoding: self.bytes[self.next..<self.next + 4], as: UTF8.self)
        guard let value = UInt32(digits, radix: 16) else { throw self.malformed }
        self.next += 4
        return value
    }
}
