internal import CChecksum
internal import Primitives

/// What verifying needs of a record, read in one pass without copying.
///
/// A quick reader of the usual: it accepts a text only if ``RecordFields`` does, and then says the same; texts with
/// escapes, fractions or names outside ASCII it leaves to ``RecordFields``, as well as all that is wrong.
struct RecordScan {
    /// Bytes that must be readable after a record's end; the first one must be zero.
    static let slackBytes = 32

    var sequence = UInt64(0)
    var recordedAt = Timestamp(microseconds: 0)
    var previous = Digest.zero
    /// Whether `organization` is the wanted text.
    var isOurs = false

    /// - Returns: nil when the text is not one of those that are read here.
    init?(_ record: UnsafeBufferPointer<UInt8>, organization: [UInt8]) {
        guard let start = record.baseAddress, record.count <= EventLimits.recordBytesMax else { return nil }
        var cursor = Cursor(next: start)
        guard self.read(&cursor, organization), cursor.next == start + record.count else { return nil }
    }

    /// The same from fields that were read another way; nil when there is no link in them.
    init?(_ fields: RecordFields, organization: [UInt8]) {
        guard let previous = fields.previous else { return nil }
        self.sequence = fields.sequence.rawValue
        self.recordedAt = fields.recordedAt
        self.previous = previous
        self.isOurs = fields.json(.organization)?.elementsEqual(organization) == true
    }

