/// The values of one column in a record batch. Immutable.
///
/// Buffers start at the first value (no offset). `values` holds fixed-width values, bits, or `count + 1` offsets of
/// four bytes; `data` the bytes of texts and binaries.
package struct ArrowColumn: Sendable {
    /// Logical type.
    package let type: ArrowType
    /// Number of values.
    package let count: Int
    /// Number of nulls.
    package let nullCount: Int
    /// One bit a value, 1 for present; nil when there are no nulls.
    let validity: ArrowBuffer?
    let values: ArrowBuffer
    let data: ArrowBuffer
    let children: [ArrowColumn]

    init(
        type: ArrowType,
        count: Int,
        nullCount: Int,
        validity: ArrowBuffer?,
        values: ArrowBuffer = .empty,
        data: ArrowBuffer = .empty,
        children: [ArrowColumn] = []
    ) {
        self.type = type
        self.count = count
        self.nullCount = nullCount
        self.validity = nullCount == 0 ? nil : validity
        self.values = values
        self.data = data
        self.children = children
    }

    /// Bytes of all buffers.
    package var byteCount: Int {
        (self.validity?.count ?? 0) + self.values.count + self.data.count
            + self.children.reduce(0) { $0 + $1.byteCount }
    }

    /// Bytes of the memory behind all buffers but that in `seen`, which grows by it.
    func heldBytes(except seen: inout Set<ObjectIdentifier>, lent: (any Sendable) -> Int?) -> Int {
        var bytes = 0
        for memory in [self.validity?.memory, self.values.memory, self.data.memory] {
            guard let memory, seen.insert(ObjectIdentifier(memory)).inserted else { continue }
            bytes += max(memory.count, memory.owner.flatMap(lent) ?? 0)
        }
        return self.children.reduce(bytes) { $0 + $1.heldBytes(except: &seen, lent: lent) }
    }

    /// Whether the value at `row` is null.
    package func isNull(_ row: Int) -> Bool {
        precondition(row >= 0 && row < self.count, "row outside of the column")
        if self.type == .null { return true }
        if case .denseUnion = self.type {
            let child = Int(self.values.load(row, as: Int8.self))
            return self.children[child].isNull(Int(self.data.load(row, as: Int32.self)))
        }
        guard let validity = self.validity else { return false }
        return !validity.bit(row)
    }

    /// Start and end of the value at `row` in `data` or in the child.
    @inline(__always)
    func extent(_ row: Int) -> (start: Int, count: Int) {
        let start = Int(self.values.load(row, as: Int32.self))
        return (start, Int(self.values.load(row + 1, as: Int32.self)) - start)
    }

    /// Checks everything that later reads rely on: buffer sizes, offsets, child lengths, UTF-8.
    /// - Throws: ``ColumnarError`` `.invalidArrow`.
    func validate(depth: Int = 0) throws {
        func check(_ holds: Bool, _ text: @autoclosure () -> String) throws {
            guard holds else { throw ColumnarError(.invalidArrow, "\(self.type): \(text())") }
        }
        try check(depth <= ArrowLimits.depthMax, "nested deeper than \(ArrowLimits.depthMax)")
        try check(self.count >= 0 && self.nullCount >= 0 && self.nullCount <= self.count, "wrong counts")
        if self.type != .null, self.nullCount > 0 {
            try check(self.validity != nil, "nulls without a validity bitmap")
        }
        if let validity = self.validity {
            try check(validity.count >= (self.count + 7) / 8, "validity bitmap too short")
        }
        switch self.type.layout {
        case .null: break
        case .bits: try check(self.values.count >= (self.count + 7) / 8, "values too short")
        case .fixed(let width):
            let (bytes, overflow) = self.count.multipliedReportingOverflow(by: width)
            try check(!overflow && self.values.count >= bytes, "values too short")
        case .variable:
            let used = try self.checkOffsets()
            try check(used <= self.data.count, "data too short")
            if self.type == .utf8 { try self.checkUTF8(used) }
        case .list:
            try check(self.children.count == 1, "a list has one child")
            let used = try self.checkOffsets()
            try check(used <= self.children[0].count, "child too short")
        case .fixedList(let size):
            try check(self.children.count == 1, "a list has one child")
            let (wanted, overflow) = self.count.multipliedReportingOverflow(by: size)
            try check(!overflow && self.children[0].count >= wanted, "child too short")
        case .structure:
            try check(self.children.count == self.type.children.count, "wrong number of children")
            for child in self.children { try check(child.count >= self.count, "child too short") }
        case .union: try self.checkUnion()
        }
        for child in self.children { try child.validate(depth: depth + 1) }
    }

    /// Checks that every value lies in a child.
    private func checkUnion() throws {
        let invalid = ColumnarError(.invalidArrow, "a union's value lies outside of its child")
        guard self.children.count == self.type.children.count, self.values.count >= self.count,
            self.data.count / 4 >= self.count
        else { throw invalid }
        for row in 0..<self.count {
            let child = Int(self.values.load(row, as: Int8.self))
            guard self.children.indices.contains(child) else { throw invalid }
            let place = Int(self.data.load(row, as: Int32.self))
            guard place >= 0, place < self.children[child].count else { throw invalid }
        }
    }

    /// Checks that offsets never decrease; returns the last.
    private func checkOffsets() throws -> Int {
        if self.count == 0 && self.values.count == 0 { return 0 }
        guard self.values.count / 4 > self.count else { throw ColumnarError(.invalidArrow, "offsets too short") }
        return unsafe try self.values.withBytes { bytes in
            var previous: Int32 = 0
            for row in 0...self.count {
                let offset = unsafe bytes.loadUnaligned(fromByteOffset: row * 4, as: Int32.self)
                guard offset >= previous else { throw ColumnarError(.invalidArrow, "offsets decrease") }
                previous = offset
            }
            return Int(previous)
        }
    }

    /// Checks the bytes as a whole, and that no value starts inside of a character.
    private func checkUTF8(_ used: Int) throws {
        guard used > 0 else { return }
        unsafe try self.data.withBytes { bytes in
            let text = unsafe UnsafeRawBufferPointer(rebasing: bytes[0..<used])
            // Every byte is a character, so that every value starts at one.
            if unsafe isASCII(text) { return }
            guard unsafe (try? UTF8Span(validating: text.bindMemory(to: UInt8.self).span)) != nil else {
                throw ColumnarError(.invalidArrow, "text is not UTF-8")
            }
            for row in 0..<self.count {
                let start = self.extent(row).start
                if start < used, unsafe text[start] & 0xC0 == 0x80 {
                    throw ColumnarError(.invalidArrow, "a text starts inside of a character")
                }
            }
        }
    }

    /// Copies a part of the column.
    func slice(from start: Int, count: Int) -> ArrowColumn {
        precondition(start >= 0 && count >= 0 && start <= self.count - count, "slice outside of the column")
        let assembler = ColumnAssembler(type: self.type)
        assembler.append(self, from: start, count: count)
        return assembler.finish()
    }
}

/// Whether no byte has its highest bit set; many at a time.
private func isASCII(_ text: UnsafeRawBufferPointer) -> Bool {
    typealias Block = SIMD8<UInt64>
    let high = Block(repeating: 0x8080_8080_8080_8080)
    var index = 0
    while index + MemoryLayout<Block>.size <= text.count {
        let block = unsafe text.loadUnaligned(fromByteOffset: index, as: Block.self)
        if block & high != Block.zero { return false }
        index += MemoryLayout<Block>.size
    }
    while index < text.count {
        if unsafe text[index] >= 0x80 { return false }
        index += 1
    }
    return true
}

/// Bounds on what a reader of Arrow data accepts.
package enum ArrowLimits {
    /// Deepest nesting of types.
    package static let depthMax = 32
    /// Most columns and children of one schema.
    package static let fieldsMax = 16_384
}
