/// Walks over a text that should be canonical JSON (RFC 8785) and refuses anything that is not, without copying.
///
/// What ``JSONCanonicalizer`` writes passes; any other text of the same value does not.
struct CanonicalScanner: Sendable {
    let bytes: [UInt8]
    let end: Int
    var next: Int
    private var depth = 0

    init(_ bytes: [UInt8]) { self.init(bytes, range: 0..<bytes.count) }

    init(_ bytes: [UInt8], range: Range<Int>) {
        self.bytes = bytes
        self.next = range.lowerBound
        self.end = range.upperBound
    }

    var isAtEnd: Bool { self.next == self.end }

    func failure(_ message: String) -> JSONError {
        JSONError(code: .notCanonical, message: message, offset: self.next, line: 1, column: self.next + 1)
    }

    /// The byte at the cursor, or zero at the end (which no JSON text has outside strings).
    var current: UInt8 { self.next < self.end ? self.bytes[self.next] : 0 }

    /// Moves past `text` if it comes next.
    mutating func take(_ text: [UInt8]) -> Bool {
        let start = self.next
        let count = text.count
        guard count <= self.end - start else { return false }
        precondition(start >= 0 && self.end <= self.bytes.count, "the cursor lies in the text")
        let isNext = self.bytes.withUnsafeBytes { bytes in
            text.withUnsafeBytes { text in
                var offset = 0
                while offset + 8 <= count {
                    let word = bytes.loadUnaligned(fromByteOffset: start + offset, as: UInt64.self)
                    guard word == text.loadUnaligned(fromByteOffset: offset, as: UInt64.self) else { return false }
                    offset += 8
                }
                while offset < count {
                    guard bytes[start + offset] == text[offset] else { return false }
                    offset += 1
                }
                return true
            }
        }
        if isNext { self.next += count }
        return isNext
    }

    mutating func take(_ byte: UInt8) -> Bool {
        guard self.current == byte, self.next < self.end else { return false }
        self.next += 1
        return true
    }

    mutating func expect(_ byte: UInt8) throws(JSONError) {
        guard self.take(byte) else { throw self.failure("an expected mark is absent") }
    }

    /// Moves past one value.
    mutating func value() throws(JSONError) {
        switch self.current {
        case JSONText.quote: _ = try self.string()
        case UInt8(ascii: "{"): try self.object()
        case UInt8(ascii: "["): try self.array()
        case UInt8(ascii: "t"): try self.literal(JSONText.true)
        case UInt8(ascii: "f"): try self.literal(JSONText.false)
        case UInt8(ascii: "n"): try self.literal(JSONText.null)
        default: try self.number()
        }
    }

    private mutating func literal(_ text: [UInt8]) throws(JSONError) {
        guard self.take(text) else { throw self.failure("not a literal") }
    }

    mutating func number() throws(JSONError) {
        guard let shape = JSONNumberText.shape(self.bytes, from: self.next, end: self.end) else {
            throw self.failure("not a number")
        }
        if let reason = JSONNumberText.inexactness(self.bytes, self.next, shape) { throw self.failure(reason) }
        self.next = shape.end
    }

    /// Moves past a string.
    /// - Returns: Whether it has an escape.
    mutating func string() throws(JSONError) -> Bool {
        try self.expect(JSONText.quote)
        var isEscaped = false
        var place = self.next
        let end = self.end
        while place < end {
            place = JSONText.plainRunEnd(self.bytes, from: place, to: end)
            guard place < end else { break }
            let byte = self.bytes[place]
            if byte == JSONText.quote {
                self.next = place + 1
                return isEscaped
            } else if byte == JSONText.backslash {
                isEscaped = true
                self.next = place
                place = try self.escapeEnd(at: place)
            } else {
                guard byte >= 0x80, let length = JSONText.multibyteLength(self.bytes, at: place, end: end) else {
                    self.next = place
                    throw self.failure("a string holds a control character or bytes that are not UTF-8")
                }
                place += length
            }
        }
        throw self.failure("the text ends inside a string")
    }

    /// The end of a canonical escape: the seven short ones, or `\u00` with two lowercase digits for the others
    /// below U+0020.
    private func escapeEnd(at place: Int) throws(JSONError) -> Int {
        guard place + 1 < self.end else { throw self.failure("the text ends inside an escape") }
        switch self.bytes[place + 1] {
        case JSONText.quote, JSONText.backslash, UInt8(ascii: "b"), UInt8(ascii: "f"), UInt8(ascii: "n"),
            UInt8(ascii: "r"), UInt8(ascii: "t"):
            return place + 2
        case UInt8(ascii: "u"):
            guard place + 6 <= self.end, self.bytes[place + 2] == 0x30, self.bytes[place + 3] == 0x30,
                self.bytes[place + 4] == 0x30 || self.bytes[place + 4] == 0x31,
                let low = JSONText.hexValue(self.bytes[place + 5]),
                self.bytes[place + 5] < UInt8(ascii: "A") || self.bytes[place + 5] > UInt8(ascii: "F")
            else { throw self.failure("an escape is not in its canonical form") }
            let scalar = UInt32(self.bytes[place + 4] - 0x30) << 4 | low
            switch scalar {
            case 0x08, 0x09, 0x0A, 0x0C, 0x0D: throw self.failure("an escape is not in its canonical form")
            default: return place + 6
            }
        default: throw self.failure("an escape is not in its canonical form")
        }
    }

    private mutating func enter() throws(JSONError) {
        guard self.depth < JSONLimits.depthMaxDefault else { throw self.failure("nested too deep") }
        self.depth += 1
        self.next += 1
    }

    private mutating func array() throws(JSONError) {
        try self.enter()
        if !self.take(UInt8(ascii: "]")) {
            repeat { try self.value() } while self.take(UInt8(ascii: ","))
            try self.expect(UInt8(ascii: "]"))
        }
        self.depth -= 1
    }

    private mutating func object() throws(JSONError) {
        try self.enter()
        if !self.take(UInt8(ascii: "}")) {
            var previous: Range<Int>?
            var wasEscaped = false
            repeat {
                let keyStart = self.next
                let isEscaped = try self.string()
                let key = keyStart..<self.next
                if let previous {
                    let escaped = wasEscaped || isEscaped
                    guard JSONText.compareQuotedKeys(self.bytes, previous, key, escaped: escaped) < 0 else {
                        throw self.failure("members are not in canonical order, or one comes twice")
                    }
                }
                previous = key
                wasEscaped = isEscaped
                try self.expect(UInt8(ascii: ":"))
                try self.value()
            } while self.take(UInt8(ascii: ","))
            try self.expect(UInt8(ascii: "}"))
        }
        self.depth -= 1
    }
}
