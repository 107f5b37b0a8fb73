// Reading Arrow's metadata. Nothing is believed: what does not fit is refused.

/// What a message announces.
enum ArrowMessage {
    case schema(ArrowSchema, [ArrowWireColumn])
    case recordBatch(ArrowBatchLayout)
    /// The values of a dictionary; a delta adds to those that came before.
    case dictionary(id: Int64, ArrowBatchLayout, isDelta: Bool)

    /// Most buffers of one batch.
    private static let buffersMax = ArrowLimits.fieldsMax * 3

    /// - Returns: The message and the length of its body.
    static func read(_ bytes: [UInt8]) throws -> (message: ArrowMessage, bodyBytes: Int64) {
        let message = try FlatBufferReader(bytes: bytes).root()
        let version = try message.integer(0, default: Int16(0))
        guard version == ArrowWire.version || version == ArrowWire.version - 1 else {
            throw ColumnarError(.unsupported, "Arrow metadata version \(version)")
        }
        let bodyBytes = try message.integer(3, default: Int64(0))
        guard let header = try message.table(2) else { throw FlatBufferReader.malformed }
        switch try message.integer(1, default: UInt8(0)) {
        case ArrowWire.schemaMessage:
            let (schema, columns) = try ArrowSchema.read(header)
            return (.schema(schema, columns), bodyBytes)
        case ArrowWire.recordBatchMessage: return (.recordBatch(try Self.layout(header)), bodyBytes)
        case ArrowWire.dictionaryMessage:
            guard let data = try header.table(1) else { throw FlatBufferReader.malformed }
            let id = try header.integer(0, default: Int64(0))
            return (.dictionary(id: id, try Self.layout(data), isDelta: try header.bool(2)), bodyBytes)
        default: throw ColumnarError(.invalidArrow, "an unknown kind of message")
        }
    }

    private static func layout(_ batch: FlatTable) throws -> ArrowBatchLayout {
        let rows = try batch.integer(0, default: Int64(0))
        guard rows >= 0, rows <= Int64(Int32.max) else { throw FlatBufferReader.malformed }
        var layout = ArrowBatchLayout(
            rows: Int(rows),
            nodes: try batch.pairs(1, max: ArrowLimits.fieldsMax),
            buffers: try batch.pairs(2, max: Self.buffersMax),
            variadicCounts: try batch.integers(4, max: ArrowLimits.fieldsMax)
        )
        if let compression = try batch.table(3) {
            let method = try compression.integer(1, default: UInt8(0))
            guard method == 0, let codec = ArrowCompression(wireNumber: try compression.integer(0, default: 0)) else {
                throw ColumnarError(.unsupported, "a compression that is not known")
            }
            layout.compression = codec
        }
        return layout
    }
}

/// How a column lies in a message, where that differs from how it is kept.
///
/// Texts and lists with long offsets, views and dictionaries become plain columns when they are read.
struct ArrowWireColumn: Sendable {
    enum Form: Sendable {
        case plain
        /// Offsets of eight bytes.
        case large
        /// Places in any number of buffers.
        case view
    }

    var type: ArrowType
    var form = Form.plain
    /// The dictionary, and the type of the places in it.
    var dictionary: (id: Int64, index: ArrowType)?
    var children: [ArrowWireColumn] = []
}

extension ArrowSchema {
    fileprivate static func read(_ table: FlatTable) throws -> (ArrowSchema, [ArrowWireColumn]) {
        guard try table.integer(0, default: Int16(0)) == 0 else {
            throw ColumnarError(.unsupported, "big-endian Arrow data")
        }
        var budget = ArrowLimits.fieldsMax
        let read = try table.tables(1).map { try ArrowField.read($0, depth: 0, budget: &budget) }
        let schema = ArrowSchema(fields: read.map(\.0), metadata: try ArrowMetadata.list(table, slot: 2))
        return (schema, read.map(\.1))
    }
}

extension ArrowMetadata {
    fileprivate static func list(_ table: FlatTable, slot: Int) throws -> [ArrowMetadata] {
        try table.tables(slot).map {
            ArrowMetadata(key: try $0.string(0) ?? "", value: try $0.string(1) ?? "")
        }
    }
}

extension ArrowField {
    fileprivate static func read(
        _ table: FlatTable,
        depth: Int,
        budget: inout Int
    ) throws -> (ArrowField, ArrowWireColumn) {
        budget -= 1
        guard depth <= ArrowLimits.depthMax, budget >= 0 else {
            throw ColumnarError(.invalidArrow, "the schema is nested too deeply or too large")
        }
        var children: [(ArrowField, ArrowWireColumn)] = []
        for child in try table.tables(5) { children.append(try self.read(child, depth: depth + 1, budget: &budget)) }
        let number = try table.integer(2, default: UInt8(0))
        guard let typeTable = try table.table(3) else { throw FlatBufferReader.malformed }
        let (plainNumber, form) = self.form(number)
        let type = try ArrowType(number: plainNumber, table: typeTable, children: children.map(\.0))
        // Unions are never joined or cut, so they stand only at the top.
        guard depth == 0 || type.layout != .union else { throw ColumnarError(.unsupported, "a union inside of a type") }
        var wire = ArrowWireColumn(type: type, form: form, children: children.map(\.1))
        if let dictionary = try table.table(4) {
            // A missing index type means 32 bits, signed.
            let index = try dictionary.table(1).map {
                try ArrowType(number: ArrowWire.int, table: $0, children: [])
            }
            wire.dictionary = (try dictionary.integer(0, default: Int64(0)), index ?? .int32)
        }
        let field = ArrowField(
            try table.string(0) ?? "",
            type,
            nullable: try table.bool(1),
            metadata: try ArrowMetadata.list(table, slot: 6)
        )
        return (field, wire)
    }

