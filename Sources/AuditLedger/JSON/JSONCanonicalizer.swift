/// Reads one strict JSON text and writes its canonical form (RFC 8785) in one pass over the bytes.
///
/// Reusable: the buffers are kept between texts. Objects whose members come in canonical order cost nothing extra;
/// others are put in order after their last member.
struct JSONCanonicalizer: Sendable {
    /// One member of an object that is being written; ranges are in ``output``.
    struct Member: Sendable {
        /// With its quotes.
        var key: Range<Int>
        var value: Range<Int>
        var inputOffset: Int
        var isEscaped: Bool
        /// The first eight bytes of the name, big-endian, padded with zeros.
        var prefix: UInt64
    }

    let limits: JSONLimits
    /// The canonical text, after ``run(_:range:)``.
    private(set) var output: [UInt8] = []
    /// The members of the outermost value in canonical order, when that is an object.
    private(set) var members: [Member] = []
    private var input: [UInt8] = []
    private var start = 0
    private var next = 0
    private var end = 0
    private var values = 0
    /// Stands in ``path`` for a container of which nothing was read yet.
    private static let noStep = Int.max
    /// One entry per open container: the element's index, or the complement of the member's place in ``members``.
    private var path: [Int] = []
    private var scratch: [UInt8] = []
    /// Places in ``members``, while an object's are put in order.
    private var order: [Int] = []
    private var moved: [Member] = []
    /// Room for the members of an event and of what is nested in it.
    private static let membersExpected = 24
    /// Objects of up to so many members are sorted by insertion.
    private static let insertionSortMax = 24

    init(limits: JSONLimits) {
        self.limits = limits
    }

    /// Writes the canonical form of `input[range]` to ``output``.
    mutating func run(_ input: [UInt8], range: Range<Int>) throws(JSONError) {
        self.input = input
        self.start = range.lowerBound
        self.next = range.lowerBound
        self.end = range.upperBound
        self.values = 0
        self.output.removeAll(keepingCapacity: true)
        self.members.removeAll(keepingCapacity: true)
        self.path.removeAll(keepingCapacity: true)
        defer { self.input = [] }
        guard range.count <= self.limits.bytesMax else {
            throw self.failure(.tooLarge, "the text is longer than \(self.limits.bytesMax) bytes")
        }
        self.output.reserveCapacity(range.count)
        self.path.reserveCapacity(self.limits.depthMax)
        self.members.reserveCapacity(Self.membersExpected)
        self.skipSpace()
        try self.value()
        self.skipSpace()
        guard self.next == self.end else { throw self.failure(.trailingBytes, "something follows the JSON value") }
    }

    private mutating func skipSpace() {
        while self.next < self.end {
            switch self.input[self.next] {
            case 0x20, 0x0A, 0x0D, 0x09: self.next += 1
            default: return
            }
        }
    }

    private mutating func value() throws(JSONError) {
        self.values += 1
        guard self.values <= self.limits.valuesMax else {
            throw self.failure(.tooLarge, "the text has more than \(self.limits.valuesMax) values")
        }
        guard self.next < self.end else { throw self.failure(.syntax, "the text ends where a value should begin") }
        switch self.input[self.next] {
        case JSONText.quote: _ = try self.string()
        case UInt8(ascii: "{"): try self.object()
        case UInt8(ascii: "["): try self.array()
        case UInt8(ascii: "-"), 0x30...0x39: try self.number()
        case UInt8(ascii: "t"): try self.literal(JSONText.true)
        case UInt8(ascii: "f"): try self.literal(JSONText.false)
        case UInt8(ascii: "n"): try self.literal(JSONText.null)
        default: throw self.failure(.syntax, "this byte cannot begin a value")
        }
    }

    private mutating func literal(_ text: [UInt8]) throws(JSONError) {
        guard self.next + text.count <= self.end else { throw self.failure(.syntax, "the text ends inside a literal") }
        for offset in 0..<text.count where self.input[self.next + offset] != text[offset] {
            throw self.failure(.syntax, "only true, false and null are written without quotes")
        }
        self.output.append(contentsOf: text)
        self.next += text.count
    }

