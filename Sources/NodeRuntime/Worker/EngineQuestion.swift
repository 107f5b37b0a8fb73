internal import Columnar
internal import Foundation
internal import Primitives
internal import QueryRouter

/// A question to the worker that is the query router's engine (``QueryEngine``).
enum EngineQuestion: Sendable {
    case syntaxTree(String)
    case sql(tree: String)
    case describe(String, EngineSchema, StatementOrigin)
    case openScratch(ScratchSettings)
    case define(scratch: UInt64, String)
    /// Batches of one schema as an Arrow stream.
    case append(scratch: UInt64, table: String, [UInt8])
    case query(scratch: UInt64, StoreQuestion)
    case describeScratch(UInt64, String, StatementOrigin)
    case closeScratch(UInt64)
    /// A statement over few rows of a table that the settings' definition makes, as Arrow streams.
    case answer(ScratchSettings, table: String, [[UInt8]], StoreQuestion)

    /// Apart from the kinds of ``WorkerQuestion``.
    private enum Kind: UInt8 {
        case syntaxTree = 33
        case sql = 34
        case describe = 35
        case openScratch = 36
        case define = 37
        case append = 38
        case query = 39
        case describeScratch = 40
        case closeScratch = 41
        case answer = 42
    }

    func encoded() throws -> [UInt8] {
        var writer = ByteWriter()
        func begin(_ kind: Kind) { writer.write(kind.rawValue) }
        switch self {
        case .syntaxTree(let sql):
            begin(.syntaxTree)
            writer.write(prefixed: sql)
        case .sql(let tree):
            begin(.sql)
            writer.write(prefixed: tree)
        case .describe(let sql, let schema, let origin):
            begin(.describe)
            writer.write(prefixed: sql)
            writer.write(origin: origin)
            writer.write(UInt32(schema.definitions.count))
            for definition in schema.definitions { writer.write(prefixed: definition) }
        case .openScratch(let settings):
            begin(.openScratch)
            writer.write(settings: settings)
        case .define(let scratch, let sql):
            begin(.define)
            writer.write(scratch)
            writer.write(prefixed: sql)
        case .append(let scratch, let table, let stream):
            writer = ByteWriter(capacity: stream.count + table.utf8.count + 64)
            begin(.append)
            writer.write(scratch)
            writer.write(prefixed: table)
            writer.write(prefixed: stream)
        case .query(let scratch, let question):
            begin(.query)
            writer.write(scratch)
            try question.write(to: &writer)
        case .describeScratch(let scratch, let sql, let origin):
            begin(.describeScratch)
            writer.write(scratch)
            writer.write(prefixed: sql)
            writer.write(origin: origin)
        case .closeScratch(let scratch):
            begin(.closeScratch)
            writer.write(scratch)
        case .answer(let settings, let table, let streams, let question):
            writer = ByteWriter(capacity: streams.reduce(1_024) { $0 + $1.count + 8 })
            begin(.answer)
            writer.write(settings: settings)
            writer.write(prefixed: table)
            writer.write(UInt32(streams.count))
            for stream in streams { writer.write(prefixed: stream) }
            try question.write(to: &writer)
        }
        return writer.bytes
    }

    /// Whether `bytes` are a question to an engine.
    static func isOne(_ bytes: [UInt8]) -> Bool { bytes.first.flatMap(Kind.init(rawValue:)) != nil }

    static func decode(_ bytes: [UInt8]) throws -> EngineQuestion {
        var reader = ByteReader(bytes)
        guard let kind = Kind(rawValue: try reader.read(UInt8.self)) else {
            throw MalformedBytes(what: "question", offset: 0)
        }
        let question = try self.read(kind, &reader)
        try reader.finish("question")
        return question
    }

