extension ArrowColumn {
    /// The same values in another type, for clients that cannot read this one: texts of anything, timestamps in another
    /// unit, dates as timestamps, decimals as numbers, whole numbers as decimals.
    /// - Throws: ``ColumnarError`` `.execution` for a value out of the type's range, `.unsupported` for other types.
    package func cast(to type: ArrowType) throws -> ArrowColumn {
        if type == self.type { return self }
        switch (self.type, type) {
        case (_, .utf8): return try self.texts()
        case (.timestamp(let from, _), .timestamp(let to, _)):
            return try self.scaled(from.perSecond, to.perSecond, to: type) { Int64($0.values.load($1, as: Int64.self)) }
        case (.date32, .timestamp(let to, _)):
            let secondsPerDay: Int64 = 86_400
            return try self.scaled(1, to.perSecond * secondsPerDay, to: type) {
                Int64($0.values.load($1, as: Int32.self))
            }
        case (.decimal128(_, 0), .int64):
            return try self.mapped(to: type) { column, row, values in
                guard let value = Int64(exactly: column.int128(row)) else { throw Self.outOfRange(type) }
                values.append(value: value)
            }
        case (.decimal128(_, let scale), .float64):
            // The text's nearest number: dividing the unscaled one would round twice.
            return try self.mapped(to: type) { column, row, values in
                values.append(value: Double(decimalText(column.int128(row), scale: scale)) ?? .nan)
            }
        case (.uint64, .decimal128(_, 0)):
            return try self.mapped(to: type) { column, row, values in
                values.append(value: column.values.load(row, as: UInt64.self))
                values.append(value: UInt64(0))
            }
        default: throw ColumnarError(.unsupported, "\(self.type) is not sent as \(type)")
        }
    }

    private static func outOfRange(_ type: ArrowType) -> ColumnarError {
        ColumnarError(.execution, "a value is out of the range of \(type.sqlName); cast it in the statement")
    }

    private func texts() throws -> ArrowColumn {
        let (offsets, data) = (ArrowMemoryBuilder(capacity: (self.count + 1) * 4), ArrowMemoryBuilder())
        offsets.append(value: Int32(0))
        var text: [UInt8] = []
        for row in 0..<self.count {
            if !self.isNull(row) {
                text.removeAll(keepingCapacity: true)
                self.appendPlain(row, to: &text)
                data.append(text)
            }
            guard let end = Int32(exactly: data.count) else { throw Self.outOfRange(.utf8) }
            offsets.append(value: end)
        }
        let isNull = self.type == .null
        let none = ArrowMemoryBuilder()
        none.append(zeros: (self.count + 7) / 8)
        return ArrowColumn(
            type: .utf8,
            count: self.count,
            nullCount: isNull ? self.count : self.nullCount,
            validity: isNull ? none.finish() : self.validity,
            values: offsets.finish(),
            data: data.finish()
        )
    }

    private func scaled(
        _ from: Int64,
        _ to: Int64,
        to type: ArrowType,
        _ load: (ArrowColumn, Int) -> Int64
    ) throws -> ArrowColumn {
        try self.mapped(to: type) { column, row, values in
            let value = load(column, row)
            if to >= from {
                let (scaled, overflow) = value.multipliedReportingOverflow(by: to / from)
                guard !overflow else { throw Self.outOfRange(type) }
                values.append(value: scaled)
            } else {
                values.append(value: value / (from / to))
            }
        }
    }

    /// A column of fixed width, value by value; nulls hold zeros.
    private func mapped(
        to type: ArrowType,
        _ append: (ArrowColumn, Int, ArrowMemoryBuilder) throws -> Void
    ) throws -> ArrowColumn {
        guard case .fixed(let width) = type.layout else { throw Self.outOfRange(type) }
        let values = ArrowMemoryBuilder(capacity: self.count * width)
        for row in 0..<self.count {
            if self.isNull(row) { values.append(zeros: width) } else { try append(self, row, values) }
        }
        return ArrowColumn(
            type: type,
            count: self.count,
            nullCount: self.nullCount,
            validity: self.validity,
            values: values.finish()
        )
    }
}