    private mutating func number() throws(JSONError) {
        guard let shape = JSONNumberText.shape(self.input, from: self.next, end: self.end) else {
            throw self.failure(.syntax, "this is not a number of JSON's grammar")
        }
        switch self.limits.numbers {
        case .exact:
            if let reason = JSONNumberText.inexactness(self.input, self.next, shape) {
                throw self.failure(.numberNotRepresentable, reason)
            }
            self.output.append(contentsOf: self.input[self.next..<shape.end])
        case .nearestDouble:
            guard let double = JSONNumberText.double(self.input[self.next..<shape.end]) else {
                throw self.failure(.numberNotRepresentable, "the number is beyond the range of a double")
            }
            self.output.append(contentsOf: JSONNumberText.ecmaScript(double))
        }
        self.next = shape.end
    }

    /// - Returns: Whether the canonical text has an escape.
    private mutating func string() throws(JSONError) -> Bool {
        let outputStart = self.output.count
        self.output.append(JSONText.quote)
        self.next += 1
        var runStart = self.next
        var isEscaped = false
        while true {
            self.next = JSONText.plainRunEnd(self.input, from: self.next, to: self.end)
            guard self.next < self.end else { break }
            let byte = self.input[self.next]
            switch byte {
            case JSONText.quote:
                self.next += 1
                self.output.append(contentsOf: self.input[runStart..<self.next])
                if isEscaped { isEscaped = self.output[outputStart...].contains(JSONText.backslash) }
                return isEscaped
            case JSONText.backslash:
                isEscaped = true
                self.output.append(contentsOf: self.input[runStart..<self.next])
                let scalar = try self.escape()
                JSONText.appendCanonical(scalar: scalar, to: &self.output)
                runStart = self.next
            case 0..<0x20: throw self.failure(.syntax, "a control character in a string must be escaped")
            default:
                guard let length = JSONText.multibyteLength(self.input, at: self.next, end: self.end) else {
                    throw self.failure(.invalidUTF8, "the text is not valid UTF-8")
                }
                self.next += length
            }
        }
        throw self.failure(.syntax, "the text ends inside a string")
    }

    /// Reads an escape that begins with the backslash at ``next``.
    private mutating func escape() throws(JSONError) -> UInt32 {
        guard self.next + 1 < self.end else { throw self.failure(.syntax, "the text ends inside an escape") }
        let kind = self.input[self.next + 1]
        let scalar: UInt32
        switch kind {
        case JSONText.quote, JSONText.backslash, UInt8(ascii: "/"): scalar = UInt32(kind)
        case UInt8(ascii: "b"): scalar = 0x08
        case UInt8(ascii: "f"): scalar = 0x0C
        case UInt8(ascii: "n"): scalar = 0x0A
        case UInt8(ascii: "r"): scalar = 0x0D
        case UInt8(ascii: "t"): scalar = 0x09
        case UInt8(ascii: "u"): return try self.unicodeEscape()
        default: throw self.failure(.syntax, "this escape is not JSON's")
        }
        self.next += 2
        return scalar
    }

    private mutating func unicodeEscape() throws(JSONError) -> UInt32 {
        guard let first = self.codeUnit(at: self.next) else {
            throw self.failure(.syntax, "\\u needs four hexadecimal digits")
        }
        switch first {
        case 0xD800..<0xDC00:
            guard let second = self.codeUnit(at: self.next + 6), (0xDC00..<0xE000).contains(second) else {
                throw self.failure(.loneSurrogate, "a high surrogate without its low surrogate")
            }
            self.next += 12
            return 0x1_0000 + (first - 0xD800) << 10 + (second - 0xDC00)
        case 0xDC00..<0xE000: throw self.failure(.loneSurrogate, "a low surrogate without its high surrogate")
        default:
            self.next += 6
            return first
        }
    }

    /// The value of a `\uXXXX` at `place`, or nil when there is none.
    private func codeUnit(at place: Int) -> UInt32? {
        guard place + 6 <= self.end, self.input[place] == JSONText.backslash,
            self.input[place + 1] == UInt8(ascii: "u")
        else { return nil }
        var value = UInt32(0)
        for digit in self.input[place + 2..<place + 6] {
            guard let nibble = JSONText.hexValue(digit) else { return nil }
            value = value << 4 | nibble
        }
        return value
    }

