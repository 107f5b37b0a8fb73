internal import HTTPTypes
internal import NIOCore
internal import Primitives
internal import Transport

/// etcd's gRPC API, spoken by hand over the same HTTP/2 client that drives our own nodes.
///
/// - Source: etcd `api/etcdserverpb/rpc.proto`, gRPC over HTTP2 (length-prefixed messages, `grpc-status`).
enum Etcd {
    /// `PutRequest{key = 1, value = 2}`, framed.
    static func putRequest(key: [UInt8], value: [UInt8]) -> ByteBuffer {
        var message = ByteBuffer()
        message.writeField(1, key)
        message.writeField(2, value)
        return self.frame(message)
    }

    /// The endpoint of the leader: the member whose id its own `StatusResponse` names as leader.
    static func leader(of endpoints: [Endpoint], connections: Connections) async throws -> Endpoint {
        for endpoint in endpoints {
            let answer = try await self.call(
                "/etcdserverpb.Maintenance/Status",
                self.frame(ByteBuffer()),
                connections.pick(0, to: endpoint)
            )
            // StatusResponse{header = 1 {member_id = 2}, leader = 4}
            let fields = try ProtobufFields(answer)
            let header = try ProtobufFields(fields.bytes[1] ?? [])
            if let leader = fields.numbers[4], leader != 0, leader == header.numbers[2] { return endpoint }
        }
        throw BenchError(.unexpectedAnswer, "no member of etcd says that it leads")
    }

    /// Calls a unary method and returns its response's message.
    static func call(
        _ path: String,
        _ frame: ByteBuffer,
        _ target: (endpoint: Endpoint, connection: HTTPClientConnection)
    ) async throws -> [UInt8] {
        let head = HTTPRequest(
            method: .post,
            scheme: "https",
            authority: target.endpoint.authority,
            path: path,
            headerFields: Self.headerFields
        )
        let answer = try await target.connection.exchange(head, body: .bytes(frame))
        let status = answer.trailers?[Self.grpcStatus] ?? answer.head.headerFields[Self.grpcStatus]
        guard answer.head.status == .ok, status == "0" else {
            throw BenchError(.refused, "etcd: status \(answer.head.status.code), grpc-status \(status ?? "absent")")
        }
        var body = answer.body
        guard body.readInteger(as: UInt8.self) == 0, let length = body.readInteger(as: UInt32.self),
            let message = body.readBytes(length: Int(length)), body.readableBytes == 0
        else { throw BenchError(.unexpectedAnswer, "etcd: the answer is not one uncompressed gRPC message") }
        return message
    }

    private static let grpcStatus = HTTPField.Name("grpc-status")!
    private static let headerFields: HTTPFields = {
        var fields = HTTPFields()
        fields[.contentType] = "application/grpc"
        fields[.te] = "trailers"
        return fields
    }()

    private static func frame(_ message: ByteBuffer) -> ByteBuffer {
        var frame = ByteBuffer()
        frame.writeInteger(UInt8(0))
        frame.writeInteger(UInt32(message.readableBytes))
        frame.writeImmutableBuffer(message)
        return frame
    }
}

/// Puts of one size into random keys, all on the leader.
struct EtcdPuts: Workload {
    let connections: Connections
    let leader: Endpoint
    let value: [UInt8]
    /// The key space, as etcd's own benchmark has one.
    let keysCount = 100_000

    func perform(client: Int, iteration: Int) async throws -> Int {
        var generator = SeededGenerator(seed: UInt64(client) << 32 | UInt64(iteration))
        let key = Array("bench/\(Int.random(in: 0..<self.keysCount, using: &generator) + 1_000_000)".utf8)
        let frame = Etcd.putRequest(key: key, value: self.value)
        _ = try await Etcd.call(
            "/etcdserverpb.KV/Put",
            frame,
            self.connections.pick(client, to: self.leader)
        )
        return 1
    }
}

extension ByteBuffer {
    fileprivate mutating func writeField(_ number: UInt8, _ bytes: [UInt8]) {
        self.writeInteger(number << 3 | 2)
        self.writeVarint(UInt64(bytes.count))
        self.writeBytes(bytes)
    }

    fileprivate mutating func writeVarint(_ value: UInt64) {
        var rest = value
        while rest >= 0x80 {
            self.writeInteger(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        self.writeInteger(UInt8(rest))
    }
}

/// The numbers and length-delimited fields of a protocol buffers message; the last of each number counts.
struct ProtobufFields {
    private(set) var numbers: [UInt64: UInt64] = [:]
    private(set) var bytes: [UInt64: [UInt8]] = [:]

    init(_ message: [UInt8]) throws {
        var rest = message[...]
        while !rest.isEmpty {
            let tag = try Self.varint(&rest)
            switch tag & 7 {
            case 0: self.numbers[tag >> 3] = try Self.varint(&rest)
            case 1: rest = rest.dropFirst(8)
            case 2:
                let length = try Self.varint(&rest)
                guard length <= rest.count else { throw BenchError(.unexpectedAnswer, "a message is cut short") }
                self.bytes[tag >> 3] = Array(rest.prefix(Int(length)))
                rest = rest.dropFirst(Int(length))
            case 5: rest = rest.dropFirst(4)
            default: throw BenchError(.unexpectedAnswer, "a message has an unknown wire type")
            }
        }
    }

    private static func varint(_ rest: inout ArraySlice<UInt8>) throws -> UInt64 {
        var value: UInt64 = 0
        for shift in stride(from: UInt64(0), to: 64, by: 7) {
            guard let byte = rest.popFirst() else { break }
            value |= UInt64(byte & 0x7F) << shift
            if byte < 0x80 { return value }
        }
        throw BenchError(.unexpectedAnswer, "a number in a message is malformed")
    }
}
