/// Joins parts of columns of one type into one column. Used by one thread.
final class ColumnAssembler {
    let type: ArrowType
    private(set) var count = 0
    private var nullCount = 0
    private var validity: ArrowMemoryBuilder?
    private let values = ArrowMemoryBuilder()
    private let data = ArrowMemoryBuilder()
    private let children: [ColumnAssembler]

    init(type: ArrowType) {
        self.type = type
        self.children = type.children.map { ColumnAssembler(type: $0.type) }
    }

    var byteCount: Int {
        (self.validity?.count ?? 0) + self.values.count + self.data.count
            + self.children.reduce(0) { $0 + $1.byteCount }
    }

    /// Buffers of a part that is to be appended, wherever they come from.
    @safe struct Part {
        var start: Int
        var count: Int
        var validity: UnsafeRawPointer?
        var values: UnsafeRawPointer?
        var data: UnsafeRawPointer?
    }

    /// Appends everything but the children.
    /// - Returns: The range of child values that belongs to the part (lists only).
    @discardableResult
    func append(_ part: Part) -> (start: Int, count: Int) {
        self.appendValidity(part)
        var childRange = (start: part.start, count: part.count)
        switch self.type.layout {
        case .null, .structure: break
        case .bits:
            unsafe self.values.appendBits(part.values, from: part.start, count: part.count, at: self.count)
        case .fixed(let width):
            if let values = unsafe part.values {
                unsafe self.values.append(
                    UnsafeRawBufferPointer(start: values + part.start * width, count: part.count * width)
                )
            }
        case .variable, .list:
            childRange = self.appendOffsets(part)
            if self.type.layout == .variable, let data = unsafe part.data {
                unsafe self.data.append(
                    UnsafeRawBufferPointer(start: data + childRange.start, count: childRange.count)
                )
            }
        case .fixedList(let size):
            childRange = (part.start * size, part.count * size)
        case .union: preconditionFailure("unions are made whole, never joined")
        }
        self.count += part.count
        return childRange
    }

    private func appendValidity(_ part: Part) {
        if unsafe part.validity == nil {
            guard let validity = self.validity else { return }
            unsafe validity.appendBits(nil, from: 0, count: part.count, at: self.count)
            return
        }
        let validity: ArrowMemoryBuilder
        if let existing = self.validity {
            validity = existing
        } else {
            validity = ArrowMemoryBuilder()
            unsafe validity.appendBits(nil, from: 0, count: self.count, at: 0)
            self.validity = validity
        }
        unsafe validity.appendBits(part.validity, from: part.start, count: part.count, at: self.count)
        guard let bits = unsafe part.validity else { return }
        self.nullCount += unsafe part.count - countOnes(bits, from: part.start, count: part.count)
    }

    private func appendOffsets(_ part: Part) -> (start: Int, count: Int) {
        if self.values.count == 0 { self.values.append(value: Int32(0)) }
        guard let offsets = unsafe part.values, part.count > 0 else { return (0, 0) }
        let base = self.lastOffset
        let first = unsafe offsets.loadUnaligned(fromByteOffset: part.start * 4, as: Int32.self)
        let last = unsafe offsets.loadUnaligned(fromByteOffset: (part.start + part.count) * 4, as: Int32.self)
        unsafe self.values.appendOffsets(offsets, from: part.start, count: part.count, base: base)
        self.lastOffset = base + (last - first)
        return (Int(first), Int(last - first))
    }

    private var lastOffset: Int32 = 0

    /// Appends rows of another column of the same type.
    func append(_ column: ArrowColumn, from start: Int, count: Int) {
        let range = unsafe self.append(
            Part(
                start: start,
                count: count,
                validity: column.validity?.address,
                values: column.values.address,
                data: column.data.address
            )
        )
        withExtendedLifetime(column) {}
        for (assembler, child) in zip(self.children, column.children) {
            assembler.append(child, from: range.start, count: range.count)
        }
    }

    /// The assembler of a child, for parts that come from elsewhere than a column.
    func child(_ index: Int) -> ColumnAssembler { self.children[index] }

    func finish() -> ArrowColumn {
        switch self.type.layout {
        case .variable, .list: if self.values.count == 0 { self.values.append(value: Int32(0)) }
        default: break
        }
        let column = ArrowColumn(
            type: self.type,
            count: self.count,
            nullCount: self.type == .null ? self.count : self.nullCount,
            validity: self.validity?.finish(),
            values: self.values.finish(),
            data: self.data.finish(),
            children: self.children.map { $0.finish() }
        )
        self.count = 0
        self.nullCount = 0
        self.validity = nil
        self.lastOffset = 0
        return column
    }
}

/// Bits that are one, from bit `start`.
private func countOnes(_ bits: UnsafeRawPointer, from start: Int, count: Int) -> Int {
    var ones = 0
    var index = start
    let end = start + count
    while index < end {
        if index & 7 == 0 && end - index >= 8 {
            ones += unsafe bits.load(fromByteOffset: index >> 3, as: UInt8.self).nonzeroBitCount
            index += 8
        } else {
            let byte = unsafe bits.load(fromByteOffset: index >> 3, as: UInt8.self)
            if byte & (1 << UInt8(index & 7)) != 0 { ones += 1 }
            index += 1
        }
    }
    return ones
}
