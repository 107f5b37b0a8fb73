/// The canonical form of JSON (RFC 8785): one text for one value.
package enum CanonicalJSON {
    /// The canonical form of a JSON text, without building a tree.
    ///
    /// - Throws: What is wrong with the text, its place and JSON Pointer.
    package static func canonicalize(_ bytes: [UInt8], limits: JSONLimits = .standard) throws(JSONError) -> [UInt8] {
        var canonicalizer = JSONCanonicalizer(limits: limits)
        try canonicalizer.run(bytes, range: 0..<bytes.count)
        return canonicalizer.output
    }

    /// Whether `bytes` are exactly the canonical form of a value that the ledger's number rule allows.
    package static func isCanonical(_ bytes: [UInt8]) -> Bool {
        var scanner = CanonicalScanner(bytes)
        do {
            try scanner.value()
        } catch {
            return false
        }
        return scanner.isAtEnd
    }

    /// The canonical text of a value; members are put in order, whatever theirs is.
    ///
    /// Members that come twice are the caller's bug: they are written twice.
    package static func encode(_ value: JSONValue) -> [UInt8] {
        var output: [UInt8] = []
        self.append(value, to: &output)
        return output
    }

    /// Appends the canonical text of a value.
    package static func append(_ value: JSONValue, to output: inout [UInt8]) {
        switch value {
        case .null: output += [0x6E, 0x75, 0x6C, 0x6C]
        case .bool(let flag): output += Array((flag ? "true" : "false").utf8)
        case .number(let number): output += number.text
        case .string(let text): JSONText.appendQuoted(text, to: &output)
        case .array(let elements):
            output.append(UInt8(ascii: "["))
            for (offset, element) in elements.enumerated() {
                if offset > 0 { output.append(UInt8(ascii: ",")) }
                self.append(element, to: &output)
            }
            output.append(UInt8(ascii: "]"))
        case .object(let members):
            let sorted = members.sorted {
                JSONText.compareUTF16($0.key, 0..<$0.key.count, $1.key, 0..<$1.key.count) < 0
            }
            output.append(UInt8(ascii: "{"))
            for (offset, member) in sorted.enumerated() {
                if offset > 0 { output.append(UInt8(ascii: ",")) }
                JSONText.appendQuoted(member.key, to: &output)
                output.append(UInt8(ascii: ":"))
                self.append(member.value, to: &output)
            }
            output.append(UInt8(ascii: "}"))
        }
    }
}

/// Reads strict JSON into a tree.
package enum JSONParser {
    /// The value of a JSON text; members of objects are in canonical order, whatever theirs was.
    ///
    /// - Throws: What is wrong with the text, its place and JSON Pointer.
    package static func parse(_ bytes: [UInt8], limits: JSONLimits = .standard) throws(JSONError) -> JSONValue {
        let canonical = try CanonicalJSON.canonicalize(bytes, limits: limits)
        return try self.parse(canonical: canonical, range: 0..<canonical.count)
    }

    /// The value of a text that was canonicalized earlier, as states in records are.
    ///
    /// - Throws: `.notCanonical` when it has no value; whether it is canonical in every respect is not checked.
    package static func parse(canonical bytes: [UInt8]) throws(JSONError) -> JSONValue {
        var builder = JSONValueBuilder(bytes, range: 0..<bytes.count)
        let value = try builder.value()
        guard builder.isAtEnd else { throw JSONError(code: .notCanonical, message: "something follows the value") }
        return value
    }

    /// The value of a text that is known to be canonical.
    static func parse(canonical bytes: [UInt8], range: Range<Int>) throws(JSONError) -> JSONValue {
        var builder = JSONValueBuilder(bytes, range: range)
        return try builder.value()
    }
}

/// Builds a tree from canonical text.
private struct JSONValueBuilder {
    private let bytes: [UInt8]
    private let end: Int
    private var next: Int

    init(_ bytes: [UInt8], range: Range<Int>) {
        self.bytes = bytes
        self.next = range.lowerBound
        self.end = range.upperBound
    }

    /// Whether nothing is left. A cut literal would leave it beyond.
    var isAtEnd: Bool { self.next == self.end }

    private var current: UInt8 { self.next < self.end ? self.bytes[self.next] : 0 }

    private func failure() -> JSONError {
        JSONError(code: .notCanonical, message: "the text is not canonical", offset: self.next)
    }

    private mutating func take(_ byte: UInt8) -> Bool {
        guard self.next < self.end, self.bytes[self.next] == byte else { return false }
        self.next += 1
        return true
    }

    mutating func value() throws(JSONError) -> JSONValue {
        switch self.current {
        case JSONText.quote: return .string(try self.string())
        case UInt8(ascii: "["):
            self.next += 1
            var elements: [JSONValue] = []
            if self.take(UInt8(ascii: "]")) { return .array(elements) }
            repeat { elements.append(try self.value()) } while self.take(UInt8(ascii: ","))
            guard self.take(UInt8(ascii: "]")) else { throw self.failure() }
            return .array(elements)
        case UInt8(ascii: "{"):
            self.next += 1
            var members: [JSONMember] = []
            if self.take(UInt8(ascii: "}")) { return .object(members) }
            repeat {
                let key = try self.string()
                guard self.take(UInt8(ascii: ":")) else { throw self.failure() }
                members.append(JSONMember(key: key, value: try self.value()))
            } while self.take(UInt8(ascii: ","))
            guard self.take(UInt8(ascii: "}")) else { throw self.failure() }
            return .object(members)
        case UInt8(ascii: "t"):
            self.next += 4
            return .bool(true)
        case UInt8(ascii: "f"):
            self.next += 5
            return .bool(false)
        case UInt8(ascii: "n"):
            self.next += 4
            return .null
        default:
            guard let shape = JSONNumberText.shape(self.bytes, from: self.next, end: self.end) else {
                throw self.failure()
            }
            defer { self.next = shape.end }
            return .number(JSONNumber(canonical: Array(self.bytes[self.next..<shape.end])))
        }
    }

    private mutating func string() throws(JSONError) -> [UInt8] {
        let start = self.next
        guard self.take(JSONText.quote) else { throw self.failure() }
        while self.next < self.end {
            switch self.bytes[self.next] {
            case JSONText.quote:
                self.next += 1
                return JSONText.unescaped(self.bytes, start..<self.next)
            case JSONText.backslash: self.next += 2
            default: self.next += 1
            }
        }
        throw self.failure()
    }
}