    /// The number of the type that a column is kept as, and how it lies in messages.
    private static func form(_ number: UInt8) -> (UInt8, ArrowWireColumn.Form) {
        switch number {
        case ArrowWire.largeUTF8: (ArrowWire.utf8, .large)
        case ArrowWire.largeBinary: (ArrowWire.binary, .large)
        case ArrowWire.largeList: (ArrowWire.list, .large)
        case ArrowWire.utf8View: (ArrowWire.utf8, .view)
        case ArrowWire.binaryView: (ArrowWire.binary, .view)
        default: (number, .plain)
        }
    }
}

extension ArrowType {
    fileprivate init(number: UInt8, table: FlatTable, children: [ArrowField]) throws {
        let unsupported = ColumnarError(.unsupported, "an Arrow type that is not carried (number \(number))")
        switch number {
        case ArrowWire.null: self = .null
        case ArrowWire.bool: self = .bool
        case ArrowWire.utf8: self = .utf8
        case ArrowWire.binary: self = .binary
        case ArrowWire.int: self = try Self.integer(table, unsupported)
        case ArrowWire.floatingPoint:
            switch try table.integer(0, default: Int16(0)) {
            case 1: self = .float32
            case 2: self = .float64
            default: throw unsupported
            }
        case ArrowWire.decimal:
            guard try table.integer(2, default: Int32(128)) == 128 else { throw unsupported }
            let precision = try table.integer(0, default: Int32(0))
            let scale = try table.integer(1, default: Int32(0))
            guard (1...38).contains(precision), (0...precision).contains(scale) else { throw unsupported }
            self = .decimal128(precision: Int(precision), scale: Int(scale))
        case ArrowWire.date, ArrowWire.time, ArrowWire.timestamp, ArrowWire.interval:
            self = try Self.temporal(number, table, unsupported)
        default: self = try Self.nested(number, table, children, unsupported)
        }
        guard children.isEmpty || !self.children.isEmpty || self == .structure([]) else {
            throw ColumnarError(.invalidArrow, "children of a type that has none")
        }
    }

    private static func integer(_ table: FlatTable, _ unsupported: ColumnarError) throws -> ArrowType {
        let signed = try table.bool(1)
        switch try table.integer(0, default: Int32(0)) {
        case 8: return signed ? .int8 : .uint8
        case 16: return signed ? .int16 : .uint16
        case 32: return signed ? .int32 : .uint32
        case 64: return signed ? .int64 : .uint64
        default: throw unsupported
        }
    }

    private static func temporal(
        _ number: UInt8,
        _ table: FlatTable,
        _ unsupported: ColumnarError
    ) throws -> ArrowType {
        let standard: Int16 = number == ArrowWire.date || number == ArrowWire.time ? 1 : 0
        let unit = try table.integer(0, default: standard)
        switch number {
        case ArrowWire.date:
            guard unit == 0 else { throw unsupported }
            return .date32
        case ArrowWire.interval:
            guard unit == 2 else { throw unsupported }
            return .intervalMonthDayNano
        default: break
        }
        guard let timeUnit = ArrowTimeUnit(rawValue: Int(unit)) else { throw unsupported }
        if number == ArrowWire.timestamp { return .timestamp(timeUnit, timezone: try table.string(1)) }
        let bits = try table.integer(1, default: Int32(32))
        switch (timeUnit, bits) {
        case (.second, 32), (.millisecond, 32): return .time32(timeUnit)
        case (.microsecond, 64), (.nanosecond, 64): return .time64(timeUnit)
        default: throw unsupported
        }
    }

    private static func nested(
        _ number: UInt8,
        _ table: FlatTable,
        _ children: [ArrowField],
        _ unsupported: ColumnarError
    ) throws -> ArrowType {
        switch (number, children.count) {
        case (ArrowWire.structure, _): return .structure(children)
        case (ArrowWire.union, 1...):
            let numbers = try table.integers32(1, max: ArrowLimits.fieldsMax)
            guard try table.integer(0, default: Int16(0)) == 1,
                numbers.isEmpty || numbers == (0..<Int32(children.count)).map({ $0 })
            else { throw unsupported }
            return .denseUnion(children)
        case (ArrowWire.list, 1): return .list(children[0])
        case (ArrowWire.map, 1):
            guard case .structure(let entries) = children[0].type, entries.count == 2 else { throw unsupported }
            return .map(children[0], keysSorted: try table.bool(0))
        case (ArrowWire.fixedSizeList, 1):
            let size = try table.integer(0, default: Int32(0))
            guard size >= 0 else { throw unsupported }
            return .fixedSizeList(children[0], Int(size))
        case (ArrowWire.fixedSizeBinary, 0):
            let width = try table.integer(0, default: Int32(0))
            guard width >= 0 else { throw unsupported }
            return .fixedSizeBinary(Int(width))
        default: throw unsupported
        }
    }
}