    private mutating func enter() throws(JSONError) {
        guard self.path.count < self.limits.depthMax else {
            throw self.failure(.tooDeep, "nested deeper than \(self.limits.depthMax) levels")
        }
        self.path.append(Self.noStep)
    }

    private mutating func array() throws(JSONError) {
        try self.enter()
        self.output.append(UInt8(ascii: "["))
        self.next += 1
        self.skipSpace()
        var index = 0
        if self.next < self.end, self.input[self.next] == UInt8(ascii: "]") {
            self.next += 1
        } else {
            while true {
                self.path[self.path.count - 1] = index
                try self.value()
                self.skipSpace()
                guard try self.separator(closing: UInt8(ascii: "]")) else { break }
                index += 1
            }
        }
        self.output.append(UInt8(ascii: "]"))
        self.path.removeLast()
    }

    /// Reads `,` (true) or the closing bracket (false) and the space after a comma.
    private mutating func separator(closing: UInt8) throws(JSONError) -> Bool {
        guard self.next < self.end else { throw self.failure(.syntax, "the text ends inside an object or array") }
        let byte = self.input[self.next]
        if byte == closing {
            self.next += 1
            return false
        }
        guard byte == UInt8(ascii: ",") else { throw self.failure(.syntax, "a comma or a closing bracket must follow") }
        self.output.append(byte)
        self.next += 1
        self.skipSpace()
        return true
    }

    private mutating func object() throws(JSONError) {
        try self.enter()
        let base = self.members.count
        self.output.append(UInt8(ascii: "{"))
        self.next += 1
        self.skipSpace()
        var isOrdered = true
        if self.next < self.end, self.input[self.next] == UInt8(ascii: "}") {
            self.next += 1
        } else {
            while true {
                try self.member()
                if self.members.count - base > 1, isOrdered {
                    let order = self.order(self.members.count - 2, self.members.count - 1)
                    if order == 0 { throw self.duplicate(self.members.count - 1) }
                    isOrdered = order < 0
                }
                self.skipSpace()
                guard try self.separator(closing: UInt8(ascii: "}")) else { break }
            }
        }
        if !isOrdered { try self.sortMembers(from: base) }
        self.output.append(UInt8(ascii: "}"))
        self.path.removeLast()
        if !self.path.isEmpty { self.members.removeSubrange(base...) }
    }

    private mutating func member() throws(JSONError) {
        guard self.next < self.end, self.input[self.next] == JSONText.quote else {
            throw self.failure(.syntax, "a member's name in quotes must follow")
        }
        let inputOffset = self.next
        let keyStart = self.output.count
        let isEscaped = try self.string()
        let keyEnd = self.output.count
        let place = self.members.count
        self.members.append(
            Member(
                key: keyStart..<keyEnd,
                value: keyEnd..<keyEnd,
                inputOffset: inputOffset,
                isEscaped: isEscaped,
                prefix: self.prefix(from: keyStart + 1, to: keyEnd - 1)
            )
        )
        self.skipSpace()
        guard self.next < self.end, self.input[self.next] == UInt8(ascii: ":") else {
            throw self.failure(.syntax, "a colon must follow a member's name")
        }
        self.next += 1
        self.output.append(UInt8(ascii: ":"))
        self.path[self.path.count - 1] = ~place
        self.skipSpace()
        try self.value()
        self.members[place].value = keyEnd + 1..<self.output.count
    }

    private func prefix(from start: Int, to end: Int) -> UInt64 {
        var prefix = UInt64(0)
        var place = start
        while place < start + 8 {
            prefix = prefix << 8 | (place < end ? UInt64(self.output[place]) : 0)
            place += 1
        }
        return prefix
    }

    private func order(_ left: Int, _ right: Int) -> Int {
        let first = self.members[left].prefix
        let second = self.members[right].prefix
        let isEscaped = self.members[left].isEscaped || self.members[right].isEscaped
        // Among ASCII bytes all orders are one.
        if first != second, !isEscaped, (first | second) & 0x8080_8080_8080_8080 == 0 { return first < second ? -1 : 1 }
        return JSONText.compareQuotedKeys(
            self.output,
            self.members[left].key,
            self.members[right].key,
            escaped: isEscaped
        )
    }

