internal import AuditLedger
internal import Columnar
internal import Foundation
internal import Primitives
internal import QueryRouter
internal import Shards

/// What a worker is told first.
struct WorkerSettings: Sendable, Equatable {
    /// What a worker is for.
    enum Role: UInt8, Sendable {
        /// Columnar stores of organizations.
        case stores = 1
        /// The query router's engine: parses, binds, gathers.
        case engine = 2
    }

    var role: Role
    /// The only directory that it may open files in.
    var directory: String
    /// Private writable memory that it may have, in bytes; 0: no limit.
    var memoryBytesMax: UInt64 = 0
    /// Whether it gives up the network, other processes and all other files.
    var isSandboxed = true
    /// Buffer memory of one organization's store, in bytes.
    var storeMemoryBytes: Int = 256 << 20
    /// Threads that work on a statement when there is enough to do.
    var statementThreads: Int = 1
    /// Longest time of one statement.
    var timeLimitMilliseconds: Int = 30_000
    /// A store that nobody has used for so long is closed.
    var idleSeconds: Int = 300
    /// Stores that are held open at once.
    var openMax: Int = ColumnarStores.openMaxDefault

    func encoded() -> [UInt8] {
        var writer = ByteWriter()
        writer.write(self.role.rawValue)
        writer.write(prefixed: self.directory)
        writer.write(self.memoryBytesMax)
        writer.write(UInt8(self.isSandboxed ? 1 : 0))
        writer.write(UInt64(self.storeMemoryBytes))
        writer.write(UInt64(self.statementThreads))
        writer.write(UInt64(self.timeLimitMilliseconds))
        writer.write(UInt64(self.idleSeconds))
        writer.write(UInt64(self.openMax))
        return writer.bytes
    }

    static func decode(_ bytes: [UInt8]) throws(MalformedBytes) -> WorkerSettings {
        var reader = ByteReader(bytes)
        guard let role = Role(rawValue: try reader.read(UInt8.self)) else {
            throw MalformedBytes(what: "role of a worker", offset: 0)
        }
        var settings = WorkerSettings(role: role, directory: try reader.readPrefixedText())
        settings.memoryBytesMax = try reader.read(UInt64.self)
        settings.isSandboxed = try reader.read(UInt8.self) == 1
        settings.storeMemoryBytes = Int(clamping: try reader.read(UInt64.self))
        settings.statementThreads = Int(clamping: try reader.read(UInt64.self))
        settings.timeLimitMilliseconds = Int(clamping: try reader.read(UInt64.self))
        settings.idleSeconds = Int(clamping: try reader.read(UInt64.self))
        settings.openMax = Int(clamping: try reader.read(UInt64.self))
        try reader.finish("settings of a worker")
        return settings
    }
}

/// A question to a worker with organizations' stores.
enum WorkerQuestion: Sendable {
    case position(OrganizationID)
    case project(OrganizationID, [StoredRecord], isUrgent: Bool)
    case reset(OrganizationID)
    case query(OrganizationID, StoreQuestion)
    case tables(OrganizationID, isCurrent: Bool)

    private enum Kind: UInt8 {
        case position = 1
        case project = 2
        case reset = 3
        case query = 4
        case tables = 5
    }

    /// - Throws: ``QueryError`` `.invalid` for parameters that cannot be bound.
    func encoded() throws -> [UInt8] {
        switch self {
        case .position(let organization): Self.short(.position, organization)
        case .reset(let organization): Self.short(.reset, organization)
        case .project(let organization, let records, let isUrgent): Self.project(organization, records, isUrgent)
        case .query(let organization, let question):
            try Self.query(organization, question)
        case .tables(let organization, let isCurrent): Self.tables(organization, isCurrent)
        }
    }

    private static func query(_ organization: OrganizationID, _ question: StoreQuestion) throws -> [UInt8] {
        var writer = self.start(.query, organization)
        try question.write(to: &writer)
        return writer.bytes
    }

    private static func tables(_ organization: OrganizationID, _ isCurrent: Bool) -> [UInt8] {
        var writer = self.start(.tables, organization)
        writer.write(UInt8(isCurrent ? 1 : 0))
        return writer.bytes
    }

