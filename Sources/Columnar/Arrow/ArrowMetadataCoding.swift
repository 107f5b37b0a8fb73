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
    static let union: UInt8 = 14
    static let fixedSizeBinary: UInt8 = 15
    static let fixedSizeList: UInt8 = 16
    static let map: UInt8 = 17
    static let largeBinary: UInt8 = 19
    static let largeUTF8: UInt8 = 20
    static let largeList: UInt8 = 21
    static let binaryView: UInt8 = 23
    static let utf8View: UInt8 = 24
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
        case .denseUnion: return plain(ArrowWire.union) { $0.add(0, Int16(1), default: 0) }
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
    var compression: ArrowCompression?
    /// Length and null count of each column and child, parents first.
    var nodes: [(Int64, Int64)] = []
    /// Offset and length of each buffer in the body.
    var buffers: [(Int64, Int64)] = []
    /// How many data buffers each view column has.
    var variadicCounts: [Int64] = []
    var bodyBytes = 0

    func encoded() -> [UInt8] {
        var builder = FlatBufferBuilder()
        let buffers = builder.vector(ofPairs: self.buffers)
        let nodes = builder.vector(ofPairs: self.nodes)
        var compression: FlatBufferBuilder.Offset?
        if let codec = self.compression {
            builder.startTable()
            builder.add(0, codec.wireNumber, default: 0)
            compression = builder.endTable()
        }
        builder.startTable()
        builder.add(0, Int64(self.rows), default: 0)
        builder.add(1, reference: nodes)
        builder.add(2, reference: buffers)
        builder.add(3, reference: compression)
        let batch = builder.endTable()
        return builder.message(header: batch, type: ArrowWire.recordBatchMessage, bodyLength: self.bodyBytes)
    }
}
