internal import Foundation
internal import NIOCore
internal import SwiftProtobuf
internal import Transport

/// What a descriptor or ticket asks for.
enum FlightCommand: Sendable {
    case statement(String)
    case prepared([UInt8])
    /// A result that is held for its reader.
    case result([UInt8])
    case catalogue(CatalogueCommand)
    case update
    case preparedUpdate([UInt8])
    case ingest(FlightSQLCommandStatementIngest)
}

/// Questions about what there is.
enum CatalogueCommand: Sendable {
    case sqlInfo([UInt32])
    case typeInfo(Int32?)
    case catalogs
    case schemas(FlightSQLCommandGetDbSchemas)
    case tables(FlightSQLCommandGetTables)
    case tableTypes
    case primaryKeys
    case foreignKeys
}

extension FlightCommand {
    /// Reads a command as clients send it: a message of Flight SQL in a `google.protobuf.Any`.
    /// - Throws: ``GRPCStatus`` `.invalidArgument` or `.unimplemented`.
    init(_ bytes: Data) throws(GRPCStatus) {
        let invalid = GRPCStatus(.invalidArgument, "this is no command of Flight SQL")
        guard let any = try? Google_Protobuf_Any(serializedBytes: bytes), let slash = any.typeURL.lastIndex(of: "/")
        else {
            throw invalid
        }
        let package = "arrow.flight.protocol.sql."
        let name = any.typeURL[any.typeURL.index(after: slash)...]
        guard name.hasPrefix(package) else { throw invalid }
        do {
            guard let command = try Self.read(name.dropFirst(package.count), any.value) else {
                throw GRPCStatus(.unimplemented, "\(name.dropFirst(package.count)) is not supported")
            }
            self = command
        } catch let status as GRPCStatus {
            throw status
        } catch {
            throw invalid
        }
    }

    private static func read(_ name: Substring, _ value: Data) throws -> FlightCommand? {
        switch name {
        case "CommandStatementQuery":
            return .statement(try FlightSQLCommandStatementQuery(serializedBytes: value).query)
        case "CommandPreparedStatementQuery":
            return .prepared(
                Array(try FlightSQLCommandPreparedStatementQuery(serializedBytes: value).preparedStatementHandle)
            )
        case "TicketStatementQuery":
            return .result(Array(try FlightSQLTicketStatementQuery(serializedBytes: value).statementHandle))
        case "CommandStatementUpdate":
            _ = try FlightSQLCommandStatementUpdate(serializedBytes: value)
            return .update
        case "CommandPreparedStatementUpdate":
            return .preparedUpdate(
                Array(try FlightSQLCommandPreparedStatementUpdate(serializedBytes: value).preparedStatementHandle)
            )
        case "CommandStatementIngest": return .ingest(try FlightSQLCommandStatementIngest(serializedBytes: value))
        default: return try self.readCatalogue(name, value).map { .catalogue($0) }
        }
    }

    private static func readCatalogue(_ name: Substring, _ value: Data) throws -> CatalogueCommand? {
        switch name {
        case "CommandGetSqlInfo": return .sqlInfo(try FlightSQLCommandGetSqlInfo(serializedBytes: value).info)
        case "CommandGetXdbcTypeInfo":
            let command = try FlightSQLCommandGetXdbcTypeInfo(serializedBytes: value)
            return .typeInfo(command.hasDataType ? command.dataType : nil)
        case "CommandGetCatalogs": return .catalogs
        case "CommandGetDbSchemas": return .schemas(try FlightSQLCommandGetDbSchemas(serializedBytes: value))
        case "CommandGetTables": return .tables(try FlightSQLCommandGetTables(serializedBytes: value))
        case "CommandGetTableTypes": return .tableTypes
        case "CommandGetPrimaryKeys":
            _ = try FlightSQLCommandGetPrimaryKeys(serializedBytes: value)
            return .primaryKeys
        case "CommandGetExportedKeys":
            _ = try FlightSQLCommandGetExportedKeys(serializedBytes: value)
            return .foreignKeys
        case "CommandGetImportedKeys":
            _ = try FlightSQLCommandGetImportedKeys(serializedBytes: value)
            return .foreignKeys
        case "CommandGetCrossReference":
            _ = try FlightSQLCommandGetCrossReference(serializedBytes: value)
            return .foreignKeys
        default: return nil
        }
    }
}

extension SwiftProtobuf.Message {
    /// The message as it goes over gRPC.
    func framed() throws -> ByteBuffer {
        let bytes: [UInt8] = try self.serializedBytes()
        var buffer = ByteBuffer()
        buffer.reserveCapacity(GRPCFrameReader.prefixBytes + bytes.count)
        GRPCFrameReader.writePrefix(length: bytes.count, to: &buffer)
        buffer.writeBytes(bytes)
        return buffer
    }

    /// The message in a `google.protobuf.Any`.
    func wrapped() throws -> Data {
        var any = Google_Protobuf_Any()
        any.typeURL = "type.googleapis.com/" + Self.protoMessageName
        any.value = try self.serializedData()
        return try any.serializedData()
    }

    /// Reads a message out of a `google.protobuf.Any`.
    /// - Throws: ``GRPCStatus`` `.invalidArgument`.
    static func unwrapped(_ bytes: Data) throws(GRPCStatus) -> Self {
        guard let any = try? Google_Protobuf_Any(serializedBytes: bytes),
            any.typeURL.hasSuffix("/" + Self.protoMessageName),
            let message = try? Self(serializedBytes: any.value)
        else { throw GRPCStatus(.invalidArgument, "\(Self.protoMessageName) is wanted") }
        return message
    }

    /// Reads a message as it came over gRPC.
    /// - Throws: ``GRPCStatus`` `.invalidArgument`.
    static func read(_ buffer: ByteBuffer) throws(GRPCStatus) -> Self {
        guard let message = try? Self(serializedBytes: Data(buffer.readableBytesView)) else {
            throw GRPCStatus(.invalidArgument, "a malformed \(Self.protoMessageName)")
        }
        return message
    }
}
