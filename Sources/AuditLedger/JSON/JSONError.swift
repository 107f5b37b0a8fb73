/// Why a text is not the JSON that is wanted, and where.
///
/// Carries names of members (in ``path``) but never values.
package struct JSONError: Error, Sendable, Hashable, CustomStringConvertible {
    /// The kind of fault; the raw value is a stable name for API errors.
    package enum Code: String, Sendable, CaseIterable {
        /// Not the grammar of RFC 8259.
        case syntax
        /// Bytes that are not UTF-8.
        case invalidUTF8 = "invalid_utf8"
        /// A `\u` escape names half a surrogate pair.
        case loneSurrogate = "lone_surrogate"
        /// An object has a member twice (compared as bytes after unescaping).
        case duplicateKey = "duplicate_key"
        /// Nested deeper than ``JSONLimits/depthMax``.
        case tooDeep = "too_deep"
        /// Longer than ``JSONLimits/bytesMax``, or more values than ``JSONLimits/valuesMax``.
        case tooLarge = "too_large"
        /// A number that RFC 8785 would not write back exactly as it was given.
        case numberNotRepresentable = "number_not_representable"
        /// Something follows the value.
        case trailingBytes = "trailing_bytes"
        /// Valid JSON that is not in canonical form (RFC 8785).
        case notCanonical = "not_canonical"
        /// A member that is needed is absent.
        case missingMember = "missing_member"
        /// A member that nobody knows.
        case unknownMember = "unknown_member"
        /// A value of another type than the wanted one.
        case wrongType = "wrong_type"
        /// A value of the right type that is not allowed here.
        case valueNotAllowed = "value_not_allowed"
    }

    package let code: Code
    /// One sentence for people; names no values.
    package let message: String
    /// Bytes from the start of the text; zero when found after parsing.
    package let offset: Int
    /// Line of ``offset``, from 1; zero when found after parsing.
    package let line: Int
    /// Column of ``offset`` in bytes, from 1; zero when found after parsing.
    package let column: Int
    /// JSON Pointer (RFC 6901) to the value; empty for the whole text.
    package let path: String

    package init(
        code: Code,
        message: String,
        offset: Int = 0,
        line: Int = 0,
        column: Int = 0,
        path: String = ""
    ) {
        self.code = code
        self.message = message
        self.offset = offset
        self.line = line
        self.column = column
        self.path = path
    }

    package var description: String {
        var text = self.message
        if !self.path.isEmpty { text += ", at \(self.path)" }
        if self.line > 0 { text += ", line \(self.line) column \(self.column)" }
        return text
    }
}

/// Bounds on a JSON text.
package struct JSONLimits: Sendable, Hashable {
    /// Which numbers are accepted.
    package enum NumberRule: Sendable, Hashable {
        /// Only those that RFC 8785 writes exactly as they were given; integers within ±(2^53−1).
        case exact
        /// Every number that a finite double comes near to; it is written as that double (RFC 8785 as it stands).
        case nearestDouble
    }

    /// Longest text, in bytes.
    package var bytesMax: Int
    /// Deepest nesting of objects and arrays; `[]` has depth 1.
    package var depthMax: Int
    /// Most values (objects, arrays and scalars) in one text.
    package var valuesMax: Int
    package var numbers: NumberRule

    /// The deepest nesting accepted unless said otherwise.
    package static let depthMaxDefault = 32

    package init(
        bytesMax: Int = 1 << 20,
        depthMax: Int = Self.depthMaxDefault,
        valuesMax: Int = 1 << 17,
        numbers: NumberRule = .exact
    ) {
        precondition((1...256).contains(depthMax), "the parser recurses; keep the depth small")
        self.bytesMax = bytesMax
        self.depthMax = depthMax
        self.valuesMax = valuesMax
        self.numbers = numbers
    }

    /// 1 MiB, depth 32, exact numbers.
    package static let standard = JSONLimits()
}