    private static func read(_ kind: Kind, _ reader: inout ByteReader) throws -> EngineQuestion {
        switch kind {
        case .syntaxTree: return .syntaxTree(try reader.readPrefixedText())
        case .sql: return .sql(tree: try reader.readPrefixedText())
        case .describe:
            let sql = try reader.readPrefixedText()
            let origin = try reader.readOrigin()
            var definitions: [String] = []
            for _ in 0..<(try reader.read(UInt32.self)) { definitions.append(try reader.readPrefixedText()) }
            return .describe(sql, EngineSchema(definitions: definitions), origin)
        case .openScratch:
            return .openScratch(try reader.readScratchSettings())
        case .define: return .define(scratch: try reader.read(UInt64.self), try reader.readPrefixedText())
        case .append:
            let scratch = try reader.read(UInt64.self)
            let table = try reader.readPrefixedText()
            return .append(scratch: scratch, table: table, Array(try reader.readPrefixed()))
        case .query:
            return .query(scratch: try reader.read(UInt64.self), try StoreQuestion(from: &reader))
        case .describeScratch:
            let scratch = try reader.read(UInt64.self)
            let sql = try reader.readPrefixedText()
            return .describeScratch(scratch, sql, try reader.readOrigin())
        case .closeScratch: return .closeScratch(try reader.read(UInt64.self))
        case .answer:
            let settings = try reader.readScratchSettings()
            let table = try reader.readPrefixedText()
            var streams: [[UInt8]] = []
            for _ in 0..<(try reader.read(UInt32.self)) { streams.append(Array(try reader.readPrefixed())) }
            return .answer(settings, table: table, streams, try StoreQuestion(from: &reader))
        }
    }
}

extension ByteWriter {
    fileprivate mutating func write(settings: ScratchSettings) {
        self.write(Int64(settings.memoryBytesMax ?? -1))
        self.write(settings.timeLimit.milliseconds)
        self.write(UInt8(settings.schema == nil ? 0 : 1))
        let definitions = settings.schema?.definitions ?? []
        self.write(UInt32(definitions.count))
        for definition in definitions { self.write(prefixed: definition) }
        self.write(prefixed: settings.definition)
    }
}

extension ByteReader {
    fileprivate mutating func readScratchSettings() throws(MalformedBytes) -> ScratchSettings {
        let memory = try self.read(Int64.self)
        let milliseconds = try self.read(Int64.self)
        let hasSchema = try self.read(UInt8.self) != 0
        var definitions: [String] = []
        for _ in 0..<(try self.read(UInt32.self)) { definitions.append(try self.readPrefixedText()) }
        return ScratchSettings(
            memoryBytesMax: memory < 0 ? nil : Int(memory),
            timeLimit: .milliseconds(milliseconds),
            schema: hasSchema ? EngineSchema(definitions: definitions) : nil,
            definition: try self.readPrefixedText()
        )
    }
}

/// A statement's description as it travels: its columns and its parameters, each as an Arrow schema.
enum WireDescription {
    static func encode(_ description: StatementDescription) -> [UInt8] {
        let parameters = ArrowSchema(
            fields: description.parameterTypes.enumerated().map { ArrowField("\($0.offset + 1)", $0.element) }
        )
        var writer = ByteWriter()
        for schema in [description.schema, parameters] {
            writer.write(prefixed: ArrowStreamEncoder(schema: schema).schemaMessage())
        }
        return writer.bytes
    }

    static func decode(_ bytes: [UInt8]) throws -> StatementDescription {
        var reader = ByteReader(bytes)
        let schema = try self.schema(reader.readPrefixed())
        let parameters = try self.schema(reader.readPrefixed())
        try reader.finish("description of a statement")
        return StatementDescription(schema: schema, parameterTypes: parameters.fields.map(\.type))
    }

    private static func schema(_ bytes: ArraySlice<UInt8>) throws -> ArrowSchema {
        var decoder = ArrowStreamDecoder()
        _ = try decoder.feed(bytes)
        guard let schema = decoder.schema else { throw MalformedBytes(what: "schema", offset: 0) }
        return schema
    }
}
