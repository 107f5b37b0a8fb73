/// One value of a record batch, for encoders, tests and small catalogues.
package indirect enum ArrowValue: Hashable, Sendable {
    case null
    case bool(Bool)
    case int(Int64)
    case uint(UInt64)
    case double(Double)
    case decimal(unscaled: Int128, scale: Int)
    case string(String)
    case bytes([UInt8])
    /// Days since 1970-01-01.
    case date(Int32)
    /// Units since midnight.
    case time(Int64, ArrowTimeUnit)
    /// Units since 1970-01-01T00:00:00Z.
    case timestamp(Int64, ArrowTimeUnit, timezone: String?)
    case interval(months: Int32, days: Int32, nanoseconds: Int64)
    case list([ArrowValue])
    case structure([ArrowNamedValue])
    case map([ArrowMapEntry])
    /// The place of a field of the union, and a value of that field's type.
    case union(Int, ArrowValue)
}

/// One member of a structure.
package struct ArrowNamedValue: Hashable, Sendable {
    /// Name of the member.
    package var name: String
    /// Value of the member.
    package var value: ArrowValue

    /// Creates a member.
    package init(_ name: String, _ value: ArrowValue) {
        self.name = name
        self.value = value
    }
}

/// One entry of a map.
package struct ArrowMapEntry: Hashable, Sendable {
    /// Key of the entry; never null.
    package var key: ArrowValue
    /// Value of the entry.
    package var value: ArrowValue

    /// Creates an entry.
    package init(_ key: ArrowValue, _ value: ArrowValue) {
        self.key = key
        self.value = value
    }
}

extension ArrowColumn {
    /// The value at `row`.
    package func value(_ row: Int) -> ArrowValue {
        if self.isNull(row) { return .null }
        switch self.type {
        case .null: return .null
        case .bool: return .bool(self.values.bit(row))
        case .int8: return .int(Int64(self.values.load(row, as: Int8.self)))
        case .int16: return .int(Int64(self.values.load(row, as: Int16.self)))
        case .int32: return .int(Int64(self.values.load(row, as: Int32.self)))
        case .int64: return .int(self.values.load(row, as: Int64.self))
        case .uint8: return .uint(UInt64(self.values.load(row, as: UInt8.self)))
        case .uint16: return .uint(UInt64(self.values.load(row, as: UInt16.self)))
        case .uint32: return .uint(UInt64(self.values.load(row, as: UInt32.self)))
        case .uint64: return .uint(self.values.load(row, as: UInt64.self))
        case .float32: return .double(Double(self.values.load(row, as: Float.self)))
        case .float64: return .double(self.values.load(row, as: Double.self))
        case .decimal128(_, let scale): return .decimal(unscaled: self.int128(row), scale: scale)
        case .utf8: return .string(self.text(row))
        case .binary: return .bytes(self.bytes(row))
        case .fixedSizeBinary(let width): return .bytes(self.values.bytes(from: row * width, count: width))
        case .date32: return .date(self.values.load(row, as: Int32.self))
        case .time32(let unit): return .time(Int64(self.values.load(row, as: Int32.self)), unit)
        case .time64(let unit): return .time(self.values.load(row, as: Int64.self), unit)
        case .timestamp(let unit, let timezone):
            return .timestamp(self.values.load(row, as: Int64.self), unit, timezone: timezone)
        case .intervalMonthDayNano:
            return .interval(
                months: self.values.load(row * 4, as: Int32.self),
                days: self.values.load(row * 4 + 1, as: Int32.self),
                nanoseconds: self.values.load(row * 2 + 1, as: Int64.self)
            )
        case .list, .fixedSizeList, .structure, .map: return self.nested(row)
        case .denseUnion:
            let child = Int(self.values.load(row, as: Int8.self))
            return .union(child, self.children[child].value(Int(self.data.load(row, as: Int32.self))))
        }
    }

