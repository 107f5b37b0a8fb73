/// Hands out a batch's nodes and buffers in order, and makes plain columns of them.
struct ArrowBatchReader {
    private let layout: ArrowBatchLayout
    private let body: ArrowBuffer
    private let dictionaries: [Int64: ArrowColumn]
    private var node = 0
    private var buffer = 0
    private var variadic = 0
    /// Bytes that decompressing and expanding may still make.
    private var bytesLeft: Int

    /// Expanding a dictionary may make so many times the bytes of a message.
    private static let growthMax = 4

    init(layout: ArrowBatchLayout, body: ArrowBuffer, bytesMax: Int, dictionaries: [Int64: ArrowColumn]) {
        self.layout = layout
        self.body = body
        self.dictionaries = dictionaries
        self.bytesLeft = bytesMax * Self.growthMax
    }

    var isDone: Bool {
        self.node == self.layout.nodes.count && self.buffer == self.layout.buffers.count
            && self.variadic == self.layout.variadicCounts.count
    }

    /// The next column, checked.
    mutating func column(_ wire: ArrowWireColumn) throws -> ArrowColumn {
        let column: ArrowColumn
        if let dictionary = wire.dictionary {
            let places = try self.plain(ArrowWireColumn(type: dictionary.index))
            try places.validate()
            column = try self.expanded(places, by: dictionary.id, type: wire.type)
        } else {
            column = try self.plain(wire)
        }
        try column.validate()
        return column
    }

    private mutating func plain(_ wire: ArrowWireColumn) throws -> ArrowColumn {
        guard self.node < self.layout.nodes.count else { throw ColumnarError(.invalidArrow, "too few nodes") }
        let (count64, nullCount) = self.layout.nodes[self.node]
        self.node += 1
        guard count64 >= 0, count64 <= Int64(Int32.max), nullCount >= 0, nullCount <= count64 else {
            throw ColumnarError(.invalidArrow, "wrong counts of a column")
        }
        let count = Int(count64)
        var buffers: [ArrowBuffer] = []
        for _ in 0..<self.bufferCount(wire) { buffers.append(try self.nextBuffer()) }
        if wire.type.layout == .union {
            let children = try wire.children.map { try self.column($0) }
            return ArrowColumn(
                type: wire.type,
                count: count,
                nullCount: 0,
                validity: nil,
                values: buffers[0],
                data: buffers[1],
                children: children
            )
        }
        let validity = buffers.first.flatMap { $0.count == 0 ? nil : $0 }
        if nullCount > 0, wire.type != .null, (validity?.count ?? 0) < (count + 7) / 8 {
            throw ColumnarError(.invalidArrow, "nulls without a validity bitmap")
        }
        if wire.form == .view { return try self.viewColumn(wire, count, Int(nullCount), validity, buffers[1]) }
        var values = buffers.count > 1 ? buffers[1] : .empty
        if wire.form == .large { values = try self.shortOffsets(values, count: count) }
        return ArrowColumn(
            type: wire.type,
            count: count,
            nullCount: wire.type == .null ? count : Int(nullCount),
            validity: validity,
            values: values,
            data: buffers.count > 2 ? buffers[2] : .empty,
            children: try wire.children.map { try self.column($0) }
        )
    }

    private func bufferCount(_ wire: ArrowWireColumn) -> Int {
        switch wire.type.layout {
        case .null: 0
        case .structure, .fixedList: 1
        case .bits, .fixed, .list, .union: 2
        case .variable: wire.form == .view ? 2 : 3
        }
    }

    private mutating func nextBuffer() throws -> ArrowBuffer {
        guard self.buffer < self.layout.buffers.count else { throw ColumnarError(.invalidArrow, "too few buffers") }
        let (offset, length) = self.layout.buffers[self.buffer]
        self.buffer += 1
        guard offset >= 0, length >= 0, offset % 8 == 0, offset <= Int64(self.body.count),
            length <= Int64(self.body.count) - offset
        else { throw ColumnarError(.invalidArrow, "a buffer outside of the body") }
        let stored = self.body.range(from: Int(offset), count: Int(length))
        guard let compression = self.layout.compression else { return stored }
        let plain = try compression.decompressed(stored, bytesMax: self.bytesLeft)
        try self.spend(plain.count)
        return plain
    }

