package import HTTPTypes

/// How a call over gRPC ended.
///
/// - Source: gRPC, «gRPC over HTTP2», sections Responses and Status
package struct GRPCStatus: Error, Sendable, Hashable, CustomStringConvertible {
    /// The protocol's codes.
    package enum Code: Int, Sendable, CaseIterable {
        case ok = 0
        case cancelled = 1
        case unknown = 2
        case invalidArgument = 3
        case deadlineExceeded = 4
        case notFound = 5
        case alreadyExists = 6
        case permissionDenied = 7
        case resourceExhausted = 8
        case failedPrecondition = 9
        case aborted = 10
        case outOfRange = 11
        case unimplemented = 12
        case `internal` = 13
        case unavailable = 14
        case dataLoss = 15
        case unauthenticated = 16
    }

    /// Most bytes of a message, so that it fits the header limits of every client.
    package static let messageBytesMax = 4096

    /// The code.
    package let code: Code
    /// For people; empty for `ok`.
    package let message: String

    /// Describes the end of a call.
    package init(_ code: Code, _ message: String = "") {
        self.code = code
        self.message = message
    }

    /// The call succeeded.
    package static let ok = GRPCStatus(.ok)

    package var description: String { self.message.isEmpty ? "\(self.code)" : "\(self.code): \(self.message)" }

    private static let statusName = HTTPField.Name(parsed: "grpc-status")
    private static let messageName = HTTPField.Name(parsed: "grpc-message")

    /// The fields that tell the client, as trailers or in the only head of an answer without messages.
    package var fields: HTTPFields {
        var fields = HTTPFields()
        if let name = Self.statusName { fields[name] = String(self.code.rawValue) }
        if let name = Self.messageName, !self.message.isEmpty { fields[name] = Self.escaped(self.message) }
        return fields
    }

    /// Percent-encodes everything but visible ASCII and the space; what is too long is cut between characters.
    static func escaped(_ message: String) -> String {
        var result: [UInt8] = []
        let digits = Array("0123456789ABCDEF".utf8)
        for character in message.unicodeScalars {
            var part: [UInt8] = []
            for byte in UTF8.encode(character) ?? UTF8.EncodedScalar() {
                if (0x20...0x7E).contains(byte), byte != UInt8(ascii: "%") {
                    part.append(byte)
                } else {
                    part += [UInt8(ascii: "%"), digits[Int(byte >> 4)], digits[Int(byte & 15)]]
                }
            }
            guard result.count + part.count <= Self.messageBytesMax else { break }
            result += part
        }
        return String(decoding: result, as: UTF8.self)
    }

    /// The time that a `grpc-timeout` field grants; nil when it is malformed.
    package static func timeout(_ field: String) -> Duration? {
        let digitsMax = 8
        guard let unit = field.utf8.last, let count = Int64(field.dropLast()), count >= 0,
            field.utf8.count - 1 <= digitsMax, field.utf8.dropLast().allSatisfy({ (0x30...0x39).contains($0) })
        else { return nil }
        switch unit {
        case UInt8(ascii: "H"): return .seconds(count * 3_600)
        case UInt8(ascii: "M"): return .seconds(count * 60)
        case UInt8(ascii: "S"): return .seconds(count)
        case UInt8(ascii: "m"): return .milliseconds(count)
        case UInt8(ascii: "u"): return .microseconds(count)
        case UInt8(ascii: "n"): return .nanoseconds(count)
        default: return nil
        }
    }
}
