/// Collects the values of one column, in the form in which the engine takes them.
///
/// Appending a value of another type than the column's is a bug of the caller and stops the program. A text column
/// either keeps its texts, or names places in ``ColumnBatch/texts``, which all such columns of a batch share: then
/// nothing is copied before the engine does.
package struct ColumnBuilder: Sendable {
    /// Type of the column.
    package let type: ColumnType
    /// Number of values so far.
    package private(set) var count = 0
    private(set) var nullCount = 0
    /// One bit a value, 1 for present.
    private(set) var validity: [UInt64] = []
    /// Values of the fixed-width types, as bits, and places of shared texts, start above length; empty for texts that
    /// the column keeps.
    private(set) var words: [UInt64] = []
    /// Whether texts lie in ``ColumnBatch/texts``.
    let sharesTexts: Bool
    /// The end of the last shared text.
    private(set) var sharedEnd = 0
    /// End of each text in `bytes`; empty for other types and shared texts.
    private(set) var ends: [Int] = []
    private(set) var bytes: [UInt8] = []

    /// Creates an empty column with room for `capacity` values.
    /// - Parameter sharesTexts: Texts come by ``append(shared:)``, not as values; means nothing for other types.
    package init(_ type: ColumnType, capacity: Int = 0, sharesTexts: Bool = false) {
        self.type = type
        self.sharesTexts = sharesTexts && (type == .utf8 || type == .json)
        self.validity.reserveCapacity((capacity + 63) / 64)
        if self.keepsTexts { self.ends.reserveCapacity(capacity) } else { self.words.reserveCapacity(capacity) }
    }

    private var keepsTexts: Bool { (self.type == .utf8 || self.type == .json) && !self.sharesTexts }

    @inline(__always)
    private mutating func mark(present: Bool) {
        if self.count & 63 == 0 { self.validity.append(0) }
        if present { self.validity[self.count >> 6] |= 1 << UInt64(self.count & 63) } else { self.nullCount += 1 }
        self.count += 1
    }

    /// Appends a null.
    package mutating func appendNull() {
        self.mark(present: false)
        if self.keepsTexts { self.ends.append(self.bytes.count) } else { self.words.append(0) }
    }

    /// Appends a truth value.
    package mutating func append(_ value: Bool) {
        precondition(self.type == .bool, "the column does not hold truth values")
        self.mark(present: true)
        self.words.append(value ? 1 : 0)
    }

    /// Appends a signed number, or microseconds since 1970 (UTC).
    package mutating func append(_ value: Int64) {
        precondition(self.type == .int64 || self.type == .timestampMicros, "the column does not hold signed numbers")
        self.mark(present: true)
        self.words.append(UInt64(bitPattern: value))
    }

    /// Appends an unsigned number.
    package mutating func append(_ value: UInt64) {
        precondition(self.type == .uint64, "the column does not hold unsigned numbers")
        self.mark(present: true)
        self.words.append(value)
    }

    /// Appends a floating-point number.
    package mutating func append(_ value: Double) {
        precondition(self.type == .double, "the column does not hold floating-point numbers")
        self.mark(present: true)
        self.words.append(value.bitPattern)
    }

    /// Appends the text at a place of the batch's shared bytes; the caller has checked that they are UTF-8.
    package mutating func append(shared place: Range<Int>) {
        precondition(self.sharesTexts, "the column does not share texts")
        precondition(place.lowerBound >= 0 && place.upperBound <= UInt32.max, "shared texts take at most 4 GiB")
        self.mark(present: true)
        self.words.append(UInt64(place.lowerBound) << 32 | UInt64(place.count))
        self.sharedEnd = max(self.sharedEnd, place.upperBound)
    }

    /// Appends a text given as UTF-8.
    /// - Throws: ``ColumnarError`` `.schemaMismatch` when it is not UTF-8; then nothing was appended.
    package mutating func append(utf8 text: Span<UInt8>) throws {
        precondition(self.keepsTexts, "the column does not keep texts")
        guard (try? UTF8Span(validating: text)) != nil else {
            throw ColumnarError(.schemaMismatch, "a text is not UTF-8")
        }
        self.mark(present: true)
        for index in text.indices { self.bytes.append(text[index]) }
        self.ends.append(self.bytes.count)
    }

    /// Appends a text given as UTF-8.
    /// - Throws: ``ColumnarError`` `.schemaMismatch` when it is not UTF-8; then nothing was appended.
    package mutating func append(utf8 text: ArraySlice<UInt8>) throws {
        precondition(self.keepsTexts, "the column does not keep texts")
        guard (try? UTF8Span(validating: text.span)) != nil else {
            throw ColumnarError(.schemaMismatch, "a text is not UTF-8")
        }
        self.mark(present: true)
        self.bytes.append(contentsOf: text)
        self.ends.append(self.bytes.count)
    }

    /// Appends a text given as UTF-8.
    /// - Throws: ``ColumnarError`` `.schemaMismatch` when it is not UTF-8; then nothing was appended.
    package mutating func append(utf8 text: [UInt8]) throws { try self.append(utf8: text[...]) }

    /// Appends a text.
    package mutating func append(_ text: String) {
        precondition(self.keepsTexts, "the column does not keep texts")
        self.mark(present: true)
        self.bytes.append(contentsOf: text.utf8)
        self.ends.append(self.bytes.count)
    }
}

/// Rows for one table: a column for each of the table's columns, in the table's order.
package struct ColumnBatch: Sendable {
    /// Number of rows.
    package let rows: Int
    /// Columns in the table's order.
    package let columns: [ColumnBuilder]
    /// Where the texts of columns lie that share them.
    package let texts: [UInt8]

    /// Creates a batch.
    /// - Throws: ``ColumnarError`` `.schemaMismatch` when columns differ in length, or a shared text lies beyond
    ///   `texts`.
    package init(columns: [ColumnBuilder], texts: [UInt8] = []) throws {
        let rows = columns.first?.count ?? 0
        guard columns.allSatisfy({ $0.count == rows }) else {
            throw ColumnarError(.schemaMismatch, "the columns of a batch differ in length")
        }
        guard columns.allSatisfy({ $0.sharedEnd <= texts.count }) else {
            throw ColumnarError(.schemaMismatch, "a text lies beyond the shared bytes")
        }
        self.rows = rows
        self.texts = texts
        self.columns = columns
    }
}
