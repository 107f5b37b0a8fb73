/// A number as its canonical text.
package struct JSONNumber: Sendable, Hashable {
    /// What RFC 8785 writes for it.
    package let text: [UInt8]

    init(canonical text: [UInt8]) { self.text = text }

    /// An integer within ±(2^53−1).
    /// - Returns: nil for any other.
    package init?(_ value: Int64) {
        guard value.magnitude <= JSONNumberText.integerMax else { return nil }
        self.text = Array(String(value).utf8)
    }

    /// A finite number, written as ECMAScript does.
    /// - Returns: nil for an infinity or NaN.
    package init?(double value: Double) {
        guard value.isFinite else { return nil }
        self.text = JSONNumberText.ecmaScript(value)
    }

    /// The value, when it is an integer that fits.
    package var integer: Int64? { Int64(String(decoding: self.text, as: UTF8.self)) }

    /// The nearest double.
    package var double: Double { JSONNumberText.double(self.text[...]) ?? 0 }
}

/// One member of an object; keys are compared as bytes.
package struct JSONMember: Sendable, Hashable {
    /// UTF-8, unescaped.
    package var key: [UInt8]
    package var value: JSONValue

    package init(key: [UInt8], value: JSONValue) {
        self.key = key
        self.value = value
    }

    package init(_ key: String, _ value: JSONValue) {
        self.key = Array(key.utf8)
        self.value = value
    }
}

/// A JSON value; strings and keys are UTF-8 bytes, because `String` takes canonically equivalent texts as equal.
package indirect enum JSONValue: Sendable, Hashable {
    case null
    case bool(Bool)
    case number(JSONNumber)
    /// UTF-8, unescaped.
    case string([UInt8])
    case array([JSONValue])
    case object([JSONMember])

    package static func text(_ text: String) -> JSONValue { .string(Array(text.utf8)) }

    /// The member `key` of an object; nil when absent or when this is not an object.
    package subscript(_ key: String) -> JSONValue? {
        guard case .object(let members) = self else { return nil }
        return members.first { $0.key.elementsEqual(key.utf8) }?.value
    }

    package var isNull: Bool { self == .null }

    /// What the type is called in messages.
    package var typeName: String {
        switch self {
        case .null: "null"
        case .bool: "a boolean"
        case .number: "a number"
        case .string: "a string"
        case .array: "an array"
        case .object: "an object"
        }
    }
}

/// A value with the place where it was found, for reading request bodies with errors that name the member.
package struct JSONPlace: Sendable {
    package let value: JSONValue
    /// JSON Pointer from the whole text.
    package let path: String

    package init(_ value: JSONValue, path: String = "") {
        self.value = value
        self.path = path
    }

    /// An error about this place.
    package func failure(_ code: JSONError.Code, _ message: String) -> JSONError {
        JSONError(code: code, message: message, path: self.path)
    }

    private func wrongType(_ wanted: String) -> JSONError {
        self.failure(.wrongType, "\(wanted) is wanted here, not \(self.value.typeName)")
    }

    /// The members, when this is an object.
    package func object() throws(JSONError) -> [JSONMember] {
        guard case .object(let members) = self.value else { throw self.wrongType("an object") }
        return members
    }

    /// Throws unless this is an object with no members but `keys`.
    package func requireOnly(keys: [String]) throws(JSONError) {
        for member in try self.object() where !keys.contains(where: { member.key.elementsEqual($0.utf8) }) {
            throw JSONError(
                code: .unknownMember,
                message: "this member is not known; known are: \(keys.joined(separator: ", "))",
                path: JSONPointer.child(of: self.path, member.key)
            )
        }
    }

    /// The member `key`, or nil when it is absent.
    package func optional(_ key: String) throws(JSONError) -> JSONPlace? {
        for member in try self.object() where member.key.elementsEqual(key.utf8) {
            return JSONPlace(member.value, path: JSONPointer.child(of: self.path, member.key))
        }
        return nil
    }

    /// The member `key`; null counts as present.
    package func required(_ key: String) throws(JSONError) -> JSONPlace {
        if let place = try self.optional(key) { return place }
        throw JSONError(
            code: .missingMember,
            message: "this member is needed",
            path: JSONPointer.child(of: self.path, Array(key.utf8))
        )
    }

    /// This value as text.
    package func string() throws(JSONError) -> String {
        guard case .string(let bytes) = self.value else { throw self.wrongType("a string") }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// This value as an integer.
    package func integer() throws(JSONError) -> Int64 {
        guard case .number(let number) = self.value, let integer = number.integer else {
            throw self.wrongType("an integer")
        }
        return integer
    }

    package func bool() throws(JSONError) -> Bool {
        guard case .bool(let flag) = self.value else { throw self.wrongType("a boolean") }
        return flag
    }

    /// The elements, when this is an array.
    package func array() throws(JSONError) -> [JSONPlace] {
        guard case .array(let elements) = self.value else { throw self.wrongType("an array") }
        return elements.enumerated().map { JSONPlace($0.element, path: "\(self.path)/\($0.offset)") }
    }

    /// The member `key` as text.
    package func string(_ key: String) throws(JSONError) -> String { try self.required(key).string() }
    /// The member `key` as an integer.
    package func integer(_ key: String) throws(JSONError) -> Int64 { try self.required(key).integer() }
    /// The member `key` as a boolean.
    package func bool(_ key: String) throws(JSONError) -> Bool { try self.required(key).bool() }
    /// The elements of the member `key`.
    package func array(_ key: String) throws(JSONError) -> [JSONPlace] { try self.required(key).array() }
    /// The member `key` as text, nil when absent or null.
    package func optionalString(_ key: String) throws(JSONError) -> String? {
        guard let place = try self.optional(key), !place.value.isNull else { return nil }
        return try place.string()
    }
    /// The member `key` as an integer, nil when absent or null.
    package func optionalInteger(_ key: String) throws(JSONError) -> Int64? {
        guard let place = try self.optional(key), !place.value.isNull else { return nil }
        return try place.integer()
    }
    /// The member `key` as a boolean, nil when absent or null.
    package func optionalBool(_ key: String) throws(JSONError) -> Bool? {
        guard let place = try self.optional(key), !place.value.isNull else { return nil }
        return try place.bool()
    }
}
