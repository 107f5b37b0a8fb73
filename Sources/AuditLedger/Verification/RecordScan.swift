internal import CChecksum
internal import Primitives

/// What verifying needs of a record.
struct RecordScan {
    let sequence: UInt64
    let recordedAt: Timestamp
    /// Where the 64 bytes of `previous` begin in the record's text; that they are digits is not checked.
    let previousPlace: Int
    /// Whether `organization` is the wanted text.
    let isOurs: Bool
}

/// Reads records without copying.
///
/// A quick reader of the usual: it accepts a text only if ``RecordFields`` does, and then says the same; texts with
/// escapes, fractions or names outside ASCII it leaves to ``RecordFields``, as well as all that is wrong. Where the
/// quotation marks are is found in a first pass of 64 bytes at a time: without escapes each begins or ends a string, so
/// that the second pass, over the members, steps from one to the other.
struct RecordScanner: ~Copyable {
    /// Of the quotation marks of the record that is read.
    private let places: UnsafeMutablePointer<UInt16>
    /// The key in quotes.
    private let organization: [UInt8]
    private var lastTime = ReadTime()

    private let finder: QuoteFinder
    private static let previousDigits = Digest.byteCount * 2

    /// - Parameter organization: The key in quotes.
    init(organization: [UInt8], finder: QuoteFinder = .best) {
        self.finder = finder
        let room = EventLimits.recordBytesMax + FT_QUOTES_SLACK
        precondition(room < FT_QUOTE_NONE, "a place has 16 bits")
        self.places = .allocate(capacity: room)
        self.organization = organization
    }

    deinit { self.places.deallocate() }

    /// - Returns: nil when the text is no record.
    mutating func read(_ record: UnsafeBufferPointer<UInt8>) -> RecordScan? {
        if let scan = self.readUsual(record) { return scan }
        guard let fields = try? RecordFields(scanning: Array(record)), let previous = fields.range(.previous),
            previous.count == Self.previousDigits + 2
        else { return nil }
        return RecordScan(
            sequence: fields.sequence.rawValue,
            recordedAt: fields.recordedAt,
            previousPlace: previous.lowerBound + 1,
            isOurs: fields.json(.organization)?.elementsEqual(self.organization) == true
        )
    }

    /// - Returns: nil when the text is not one of those that are read quickly.
    mutating func readUsual(_ record: UnsafeBufferPointer<UInt8>) -> RecordScan? {
        guard let start = record.baseAddress, record.count <= EventLimits.recordBytesMax else { return nil }
        let quotes = self.finder.find(start, record.count, self.places)
        let flags = Int(quotes.flags)
        guard flags & FT_TEXT_IS_SPECIAL == 0 else { return nil }
        let isWide = flags & FT_TEXT_IS_WIDE != 0
        if isWide, !Self.isUTF8(record) { return nil }
        var cursor = Cursor(start: start, count: record.count, quote: self.places, isWide: isWide)
        guard let scan = self.read(&cursor), cursor.next == cursor.end else { return nil }
        return scan
    }

    /// Whether a text is well-formed UTF-8 (RFC 3629).
    private static func isUTF8(_ text: UnsafeBufferPointer<UInt8>) -> Bool {
        (try? UTF8Span(validating: text.span)) != nil
    }