    private func nested(_ row: Int) -> ArrowValue {
        switch self.type {
        case .list:
            let (start, count) = self.extent(row)
            return .list((start..<start + count).map { self.children[0].value($0) })
        case .fixedSizeList(_, let size):
            return .list((row * size..<row * size + size).map { self.children[0].value($0) })
        case .structure(let fields):
            return .structure(zip(fields, self.children).map { ArrowNamedValue($0.name, $1.value(row)) })
        case .map:
            let (start, count) = self.extent(row)
            let entries = self.children[0].children
            guard entries.count == 2 else { return .null }
            return .map((start..<start + count).map { ArrowMapEntry(entries[0].value($0), entries[1].value($0)) })
        default: return .null
        }
    }

    /// The 16-byte integer at `row`, little endian.
    func int128(_ row: Int) -> Int128 {
        let low = self.values.load(row * 2, as: UInt64.self)
        let high = self.values.load(row * 2 + 1, as: Int64.self)
        return Int128(high) << 64 | Int128(low)
    }

    /// The text at `row` of a `utf8` column.
    func text(_ row: Int) -> String {
        let (start, count) = self.extent(row)
        return self.data.text(from: start, count: count)
    }

    /// The bytes at `row` of a `utf8` or `binary` column.
    func bytes(_ row: Int) -> [UInt8] {
        let (start, count) = self.extent(row)
        return self.data.bytes(from: start, count: count)
    }

    /// Makes a column of values; meant for small, hand-made batches.
    /// - Throws: ``ColumnarError`` `.schemaMismatch` when a value does not fit the type.
    package static func make(_ type: ArrowType, _ values: [ArrowValue]) throws -> ArrowColumn {
        var builder = ValueColumnBuilder(type: type, count: values.count)
        for value in values { try builder.append(value) }
        return try builder.finish()
    }
}

/// Collects values of one type.
private struct ValueColumnBuilder {
    let type: ArrowType
    let validity = ArrowMemoryBuilder()
    let values = ArrowMemoryBuilder()
    let data = ArrowMemoryBuilder()
    var childValues: [[ArrowValue]]
    var row = 0
    var nullCount = 0

    init(type: ArrowType, count: Int) {
        self.type = type
        self.childValues = type.children.map { _ in [] }
        self.validity.append(zeros: (count + 7) / 8)
        if type == .bool { self.values.append(zeros: (count + 7) / 8) }
        switch type.layout {
        case .variable, .list: self.values.append(value: Int32(0))
        default: break
        }
    }

    mutating func append(_ value: ArrowValue) throws {
        if value == .null {
            self.nullCount += 1
            self.appendEmpty()
        } else {
            self.validity.setBit(self.row, true)
            try self.appendPresent(value)
        }
        self.row += 1
    }

    private mutating func appendEmpty() {
        switch self.type.layout {
        case .null, .bits: break
        case .fixed(let width): self.values.append(zeros: width)
        case .variable: self.values.append(value: Int32(self.data.count))
        case .list: self.values.append(value: Int32(self.childValues[0].count))
        case .fixedList(let size): self.childValues[0] += Array(repeating: .null, count: size)
        case .structure: for index in self.childValues.indices { self.childValues[index].append(.null) }
        case .union: self.appendUnion(0, .null)
        }
    }