    private mutating func spend(_ bytes: Int) throws {
        self.bytesLeft -= bytes
        guard self.bytesLeft >= 0 else { throw ColumnarError(.invalidArrow, "a batch that grows too much") }
    }

    /// Offsets of eight bytes as offsets of four.
    private mutating func shortOffsets(_ offsets: ArrowBuffer, count: Int) throws -> ArrowBuffer {
        if count == 0 && offsets.count == 0 { return .empty }
        guard offsets.count / 8 > count else { throw ColumnarError(.invalidArrow, "offsets too short") }
        try self.spend(count * 4)
        let short = ArrowMemoryBuilder(capacity: (count + 1) * 4)
        for row in 0...count {
            guard let offset = Int32(exactly: offsets.load(row, as: Int64.self)), offset >= 0 else {
                throw ColumnarError(.invalidArrow, "an offset beyond the body")
            }
            short.append(value: offset)
        }
        return short.finish()
    }

    /// Texts or binaries that lie in views: up to 12 bytes in place, longer ones in one of some buffers.
    private mutating func viewColumn(
        _ wire: ArrowWireColumn,
        _ count: Int,
        _ nullCount: Int,
        _ validity: ArrowBuffer?,
        _ views: ArrowBuffer
    ) throws -> ArrowColumn {
        let (viewBytes, inlineMax) = (16, 12)
        let outside = ColumnarError(.invalidArrow, "a view outside of its buffers")
        guard self.variadic < self.layout.variadicCounts.count, views.count / viewBytes >= count,
            (0...Int64(ArrowLimits.fieldsMax)).contains(self.layout.variadicCounts[self.variadic])
        else { throw outside }
        var buffers: [ArrowBuffer] = []
        for _ in 0..<self.layout.variadicCounts[self.variadic] { buffers.append(try self.nextBuffer()) }
        self.variadic += 1
        let (offsets, data) = (ArrowMemoryBuilder(capacity: (count + 1) * 4), ArrowMemoryBuilder())
        offsets.append(value: Int32(0))
        for row in 0..<count {
            let isNull = nullCount > 0 && validity.map { !$0.bit(row) } ?? false
            let length = isNull ? 0 : Int(views.load(row * 4, as: Int32.self))
            guard length >= 0 else { throw outside }
            if length <= inlineMax {
                data.append(views.range(from: row * viewBytes + 4, count: length))
            } else {
                let place = Int(views.load(row * 4 + 2, as: Int32.self))
                let start = Int(views.load(row * 4 + 3, as: Int32.self))
                guard buffers.indices.contains(place), start >= 0, length <= buffers[place].count - start else {
                    throw outside
                }
                try self.spend(length)
                data.append(buffers[place].range(from: start, count: length))
            }
            guard data.count <= Int(Int32.max) else { throw outside }
            offsets.append(value: Int32(data.count))
        }
        return ArrowColumn(
            type: wire.type,
            count: count,
            nullCount: nullCount,
            validity: validity,
            values: offsets.finish(),
            data: data.finish()
        )
    }

    /// The values that places in a dictionary stand for.
    private mutating func expanded(_ places: ArrowColumn, by id: Int64, type: ArrowType) throws -> ArrowColumn {
        guard type.layout != .union else { throw ColumnarError(.unsupported, "a dictionary of unions") }
        let values: ArrowColumn
        if let known = self.dictionaries[id] {
            values = known
        } else if places.nullCount == places.count {
            values = try ArrowColumn.make(type, [])
        } else {
            throw ColumnarError(.invalidArrow, "a dictionary that has not come")
        }
        let null = try ArrowColumn.make(type, [.null])
        let assembler = ColumnAssembler(type: type)
        let bytesBefore = self.bytesLeft
        for row in 0..<places.count {
            switch places.value(row) {
            case .null: assembler.append(null, from: 0, count: 1)
            case .int(let place) where place >= 0 && place < Int64(values.count):
                assembler.append(values, from: Int(place), count: 1)
            case .uint(let place) where place < UInt64(values.count):
                assembler.append(values, from: Int(place), count: 1)
            default: throw ColumnarError(.invalidArrow, "a place outside of its dictionary")
            }
            if assembler.byteCount > bytesBefore { throw ColumnarError(.invalidArrow, "a batch that grows too much") }
        }
        try self.spend(assembler.byteCount)
        return assembler.finish()
    }
}