    private mutating func read(_ cursor: inout Cursor) -> RecordScan? {
        guard cursor.take(#"{"action":"#), cursor.string(),
            cursor.take(#","actor":{"id":"#, quotes: 4), cursor.string(),
            cursor.take(#","kind":"#), cursor.string(),
            cursor.optionalString(#","name":"#),
            cursor.optionalString(#","on_behalf_of":"#),
            cursor.optionalString(#","role":"#),
            cursor.take(#"},"after":"#), cursor.value(depth: 0),
            cursor.take(#","before":"#), cursor.value(depth: 0)
        else { return nil }
        guard cursor.optionalString(#","causation":"#), cursor.optionalValue(#","changed":"#, UInt8(ascii: "[")),
            cursor.optionalValue(#","compliance":"#, UInt8(ascii: "{")), cursor.optionalString(#","correlation":"#)
        else { return nil }
        guard cursor.take(#","entity_id":"#), cursor.string(), cursor.take(#","entity_type":"#), cursor.string() else {
            return nil
        }
        if cursor.take(#","occurred_at":"#) {
            guard cursor.time() != nil else { return nil }
        }
        guard cursor.take(#","organization":"#) else { return nil }
        let organization = cursor.next
        guard cursor.string() else { return nil }
        let count = cursor.next - organization
        let isOurs =
            count == self.organization.count
            && self.organization.withUnsafeBytes { ft_is_same(organization, $0.baseAddress, count) != 0 }
        guard cursor.take(#","outcome":"#), cursor.string(),
            cursor.optionalValue(#","personal":"#, UInt8(ascii: "[")), cursor.take(#","previous":"#)
        else { return nil }
        let previous = cursor.next + 1
        guard cursor.string(), cursor.next - previous == Self.previousDigits + 1,
            cursor.optionalString(#","reason":"#),
            cursor.take(#","recorded_at":"#), let recordedAt = cursor.time(&self.lastTime),
            cursor.take(#","request":{"#), self.readRequest(&cursor),
            cursor.take(#"},"sequence":"#), let sequence = cursor.positive(),
            cursor.optionalString(#","session":"#), cursor.take(#","severity":"#), cursor.string(),
            cursor.take("}", quotes: 0)
        else { return nil }
        return RecordScan(
            sequence: sequence,
            recordedAt: recordedAt,
            previousPlace: previous - cursor.start,
            isOurs: isOurs
        )
    }

    private func readRequest(_ cursor: inout Cursor) -> Bool {
        if cursor.take(#""authentication":"#) {
            guard cursor.string(), cursor.take(",", quotes: 0) else { return false }
        }
        return cursor.take(#""channel":"#) && cursor.string() && cursor.take(#","id":"#) && cursor.string()
            && cursor.optionalString(#","ip":"#) && cursor.optionalString(#","user_agent":"#)
    }
}

/// How quotation marks are found: all ways find the same.
enum QuoteFinder: CaseIterable {
    /// Vectors of 64 bytes.
    case wide
    /// Vectors of 32 bytes.
    case fast
    case portable

    /// The fastest that the processor has.
    static let best = Self.allCases.first { $0.isAvailable } ?? .portable

    var isAvailable: Bool {
        switch self {
        case .wide: ft_can_find_quotes_wide() != 0
        case .fast: ft_can_find_quotes_fast() != 0
        case .portable: true
        }
    }

    /// Finds the quotation marks of a text, whose number of bytes fits 16 bits.
    @inline(__always)
    func find(_ text: UnsafePointer<UInt8>, _ count: Int, _ places: UnsafeMutablePointer<UInt16>) -> ft_quotes {
        switch self {
        case .wide: ft_find_quotes_wide(text, count, places)
        case .fast: ft_find_quotes_fast(text, count, places)
        case .portable: ft_find_quotes_portable(text, count, places)
        }
    }
}

/// A time that was read, as text and as value: the records of one command have the same, and it is read once.
private struct ReadTime {
    private var words: (UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0)
    private var value: Timestamp?

    /// - Parameter text: ``Timestamp/textByteCount`` bytes.
    init(_ text: UnsafePointer<UInt8>, _ value: Timestamp) {
        self.words = Self.words(text)
        self.value = value
    }

    init() {}

    private static func words(_ text: UnsafePointer<UInt8>) -> (UInt64, UInt64, UInt64, UInt64) {
        assert(Timestamp.textByteCount == 27)
        let text = UnsafeRawPointer(text)
        return (
            text.loadUnaligned(as: UInt64.self), text.loadUnaligned(fromByteOffset: 8, as: UInt64.self),
            text.loadUnaligned(fromByteOffset: 16, as: UInt64.self),
            text.loadUnaligned(fromByteOffset: 19, as: UInt64.self)
        )
    }

    /// The value if the text is the same.
    func value(of text: UnsafePointer<UInt8>) -> Timestamp? {
        let other = Self.words(text)
        return self.words == other ? self.value : nil
    }
}

/// A place in a text without escapes.
private struct Cursor {
    let start: UnsafePointer<UInt8>
    let end: UnsafePointer<UInt8>
    /// Whether the text has bytes beyond ASCII.
    let isWide: Bool
    private(set) var next: UnsafePointer<UInt8>
    /// The place of the first quotation mark at ``next`` or later; two that are none follow the last.
    private var quote: UnsafePointer<UInt16>

    init(start: UnsafePointer<UInt8>, count: Int, quote: UnsafePointer<UInt16>, isWide: Bool) {
        self.start = start
        self.next = start
        self.end = start + count
        self.quote = quote
        self.isWide = isWide
    }

    /// The byte here; zero, which no text has, at the end.
    private var current: UInt8 { self.next < self.end ? self.next.pointee : 0 }

    private static func word(_ bytes: UnsafePointer<UInt8>, _ offset: Int) -> UInt64 {
        UnsafeRawPointer(bytes + offset).loadUnaligned(as: UInt64.self)
    }

    /// Moves past `text` if it comes next.
    /// - Parameter quotes: Quotation marks in it.
    @inline(__always)
    mutating func take(_ text: StaticString, quotes: Int = 2) -> Bool {
        let count = text.utf8CodeUnitCount
        guard self.end - self.next >= count else { return false }
        let wanted = text.utf8Start
        if count >= 8 {
            var offset = 0
            while offset + 8 <= count {
                guard Self.word(self.next, offset) == Self.word(wanted, offset) else { return false }
                offset += 8
            }
            guard Self.word(self.next, count - 8) == Self.word(wanted, count - 8) else { return false }
        } else {
            for offset in 0..<count where self.next[offset] != wanted[offset] { return false }
        }
        self.next += count
        self.quote += quotes
        return true
    }

    @inline(__always)
    private mutating func take(_ byte: UInt8) -> Bool {
        guard self.current == byte else { return false }
        self.next += 1
        return true
    }

    @inline(__always)
    mutating func optionalString(_ name: StaticString) -> Bool {
        guard self.take(name) else { return true }
        return self.string()
    }

    /// Moves past a member that may be absent, whose value begins with `first`.
    @inline(__always)
    mutating func optionalValue(_ name: StaticString, _ first: UInt8) -> Bool {
        guard self.take(name) else { return true }
        return self.current == first && self.value(depth: 0)
    }

    /// Moves past a string.
    @inline(__always)
    mutating func string() -> Bool {
        let close = Int(self.quote[1])
        guard Int(self.quote[0]) == self.next - self.start, close != FT_QUOTE_NONE else { return false }
        self.next = self.start + close + 1
        self.quote += 2
        return true
    }

    /// Moves past one value.
    mutating func value(depth: Int) -> Bool {
        switch self.current {
        case JSONText.quote: return self.string()
        case UInt8(ascii: "{"): return self.object(depth: depth + 1)
        case UInt8(ascii: "["): return self.array(depth: depth + 1)
        case UInt8(ascii: "t"): return self.take("true", quotes: 0)
        case UInt8(ascii: "f"): return self.take("false", quotes: 0)
        case UInt8(ascii: "n"): return self.take("null", quotes: 0)
        default: return self.integer()
        }
    }

    private mutating func array(depth: Int) -> Bool {
        guard depth <= JSONLimits.depthMaxDefault else { return false }
        self.next += 1
        if self.take(UInt8(ascii: "]")) { return true }
        repeat {
            guard self.value(depth: depth) else { return false }
        } while self.take(UInt8(ascii: ","))
        return self.take(UInt8(ascii: "]"))
    }

    private mutating func object(depth: Int) -> Bool {
        guard depth <= JSONLimits.depthMaxDefault else { return false }
        self.next += 1
        if self.take(UInt8(ascii: "}")) { return true }
        var last: Name?
        repeat {
            let start = self.next + 1
            guard self.string() else { return false }
            let name = Name(start: start, count: self.next - start - 1, textEnd: self.end)
            if let last, !last.precedes(name) { return false }
            if self.isWide, !name.isASCII { return false }
            last = name
            guard self.take(UInt8(ascii: ":")), self.value(depth: depth) else { return false }
        } while self.take(UInt8(ascii: ","))
        return self.take(UInt8(ascii: "}"))
    }

    /// Moves past an integer within ±(2^53−1).
    private mutating func integer() -> Bool {
        let isNegative = self.take(UInt8(ascii: "-"))
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
        let past = self.end - start > 16 ? start + 17 : self.end
        var next = start
        var magnitude = UInt64(0)
        while next < past {
            let digit = next.pointee &- 0x30
            guard digit < 10 else { break }
            magnitude = magnitude &* 10 &+ UInt64(digit)
            next += 1
        }
        let digits = next - start
        guard digits > 0, digits <= 16, digits == 1 || start.pointee != 0x30 else { return nil }
        self.next = next
        guard self.current != UInt8(ascii: "."), self.current | 0x20 != UInt8(ascii: "e") else { return nil }
        return magnitude
    }

    /// Moves past a time in exactly the form that ``Timestamp`` writes.
    mutating func time() -> Timestamp? {
        let start = self.next + 1
        guard self.string(), self.next - start == Timestamp.textByteCount + 1 else { return nil }
        return RecordTime.parse(
            UnsafeBufferPointer(start: start, count: Timestamp.textByteCount),
            0..<Timestamp.textByteCount
        )
    }

    /// The same, with the time that was read before.
    @inline(__always)
    mutating func time(_ last: inout ReadTime) -> Timestamp? {
        let start = self.next + 1
        guard self.string(), self.next - start == Timestamp.textByteCount + 1 else { return nil }
        if let known = last.value(of: start) { return known }
        let text = UnsafeBufferPointer(start: start, count: Timestamp.textByteCount)
        guard let time = RecordTime.parse(text, 0..<Timestamp.textByteCount) else { return nil }
        last = ReadTime(start, time)
        return time
    }
}

/// A member's name in a text.
private struct Name {
    let start: UnsafePointer<UInt8>
    let count: Int
    /// The first eight bytes from ``start`` on, the first the highest, whether they belong to the name or not; nil when the
    /// text ends before.
    let head: UInt64?

    init(start: UnsafePointer<UInt8>, count: Int, textEnd: UnsafePointer<UInt8>) {
        self.start = start
        self.count = count
        self.head =
            textEnd - start >= 8 ? UInt64(bigEndian: UnsafeRawPointer(start).loadUnaligned(as: UInt64.self)) : nil
    }

    var isASCII: Bool { UnsafeBufferPointer(start: self.start, count: self.count).allSatisfy { $0 < 0x80 } }

    /// Whether the bytes of this name come before those of `other`, and are not the same.
    func precedes(_ other: Name) -> Bool {
        let common = min(self.count, other.count)
        if let head = self.head, let otherHead = other.head {
            let same = (head ^ otherHead).leadingZeroBitCount >> 3
            if same < common, same < 8 { return head < otherHead }
            if common <= 8 { return self.count < other.count }
        }
        let order = ft_compare(self.start, other.start, common)
        return order == 0 ? self.count < other.count : order < 0
    }
}
