/// Writes the canonical form (RFC 8785) of a JSON text as clients usually send it, or says that it cannot.
///
/// Does what ``JSONCanonicalizer`` does with exact numbers, in one pass and without a check of each access by the
/// language: every read is checked against ``end`` here. What is unusual (escapes by number, exponents, long numbers,
/// very many members, any fault) is given up, and ``JSONCanonicalizer`` reads the text again: it alone knows the errors. What is not
/// given up comes out byte for byte as from there.
///
/// The output is never longer than what was read of the input: numbers stay as they are, spaces go, and the escapes
/// that are taken are canonical already. So ``output`` needs the room of the input, and a word may be written wherever
/// one was read. Not for more than one thread; lives as long as the buffers that it was given.
struct QuickCanonicalizer {
    /// A member of an open object; places count from ``output``.
    struct Member {
        /// Without its quotes.
        var keyStart: Int
        var keyEnd: Int
        /// The end of its value.
        var end: Int
    }

    /// Members of all open objects together.
    static let membersMax = 256
    /// Objects whose members are not in order are given up when they have more.
    static let sortedMembersMax = 32
    /// Integers, and fractions with their integers, of so many digits are told apart by a double, so that they are their own
    /// shortest texts.
    static let exactDigitsMax = 15
    /// ECMAScript writes an exponent when more zeros follow the point.
    static let fractionZerosMax = 5

    let end: UnsafePointer<UInt8>
    let outputStart: UnsafeMutablePointer<UInt8>
    /// As large as the input.
    let scratch: UnsafeMutablePointer<UInt8>
    /// Of ``membersMax``.
    let members: UnsafeMutablePointer<Member>
    let depthMax: Int
    var next: UnsafePointer<UInt8>
    var output: UnsafeMutablePointer<UInt8>
    private var memberCount = 0

    init(
        input: UnsafeBufferPointer<UInt8>.SubSequence,
        output: UnsafeMutableBufferPointer<UInt8>,
        scratch: UnsafeMutableBufferPointer<UInt8>,
        members: UnsafeMutableBufferPointer<Member>,
        depthMax: Int
    ) {
        precondition(output.count >= input.count && scratch.count >= input.count, "the output is as large as the input")
        precondition(members.count >= Self.membersMax && !input.isEmpty, "there is room for members")
        guard let base = input.base.baseAddress, let outputStart = output.baseAddress,
            let scratch = scratch.baseAddress, let members = members.baseAddress
        else { preconditionFailure("the buffers are not empty") }
        self.next = base + input.startIndex
        self.end = base + input.endIndex
        self.outputStart = outputStart
        self.output = outputStart
        self.scratch = scratch
        self.members = members
        self.depthMax = depthMax
    }

    /// Bytes written so far.
    var place: Int { self.output - self.outputStart }

    mutating func skipSpace() {
        while self.next < self.end {
            switch self.next.pointee {
            case 0x20, 0x0A, 0x0D, 0x09: self.next += 1
            default: return
            }
        }
    }

    /// Moves past `byte` and writes it, if it comes next.
    mutating func take(_ byte: UInt8) -> Bool {
        guard self.next < self.end, self.next.pointee == byte else { return false }
        self.output.pointee = byte
        self.next += 1
        self.output += 1
        return true
    }

    /// - Parameter depth: Containers around the value.
    /// - Returns: False when it is given up.
    mutating func value(depth: Int) -> Bool {
        guard self.next < self.end else { return false }
        switch self.next.pointee {
        case JSONText.quote: return self.string()
        case UInt8(ascii: "{"): return self.object(depth: depth)
        case UInt8(ascii: "["): return self.array(depth: depth)
        case UInt8(ascii: "-"), 0x30...0x39: return self.number()
        case UInt8(ascii: "t"): return self.literal("true")
        case UInt8(ascii: "f"): return self.literal("false")
        case UInt8(ascii: "n"): return self.literal("null")
        default: return false
        }
    }

    private mutating func literal(_ text: StaticString) -> Bool {
        let count = text.utf8CodeUnitCount
        guard self.end - self.next >= count else { return false }
        let start = text.utf8Start
        var offset = 0
        while offset < count {
            guard self.next[offset] == start[offset] else { return false }
            self.output[offset] = start[offset]
            offset += 1
        }
        self.next += count
        self.output += count
        return true
    }

    /// A plain decimal that a double tells apart from all others of its length; see ``exactDigitsMax``.
    private mutating func number() -> Bool {
        let isNegative = self.next.pointee == UInt8(ascii: "-")
        let start = isNegative ? self.next + 1 : self.next
        var place = start
        while place < self.end, JSONNumberText.isDigit(place.pointee) { place += 1 }
        let digits = place - start
        guard digits > 0, digits <= Self.exactDigitsMax else { return false }
        let isZero = start.pointee == 0x30
        guard !isZero || digits == 1 else { return false }
        if place < self.end, place.pointee == UInt8(ascii: ".") {
            let point = place
            place += 1
            while place < self.end, JSONNumberText.isDigit(place.pointee) { place += 1 }
            let fraction = place - point - 1
            guard fraction > 0, digits + fraction <= Self.exactDigitsMax, place[-1] != 0x30 else { return false }
            if isZero {
                var zeros = 0
                while point[1 + zeros] == 0x30 { zeros += 1 }
                guard zeros <= Self.fractionZerosMax else { return false }
            }
        } else if isZero, isNegative {
            return false
        }
        if place < self.end, place.pointee | 0x20 == UInt8(ascii: "e") { return false }
        let count = place - self.next
        self.output.update(from: self.next, count: count)
        self.next += count
        self.output += count
        return true
    }