    private static func start(_ kind: Kind, _ organization: OrganizationID, capacity: Int = 64) -> ByteWriter {
        var writer = ByteWriter(capacity: capacity)
        writer.write(kind.rawValue)
        writer.write(organization.rawValue)
        return writer
    }

    private static func short(_ kind: Kind, _ organization: OrganizationID) -> [UInt8] {
        self.start(kind, organization).bytes
    }

    private static func project(
        _ organization: OrganizationID,
        _ records: [StoredRecord],
        _ isUrgent: Bool
    ) -> [UInt8] {
        let size = records.reduce(64) { $0 + $1.bytes.count + 12 }
        var writer = self.start(.project, organization, capacity: size)
        writer.write(UInt8(isUrgent ? 1 : 0))
        writer.write(UInt32(records.count))
        for record in records {
            writer.write(record.sequence.rawValue)
            writer.write(prefixed: record.bytes)
        }
        return writer.bytes
    }

    static func decode(_ bytes: [UInt8]) throws -> WorkerQuestion {
        var reader = ByteReader(bytes)
        let kind = Kind(rawValue: try reader.read(UInt8.self))
        let organization = OrganizationID(try reader.read())
        let question: WorkerQuestion
        switch kind {
        case .position: question = .position(organization)
        case .reset: question = .reset(organization)
        case .project:
            let isUrgent = try reader.read(UInt8.self) == 1
            let count = try reader.read(UInt32.self)
            var records: [StoredRecord] = []
            records.reserveCapacity(min(Int(count), reader.remaining / 12))
            for _ in 0..<count {
                let sequence = SequenceNumber(try reader.read(UInt64.self))
                records.append(StoredRecord(sequence: sequence, bytes: Array(try reader.readPrefixed())))
            }
            question = .project(organization, records, isUrgent: isUrgent)
        case .query: question = .query(organization, try StoreQuestion(from: &reader))
        case .tables: question = .tables(organization, isCurrent: try reader.read(UInt8.self) == 1)
        case nil: throw MalformedBytes(what: "question", offset: 0)
        }
        try reader.finish("question")
        return question
    }
}

extension StoreQuestion {
    func write(to writer: inout ByteWriter) throws {
        writer.write(prefixed: self.statement.sql)
        writer.write(origin: self.statement.origin)
        writer.write(UInt8(self.statement.delivery == .whole ? 1 : 0))
        writer.write(prefixed: try WireParameters.encode(self.statement.parameters))
        switch self.statement.asOf {
        case nil: writer.write(UInt8(0))
        case .time(let time):
            writer.write(UInt8(1))
            writer.write(time.rawValue)
        case .sequence(let sequence):
            writer.write(UInt8(2))
            writer.write(sequence.rawValue)
        }
        writer.write(prefixed: self.statement.texts?.encoded() ?? [])
        writer.write(limits: self.limits)
    }

    init(from reader: inout ByteReader) throws {
        var statement = ShardStatement(sql: try reader.readPrefixedText())
        statement.origin = try reader.readOrigin()
        statement.delivery = try reader.read(UInt8.self) == 1 ? .whole : .streamed
        statement.parameters = try WireParameters.decode(Data(try reader.readPrefixed()))
        switch try reader.read(UInt8.self) {
        case 0: statement.asOf = nil
        case 1: statement.asOf = .time(Timestamp(microseconds: try reader.read(Int64.self)))
        case 2: statement.asOf = .sequence(SequenceNumber(try reader.read(UInt64.self)))
        default: throw MalformedBytes(what: "moment", offset: reader.offset)
        }
        let texts = Array(try reader.readPrefixed())
        if !texts.isEmpty { statement.texts = try TextSearch(encoded: texts) }
        self.init(statement, limits: try reader.readLimits())
    }
}

extension ByteWriter {
    mutating func write(origin: StatementOrigin) { self.write(UInt8(origin == .router ? 1 : 0)) }

