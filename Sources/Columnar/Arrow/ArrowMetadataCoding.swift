// Arrow's metadata as FlatBuffers: Message.fbs and Schema.fbs of the Arrow columnar format.

/// Numbers of the format's unions and enumerations.
enum ArrowWire {
    static let version: Int16 = 4  // MetadataVersion.V5
    static let continuation: UInt32 = 0xFFFF_FFFF
    static let schemaMessage: UInt8 = 1
    static let dictionaryMessage: UInt8 = 2
    static let recordBatchMessage: UInt8 = 3

    static let null: UInt8 = 1
    static let int: UInt8 = 2
    static let floatingPoint: UInt8 = 3
    static let binary: UInt8 = 4
    static let utf8: UInt8 = 5
    static let bool: UInt8 = 6
    static let decimal: UInt8 = 7
    static let date: UInt8 = 8
    static let time: UInt8 = 9
    static let timestamp: UInt8 = 10
    static let interval: UInt8 = 11
    static let list: UInt8 = 12
    static let structure: UInt8 = 13
    static let fixedSizeBinary: UInt8 = 15
    static let fixedSizeList: UInt8 = 16
    static let map: UInt8 = 17
}

// MARK: - Writing

extension FlatBufferBuilder {
    fileprivate mutating func message(header: Offset, type: UInt8, bodyLength: Int) -> [UInt8] {
        self.startTable()
        self.add(3, Int64(bodyLength), default: 0)
        self.add(2, reference: header)
        self.add(0, ArrowWire.version, default: 0)
        self.add(1, type, default: 0)
        return self.finish(self.endTable())
    }

    fileprivate mutating func metadata(_ entries: [ArrowMetadata]) -> Offset? {
        guard !entries.isEmpty else { return nil }
        let offsets = entries.map { entry in
            let key = self.string(entry.key)
            let value = self.string(entry.value)
            self.startTable()
            self.add(0, reference: key)
            self.add(1, reference: value)
            return self.endTable()
        }
        return self.vector(of: offsets)
    }

    fileprivate mutating func field(_ field: ArrowField) -> Offset {
        let children = field.type.children.map { self.field($0) }
        let childVector = self.vector(of: children)
        let name = self.string(field.name)
        let metadata = self.metadata(field.metadata)
        let (number, type) = self.type(field.type)
        self.startTable()
        self.add(0, reference: name)
        self.add(3, reference: type)
        self.add(5, reference: childVector)
        self.add(6, reference: metadata)
        self.add(1, field.nullable)
        self.add(2, number, default: 0)
        return self.endTable()
    }

    private mutating func type(_ type: ArrowType) -> (UInt8, Offset) {
        func integer(_ bits: Int32, _ signed: Bool) -> (UInt8, Offset) {
            self.startTable()
            self.add(0, bits, default: 0)
            self.add(1, signed)
            return (ArrowWire.int, self.endTable())
        }
        func plain(_ number: UInt8, _ add: (inout FlatBufferBuilder) -> Void = { _ in }) -> (UInt8, Offset) {
            self.startTable()
            add(&self)
            return (number, self.endTable())
        }
        switch type {
        case .null: return plain(ArrowWire.null)
        case .bool: return plain(ArrowWire.bool)
        case .int8: return integer(8, true)
        case .int16: return integer(16, true)
        case .int32: return integer(32, true)
        case .int64: return integer(64, true)
        case .uint8: return integer(8, false)
        case .uint16: return integer(16, false)
        case .uint32: return integer(32, false)
        case .uint64: return integer(64, false)
        case .float32: return plain(ArrowWire.floatingPoint) { $0.add(0, Int16(1), default: 0) }
        case .float64: return plain(ArrowWire.floatingPoint) { $0.add(0, Int16(2), default: 0) }
        case .utf8: return plain(ArrowWire.utf8)
        case .binary: return plain(ArrowWire.binary)
        case .list: return plain(ArrowWire.list)
        case .structure: return plain(ArrowWire.structure)
        case .map(_, let sorted): return plain(ArrowWire.map) { $0.add(0, sorted) }
        case .fixedSizeBinary(let width):
            return plain(ArrowWire.fixedSizeBinary) { $0.add(0, Int32(width), default: 0) }
        case .fixedSizeList(_, let size):
            return plain(ArrowWire.fixedSizeList) { $0.add(0, Int32(size), default: 0) }
        default: return self.valueType(type)
        }
    }