    /// A string whose escapes are canonical already.
    mutating func string() -> Bool { self.text() != nil }

    /// A string without escapes.
    private mutating func key() -> Bool { self.text() == false }

    /// - Returns: Whether it has an escape, or nil when it is given up.
    private mutating func text() -> Bool? {
        var from = self.next + 1
        var to = self.output
        to.pointee = JSONText.quote
        to += 1
        var isEscaped = false
        while true {
            while self.end - from >= 8 {
                let word = UnsafeRawPointer(from).loadUnaligned(as: UInt64.self)
                UnsafeMutableRawPointer(to).storeBytes(of: word, as: UInt64.self)
                let marks = JSONText.marks(word)
                let plain = marks == 0 ? 8 : marks.trailingZeroBitCount >> 3
                from += plain
                to += plain
                if marks != 0 { break }
            }
            guard from < self.end else { return nil }
            let byte = from.pointee
            if byte == JSONText.quote {
                to.pointee = byte
                self.next = from + 1
                self.output = to + 1
                return isEscaped
            } else if byte == JSONText.backslash {
                guard self.end - from >= 2 else { return nil }
                switch from[1] {
                case JSONText.quote, JSONText.backslash, UInt8(ascii: "b"), UInt8(ascii: "f"), UInt8(ascii: "n"),
                    UInt8(ascii: "r"), UInt8(ascii: "t"):
                    isEscaped = true
                    to[0] = byte
                    to[1] = from[1]
                    from += 2
                    to += 2
                default: return nil
                }
            } else if byte >= 0x80 {
                guard let length = JSONText.multibyteLength(from, end: self.end) else { return nil }
                to.update(from: from, count: length)
                from += length
                to += length
            } else {
                guard byte >= 0x20 else { return nil }
                to.pointee = byte
                from += 1
                to += 1
            }
        }
    }

    private mutating func array(depth: Int) -> Bool {
        guard depth < self.depthMax, self.take(UInt8(ascii: "[")) else { return false }
        self.skipSpace()
        if self.take(UInt8(ascii: "]")) { return true }
        while true {
            guard self.value(depth: depth + 1) else { return false }
            self.skipSpace()
            if self.take(UInt8(ascii: "]")) { return true }
            guard self.take(UInt8(ascii: ",")) else { return false }
            self.skipSpace()
        }
    }

    private mutating func object(depth: Int) -> Bool {
        guard depth < self.depthMax, self.take(UInt8(ascii: "{")) else { return false }
        let base = self.memberCount
        let start = self.place
        var isOrdered = true
        self.skipSpace()
        if self.take(UInt8(ascii: "}")) { return true }
        while true {
            let member = self.memberCount
            guard member < Self.membersMax, self.next < self.end, self.next.pointee == JSONText.quote else {
                return false
            }
            let keyStart = self.place + 1
            guard self.key() else { return false }
            self.members[member] = Member(keyStart: keyStart, keyEnd: self.place - 1, end: 0)
            self.memberCount += 1
            if member > base, isOrdered {
                let order = self.order(self.members[member - 1], self.members[member])
                if order == 0 { return false }
                isOrdered = order < 0
            }
            self.skipSpace()
            guard self.take(UInt8(ascii: ":")) else { return false }
            self.skipSpace()
            guard self.value(depth: depth + 1) else { return false }
            self.members[member].end = self.place
            self.skipSpace()
            if self.take(UInt8(ascii: "}")) { break }
            guard self.take(UInt8(ascii: ",")) else { return false }
            self.skipSpace()
        }
        defer { self.memberCount = base }
        return isOrdered || self.sortMembers(from: base, start: start)
    }

    private func order(_ left: Member, _ right: Member) -> Int {
        JSONText.compareUTF16(
            UnsafeBufferPointer(start: self.outputStart + left.keyStart, count: left.keyEnd - left.keyStart),
            UnsafeBufferPointer(start: self.outputStart + right.keyStart, count: right.keyEnd - right.keyStart)
        )
    }

    /// Puts the members of an object, written from `start` on, into canonical order.
    private mutating func sortMembers(from base: Int, start: Int) -> Bool {
        let count = self.memberCount - base
        guard count <= Self.sortedMembersMax else { return false }
        for sorted in 1..<count {
            let member = self.members[base + sorted]
            var place = base + sorted
            while place > base {
                let order = self.order(member, self.members[place - 1])
                if order == 0 { return false }
                if order > 0 { break }
                self.members[place] = self.members[place - 1]
                place -= 1
            }
            self.members[place] = member
        }
        self.scratch.update(from: self.outputStart + start, count: self.place - 1 - start)
        var target = self.outputStart + start
        for offset in 0..<count {
            let member = self.members[base + offset]
            if offset > 0 {
                target.pointee = UInt8(ascii: ",")
                target += 1
            }
            let bytes = member.end - (member.keyStart - 1)
            target.update(from: self.scratch + (member.keyStart - 1 - start), count: bytes)
            target += bytes
        }
        return true
    }
}