    private mutating func appendPresent(_ value: ArrowValue) throws {
        switch (self.type, value) {
        case (.bool, .bool(let bit)): self.values.setBit(self.row, bit)
        case (_, .int(let number)) where self.type != .float64: try self.append(integer: Int128(number))
        case (_, .uint(let number)) where self.type != .float64: try self.append(integer: Int128(number))
        case (.float64, .int(let number)): self.values.append(value: Double(number))
        case (.float32, .double(let number)): self.values.append(value: Float(number))
        case (.float64, .double(let number)): self.values.append(value: number)
        case (.decimal128(_, let scale), .decimal(let unscaled, let valueScale)) where scale == valueScale:
            self.values.append(value: UInt64(truncatingIfNeeded: unscaled))
            self.values.append(value: Int64(truncatingIfNeeded: unscaled >> 64))
        case (.utf8, .string(let text)): self.appendBytes(Array(text.utf8))
        case (.binary, .bytes(let bytes)): self.appendBytes(bytes)
        case (.fixedSizeBinary(let width), .bytes(let bytes)) where bytes.count == width: self.values.append(bytes)
        case (.date32, .date(let days)): self.values.append(value: days)
        case (.time32(let unit), .time(let time, let valueUnit)) where unit == valueUnit:
            try self.append(integer: Int128(time))
        case (.time64(let unit), .time(let time, let valueUnit)) where unit == valueUnit:
            self.values.append(value: time)
        case (.timestamp(let unit, _), .timestamp(let time, let valueUnit, _)) where unit == valueUnit:
            self.values.append(value: time)
        case (.intervalMonthDayNano, .interval(let months, let days, let nanoseconds)):
            self.values.append(value: months)
            self.values.append(value: days)
            self.values.append(value: nanoseconds)
        default: try self.appendNested(value)
        }
    }

    private mutating func appendNested(_ value: ArrowValue) throws {
        switch (self.type, value) {
        case (.denseUnion, .union(let child, let inner)) where self.childValues.indices.contains(child):
            self.appendUnion(child, inner)
        case (.list, .list(let items)):
            self.childValues[0] += items
            self.values.append(value: Int32(self.childValues[0].count))
        case (.fixedSizeList(_, let size), .list(let items)) where items.count == size: self.childValues[0] += items
        case (.structure(let fields), .structure(let members)) where fields.count == members.count:
            for (index, member) in members.enumerated() { self.childValues[index].append(member.value) }
        case (.map(let field, _), .map(let entries)):
            let names = field.type.children.map(\.name)
            guard names.count == 2 else { throw ColumnarError(.schemaMismatch, "a map's entries have two members") }
            for entry in entries {
                self.childValues[0].append(
                    .structure([ArrowNamedValue(names[0], entry.key), ArrowNamedValue(names[1], entry.value)])
                )
            }
            self.values.append(value: Int32(self.childValues[0].count))
        default: throw ColumnarError(.schemaMismatch, "a value does not fit the column type \(self.type)")
        }
    }

    private mutating func appendUnion(_ child: Int, _ value: ArrowValue) {
        self.values.append(value: Int8(child))
        self.data.append(value: Int32(self.childValues[child].count))
        self.childValues[child].append(value)
    }

    private mutating func appendBytes(_ bytes: [UInt8]) {
        self.data.append(bytes)
        self.values.append(value: Int32(self.data.count))
    }

    private mutating func append(integer: Int128) throws {
        func exactly<T: FixedWidthInteger & BitwiseCopyable>(_ type: T.Type) throws {
            guard let value = T(exactly: integer) else {
                throw ColumnarError(.schemaMismatch, "a number does not fit the column type \(self.type)")
            }
            self.values.append(value: value)
        }
        switch self.type {
        case .int8: try exactly(Int8.self)
        case .int16: try exactly(Int16.self)
        case .int32, .time32: try exactly(Int32.self)
        case .int64: try exactly(Int64.self)
        case .uint8: try exactly(UInt8.self)
        case .uint16: try exactly(UInt16.self)
        case .uint32: try exactly(UInt32.self)
        case .uint64: try exactly(UInt64.self)
        default: throw ColumnarError(.schemaMismatch, "a number does not fit the column type \(self.type)")
        }
    }

    func finish() throws -> ArrowColumn {
        let children = try zip(self.type.children, self.childValues).map { try ArrowColumn.make($0.type, $1) }
        return ArrowColumn(
            type: self.type,
            count: self.row,
            nullCount: self.type == .null ? self.row : self.type.layout == .union ? 0 : self.nullCount,
            validity: self.validity.finish(),
            values: self.values.finish(),
            data: self.data.finish(),
            children: children
        )
    }
}