    private mutating func read(_ cursor: inout Cursor, _ organization: [UInt8]) -> Bool {
        guard cursor.take(#"{"action":"#), cursor.string(),
            cursor.take(#","actor":{"id":"#), cursor.string(),
            cursor.take(#","kind":"#), cursor.string(),
            cursor.optionalString(#","name":"#),
            cursor.optionalString(#","on_behalf_of":"#),
            cursor.optionalString(#","role":"#),
            cursor.take(#"},"after":"#), cursor.value(depth: 0),
            cursor.take(#","before":"#), cursor.value(depth: 0)
        else { return false }
        guard cursor.optionalString(#","causation":"#), cursor.optionalValue(#","changed":"#, UInt8(ascii: "[")),
            cursor.optionalValue(#","compliance":"#, UInt8(ascii: "{")), cursor.optionalString(#","correlation":"#)
        else { return false }
        guard cursor.take(#","entity_id":"#), cursor.string(), cursor.take(#","entity_type":"#), cursor.string() else {
            return false
        }
        if cursor.take(#","occurred_at":"#) {
            guard cursor.time() != nil else { return false }
        }
        guard cursor.take(#","organization":"#) else { return false }
        let start = cursor.next
        guard cursor.string() else { return false }
        let count = cursor.next - start
        self.isOurs =
            count == organization.count
            && organization.withUnsafeBytes { ft_is_same(start, $0.baseAddress, count) != 0 }
        guard cursor.take(#","outcome":"#), cursor.string(),
            cursor.optionalValue(#","personal":"#, UInt8(ascii: "[")), cursor.take(#","previous":"#),
            let previous = cursor.digest(), cursor.optionalString(#","reason":"#),
            cursor.take(#","recorded_at":"#), let recordedAt = cursor.time(),
            cursor.take(#","request":{"#), self.readRequest(&cursor),
            cursor.take(#"},"sequence":"#), let sequence = cursor.positive(),
            cursor.optionalString(#","session":"#), cursor.take(#","severity":"#), cursor.string(), cursor.take("}")
        else { return false }
        self.previous = previous
        self.recordedAt = recordedAt
        self.sequence = sequence
        return true
    }

    private func readRequest(_ cursor: inout Cursor) -> Bool {
        if cursor.take(#""authentication":"#) {
            guard cursor.string(), cursor.take(",") else { return false }
        }
        return cursor.take(#""channel":"#) && cursor.string() && cursor.take(#","id":"#) && cursor.string()
            && cursor.optionalString(#","ip":"#) && cursor.optionalString(#","user_agent":"#)
    }
}

/// A place in a text; the zero byte after the text ends every loop, as no part of a record has one.
private struct Cursor {
    var next: UnsafePointer<UInt8>

    private static let ones: UInt64 = 0x0101_0101_0101_0101

    var current: UInt8 { self.next.pointee }

    private func word(at offset: Int) -> UInt64 {
        UnsafeRawPointer(self.next + offset).loadUnaligned(as: UInt64.self)
    }

    /// Moves past `text`, of at most ``RecordScan/slackBytes`` bytes, if it comes next.
    @inline(__always)
    mutating func take(_ text: StaticString) -> Bool {
        let count = text.utf8CodeUnitCount
        let wanted = text.utf8Start
        var offset = 0
        while offset + 8 <= count {
            let word = UnsafeRawPointer(wanted + offset).loadUnaligned(as: UInt64.self)
            guard self.word(at: offset) == word else { return false }
            offset += 8
        }
        while offset < count {
            guard self.next[offset] == wanted[offset] else { return false }
            offset += 1
        }
        self.next += count
        return true
    }

    @inline(__always)
    mutating func optionalString(_ name: StaticString) -> Bool {
        guard self.take(name) else { return true }
        return self.string()
    }

    /// Moves past a member that may be absent, whose value begins with `first`.
    mutating func optionalValue(_ name: StaticString, _ first: UInt8) -> Bool {
        guard self.take(name) else { return true }
        return self.current == first && self.value(depth: 0)
    }

    /// Moves past a string without escapes.
    mutating func string() -> Bool { self.plainString() != nil }

    /// - Returns: Whether all of it is ASCII; nil when it is no string, or has an escape.
    private mutating func plainString() -> Bool? {
        guard self.current == JSONText.quote else { return nil }
        self.next += 1
        var isASCII = true
        while true {
            self.next += ft_plain_count(self.next)
            let byte = self.current
            if byte == JSONText.quote {
                self.next += 1
                return isASCII
            }
            guard byte >= 0x80, let length = self.multibyteLength() else { return nil }
            isASCII = false
            self.next += length
        }
    }

    /// The length of the well-formed UTF-8 sequence that begins here (RFC 3629).
    private func multibyteLength() -> Int? {
        let first = self.next[0]
        let length: Int
        var low = UInt8(0x80)
        var high = UInt8(0xBF)
        switch first {
        case 0xC2...0xDF: length = 2
        case 0xE0:
            length = 3
            low = 0xA0
        case 0xE1...0xEC, 0xEE...0xEF: length = 3
        case 0xED:
            length = 3
            high = 0x9F
        case 0xF0:
            length = 4
            low = 0x90
        case 0xF1...0xF3: length = 4
        case 0xF4:
            length = 4
            high = 0x8F
        default: return nil
        }
        guard self.next[1] >= low, self.next[1] <= high else { return nil }
        for offset in 2..<max(length, 2) where self.next[offset] & 0xC0 != 0x80 { return nil }
        return length
    }

    /// Moves past one value.
    mutating func value(depth: Int) -> Bool {
        switch self.current {
        case JSONText.quote: return self.string()
        case UInt8(ascii: "{"): return self.object(depth: depth + 1)
        case UInt8(ascii: "["): return self.array(depth: depth + 1)
        case UInt8(ascii: "t"): return self.take("true")
        case UInt8(ascii: "f"): return self.take("false")
        case UInt8(ascii: "n"): return self.take("null")
        default: return self.integer()
        }
    }

    private mutating func array(depth: Int) -> Bool {
        guard depth <= JSONLimits.depthMaxDefault else { return false }
        self.next += 1
        if self.take("]") { return true }
        repeat {
            guard self.value(depth: depth) else { return false }
        } while self.take(",")
        return self.take("]")
    }

    private mutating func object(depth: Int) -> Bool {
        guard depth <= JSONLimits.depthMaxDefault else { return false }
        self.next += 1
        if self.take("}") { return true }
        var last: UnsafeBufferPointer<UInt8>?
        repeat {
            let start = self.next
            guard self.plainString() == true else { return false }
            let key = UnsafeBufferPointer(start: start + 1, count: self.next - start - 2)
            if let last, !last.lexicographicallyPrecedes(key) { return false }
            last = key
            guard self.take(":"), self.value(depth: depth) else { return false }
        } while self.take(",")
        return self.take("}")
    }

    /// Moves past an integer within ±(2^53−1).
    private mutating func integer() -> Bool {
        let isNegative = self.take("-")
        guard let magnitude = self.magnitude(), magnitude <= JSONNumberText.integerMax else { return false }
        return magnitude > 0 || !isNegative
    }

    mutating func positive() -> UInt64? {
        guard let magnitude = self.magnitude(), magnitude > 0, magnitude <= JSONNumberText.integerMax else {
            return nil
        }
        return magnitude
    }

    /// Up to 16 digits without a leading zero that nothing of a number follows.
    private mutating func magnitude() -> UInt64? {
        let start = self.next
        var magnitude = UInt64(0)
        while JSONNumberText.isDigit(self.current) {
            guard self.next - start < 16 else { return nil }
            magnitude = magnitude * 10 + UInt64(self.current - 0x30)
            self.next += 1
        }
        let digits = self.next - start
        guard digits > 0, digits == 1 || start.pointee != 0x30 else { return nil }
        guard self.current != UInt8(ascii: "."), self.current | 0x20 != UInt8(ascii: "e") else { return nil }
        return magnitude
    }

    /// Moves past a time in exactly the form that ``Timestamp`` writes.
    mutating func time() -> Timestamp? {
        let start = self.next
        guard self.string() else { return nil }
        let inner = 1..<self.next - start - 1
        guard inner.count == Timestamp.textByteCount else { return nil }
        return RecordTime.parse(UnsafeBufferPointer(start: start, count: self.next - start), inner)
    }

    /// Moves past 64 lowercase hexadecimal digits in quotes.
    mutating func digest() -> Digest? {
        guard self.take("\"") else { return nil }
        var words: InlineArray<4, UInt64> = InlineArray(repeating: 0)
        for place in 0..<4 {
            guard let high = Self.value(ofHex: self.word(at: 0)), let low = Self.value(ofHex: self.word(at: 8)) else {
                return nil
            }
            words[place] = high << 32 | low
            self.next += 16
        }
        guard self.take("\"") else { return nil }
        return Digest(words: (words[0], words[1], words[2], words[3]))
    }

    /// The value of eight lowercase hexadecimal digits, the first in the lowest byte.
    private static func value(ofHex text: UInt64) -> UInt64? {
        let letters = (text >> 6) & Self.ones
        let nibbles = (text & (Self.ones &* 0x0F)) &+ letters &* 9
        // Written again they must be the same: so anything else is refused.
        guard nibbles & (Self.ones &* 0xF0) == 0 else { return nil }
        let above = ((nibbles &+ Self.ones &* 6) >> 4) & Self.ones
        guard nibbles &+ Self.ones &* 0x30 &+ above &* 0x27 == text else { return nil }
        var value = nibbles.byteSwapped
        value = (value | value >> 4) & 0x00FF_00FF_00FF_00FF
        value = (value | value >> 8) & 0x0000_FFFF_0000_FFFF
        value = (value | value >> 16) & 0x0000_0000_FFFF_FFFF
        return value
    }
}