    private mutating func valueType(_ type: ArrowType) -> (UInt8, Offset) {
        var number = ArrowWire.null
        var timezone: Offset?
        if case .timestamp(_, .some(let name)) = type { timezone = self.string(name) }
        self.startTable()
        switch type {
        case .decimal128(let precision, let scale):
            number = ArrowWire.decimal
            self.add(0, Int32(precision), default: 0)
            self.add(1, Int32(scale), default: 0)
        case .date32:
            number = ArrowWire.date
            self.add(0, Int16(0), default: 1)
        case .time32(let unit), .time64(let unit):
            number = ArrowWire.time
            self.add(1, type.layout == .fixed(byteWidth: 4) ? Int32(32) : Int32(64), default: 32)
            self.add(0, Int16(unit.rawValue), default: 1)
        case .timestamp(let unit, _):
            number = ArrowWire.timestamp
            self.add(1, reference: timezone)
            self.add(0, Int16(unit.rawValue), default: 0)
        case .intervalMonthDayNano:
            number = ArrowWire.interval
            self.add(0, Int16(2), default: 0)
        default: break
        }
        return (number, self.endTable())
    }
}

extension ArrowSchema {
    /// The schema as the metadata of an IPC message.
    func encoded() -> [UInt8] {
        var builder = FlatBufferBuilder()
        let fields = self.fields.map { builder.field($0) }
        let vector = builder.vector(of: fields)
        let metadata = builder.metadata(self.metadata)
        builder.startTable()
        builder.add(1, reference: vector)
        builder.add(2, reference: metadata)
        let schema = builder.endTable()
        return builder.message(header: schema, type: ArrowWire.schemaMessage, bodyLength: 0)
    }
}

/// Row count, nodes and buffers of a record batch, in the order of the format.
struct ArrowBatchLayout {
    var rows: Int
    /// Length and null count of each column and child, parents first.
    var nodes: [(Int64, Int64)] = []
    /// Offset and length of each buffer in the body.
    var buffers: [(Int64, Int64)] = []
    var bodyBytes = 0

    func encoded() -> [UInt8] {
        var builder = FlatBufferBuilder()
        let buffers = builder.vector(ofPairs: self.buffers)
        let nodes = builder.vector(ofPairs: self.nodes)
        builder.startTable()
        builder.add(0, Int64(self.rows), default: 0)
        builder.add(1, reference: nodes)
        builder.add(2, reference: buffers)
        let batch = builder.endTable()
        return builder.message(header: batch, type: ArrowWire.recordBatchMessage, bodyLength: self.bodyBytes)
    }
}

// MARK: - Reading

/// What a message announces.
enum ArrowMessage {
    case schema(ArrowSchema)
    case recordBatch(ArrowBatchLayout)

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
        case ArrowWire.schemaMessage: return (.schema(try ArrowSchema(header)), bodyBytes)
        case ArrowWire.recordBatchMessage:
            guard try header.table(3) == nil else { throw ColumnarError(.unsupported, "compressed Arrow batches") }
            let rows = try header.integer(0, default: Int64(0))
            guard rows >= 0, rows <= Int64(Int32.max) else { throw FlatBufferReader.malformed }
            let layout = ArrowBatchLayout(
                rows: Int(rows),
                nodes: try header.pairs(1, max: ArrowLimits.fieldsMax),
                buffers: try header.pairs(2, max: Self.buffersMax),
                bodyBytes: 0
            )
            return (.recordBatch(layout), bodyBytes)
        case ArrowWire.dictionaryMessage: throw ColumnarError(.unsupported, "Arrow dictionaries")
        default: throw ColumnarError(.invalidArrow, "an unknown kind of message")
        }
    }
}

extension ArrowSchema {
    fileprivate init(_ table: FlatTable) throws {
        guard try table.integer(0, default: Int16(0)) == 0 else {
            throw ColumnarError(.unsupported, "big-endian Arrow data")
        }
        var budget = ArrowLimits.fieldsMax
        let fields = try table.tables(1).map { try ArrowField($0, depth: 0, budget: &budget) }
        self.init(fields: fields, metadata: try ArrowMetadata.list(table, slot: 2))
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
    fileprivate init(_ table: FlatTable, depth: Int, budget: inout Int) throws {
        budget -= 1
        guard depth <= ArrowLimits.depthMax, budget >= 0 else {
            throw ColumnarError(.invalidArrow, "the schema is nested too deeply or too large")
        }
        guard try table.table(4) == nil else { throw ColumnarError(.unsupported, "Arrow dictionaries") }
        var children: [ArrowField] = []
        for child in try table.tables(5) { children.append(try ArrowField(child, depth: depth + 1, budget: &budget)) }
        let number = try table.integer(2, default: UInt8(0))
        guard let type = try table.table(3) else { throw FlatBufferReader.malformed }
        self.init(
            try table.string(0) ?? "",
            try ArrowType(number: number, table: type, children: children),
            nullable: try table.bool(1),
            metadata: try ArrowMetadata.list(table, slot: 6)
        )
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