    mutating func write(limits: QueryLimits) {
        self.write(limits.timeLimit?.milliseconds ?? -1)
        self.write(UInt64(limits.rowsMax))
        self.write(UInt64(limits.bytesMax))
        self.write(UInt64(limits.batchBytesTarget))
        self.write(UInt32(limits.hidden.count))
        for hidden in limits.hidden {
            self.write(prefixed: hidden.table)
            self.write(prefixed: hidden.condition)
        }
    }
}

extension ByteReader {
    mutating func readOrigin() throws(MalformedBytes) -> StatementOrigin {
        try self.read(UInt8.self) == 1 ? .router : .user
    }

    mutating func readLimits() throws(MalformedBytes) -> QueryLimits {
        let milliseconds = try self.read(Int64.self)
        var limits = QueryLimits(timeLimit: milliseconds < 0 ? nil : .milliseconds(milliseconds))
        limits.rowsMax = Int(clamping: try self.read(UInt64.self))
        limits.bytesMax = Int(clamping: try self.read(UInt64.self))
        limits.batchBytesTarget = Int(clamping: try self.read(UInt64.self))
        for _ in 0..<(try self.read(UInt32.self)) {
            let table = try self.readPrefixedText()
            limits.hidden.append(HiddenRows(table: table, condition: try self.readPrefixedText()))
        }
        return limits
    }
}

/// The first part of a result.
struct WorkerResultHead: Sendable {
    let position: UInt64
    /// The opening of the Arrow stream whose other messages follow.
    let schemaMessage: [UInt8]

    func encoded() -> [UInt8] {
        var writer = ByteWriter()
        writer.write(self.position)
        writer.write(prefixed: self.schemaMessage)
        return writer.bytes
    }

    static func decode(_ bytes: [UInt8]) throws(MalformedBytes) -> WorkerResultHead {
        var reader = ByteReader(bytes)
        let head = WorkerResultHead(
            position: try reader.read(UInt64.self),
            schemaMessage: Array(try reader.readPrefixed())
        )
        try reader.finish("head of a result")
        return head
    }
}

/// A whole result whose rows are few.
struct WorkerShortAnswer: Sendable {
    let head: WorkerResultHead
    /// The messages after the opening, with the end.
    let stream: [UInt8]

    func encoded() -> [UInt8] {
        let head = self.head.encoded()
        var writer = ByteWriter(capacity: head.count + self.stream.count + 8)
        writer.write(prefixed: head)
        writer.write(prefixed: self.stream)
        return writer.bytes
    }

    /// The head as ``WorkerResultHead`` reads it, and the stream.
    static func decode(_ bytes: [UInt8]) throws(MalformedBytes) -> (head: [UInt8], stream: [UInt8]) {
        var reader = ByteReader(bytes)
        let head = Array(try reader.readPrefixed())
        let stream = Array(try reader.readPrefixed())
        try reader.finish("short answer")
        return (head, stream)
    }
}

/// Why a worker could not answer, as it travels.
enum WorkerFailure {
    /// The longest message; a statement's own text may be in it.
    private static let messageBytesMax = 16 << 10

    static func encode(_ error: any Error) -> [UInt8] {
        let error =
            error as? ColumnarError
            ?? (error is CancellationError
                ? ColumnarError(.cancelled, "the query was cancelled")
                : ColumnarError(.internalFailure, errorChain(error)))
        var writer = ByteWriter()
        writer.write(prefixed: error.code.rawValue)
        writer.write(prefixed: String(decoding: error.message.utf8.prefix(Self.messageBytesMax), as: UTF8.self))
        writer.write(Int64(error.position ?? -1))
        return writer.bytes
    }

    static func decode(_ bytes: [UInt8]) -> ColumnarError {
        do {
            var reader = ByteReader(bytes)
            let code = ColumnarError.Code(rawValue: try reader.readPrefixedText())
            let message = try reader.readPrefixedText()
            let position = try reader.read(Int64.self)
            try reader.finish("failure")
            return ColumnarError(
                code ?? .internalFailure,
                message,
                position: position < 0 ? nil : Int(position)
            )
        } catch {
            return ColumnarError(.internalFailure, "a worker's failure cannot be read", cause: error)
        }
    }
}