    /// Puts the members from `base` on into canonical order, in ``members`` and in ``output``.
    private mutating func sortMembers(from base: Int) throws(JSONError) {
        let textStart = self.members[base].key.lowerBound
        self.order.removeAll(keepingCapacity: true)
        self.order.append(contentsOf: base..<self.members.count)
        if self.order.count <= Self.insertionSortMax {
            for place in 1..<self.order.count { self.sink(place) }
        } else {
            self.order = self.order.sorted { self.order($0, $1) < 0 }
        }
        for place in 1..<self.order.count where self.order(self.order[place - 1], self.order[place]) == 0 {
            throw self.duplicate(max(self.order[place - 1], self.order[place]))
        }
        self.scratch.removeAll(keepingCapacity: true)
        for place in 0..<self.order.count {
            if place > 0 { self.scratch.append(UInt8(ascii: ",")) }
            var member = self.members[self.order[place]]
            let moved = textStart + self.scratch.count - member.key.lowerBound
            self.scratch.append(contentsOf: self.output[member.key.lowerBound..<member.value.upperBound])
            member.key = member.key.lowerBound + moved..<member.key.upperBound + moved
            member.value = member.value.lowerBound + moved..<member.value.upperBound + moved
            self.moved.append(member)
        }
        self.members.removeSubrange(base...)
        self.members.append(contentsOf: self.moved)
        self.moved.removeAll(keepingCapacity: true)
        self.output.removeSubrange(textStart...)
        self.output.append(contentsOf: self.scratch)
    }

    /// Moves an entry of ``order`` down to its place among those before it.
    private mutating func sink(_ start: Int) {
        let member = self.order[start]
        var place = start
        while place > 0, self.order(member, self.order[place - 1]) < 0 {
            self.order[place] = self.order[place - 1]
            place -= 1
        }
        self.order[place] = member
    }

    // MARK: Errors

    private func duplicate(_ place: Int) -> JSONError {
        var steps = self.path
        if !steps.isEmpty { steps[steps.count - 1] = ~place }
        return self.failure(
            .duplicateKey,
            "the object has this member twice",
            at: self.members[place].inputOffset,
            path: steps
        )
    }

    private func failure(_ code: JSONError.Code, _ message: String) -> JSONError {
        self.failure(code, message, at: self.next, path: self.path)
    }

    private func failure(_ code: JSONError.Code, _ message: String, at place: Int, path: [Int]) -> JSONError {
        var line = 1
        var lineStart = self.start
        for offset in self.start..<min(place, self.end) where self.input[offset] == 0x0A {
            line += 1
            lineStart = offset + 1
        }
        var pointer: [UInt8] = []
        for step in path where step != Self.noStep {
            pointer.append(UInt8(ascii: "/"))
            if step >= 0 {
                pointer += Array(String(step).utf8)
            } else if self.members.indices.contains(~step) {
                JSONPointer.append(JSONText.unescaped(self.output, self.members[~step].key), to: &pointer)
            }
        }
        return JSONError(
            code: code,
            message: message,
            offset: place - self.start,
            line: line,
            column: place - lineStart + 1,
            path: String(decoding: pointer, as: UTF8.self)
        )
    }
}

/// The escapes of JSON Pointer (RFC 6901 section 3).
enum JSONPointer {
    static func append(_ key: [UInt8], to pointer: inout [UInt8]) {
        for byte in key {
            switch byte {
            case UInt8(ascii: "~"): pointer += [byte, UInt8(ascii: "0")]
            case UInt8(ascii: "/"): pointer += [UInt8(ascii: "~"), UInt8(ascii: "1")]
            default: pointer.append(byte)
            }
        }
    }

    static func child(of path: String, _ key: [UInt8]) -> String {
        var pointer = Array(path.utf8)
        pointer.append(UInt8(ascii: "/"))
        self.append(key, to: &pointer)
        return String(decoding: pointer, as: UTF8.self)
    }
}
