import HTTPTypes
import NIOCore
import Testing

@testable import Transport

@Suite(.timeLimit(.minutes(10)))
struct RoundTripTests {
    @Sendable private static func plan(_ head: HTTPRequest, _ connection: ConnectionInfo) -> RoutePlan {
        switch head.path {
        case "/hello":
            return .immediate(
                ServerResponse(
                    status: .ok,
                    headerFields: [.contentType: "text/plain"],
                    body: .bytes(ByteBuffer(string: "hello over \(connection.applicationProtocol)"))
                )
            )
        case "/count":
            return .collected(bodyBytesMax: 100_000) { request, body in
                ServerResponse(
                    status: .created,
                    body: .bytes(ByteBuffer(string: "\(request.head.method) \(body.readableBytes)"))
                )
            }
        case "/echo":
            return .streaming { request in
                ServerResponse(
                    status: .ok,
                    body: .stream { writer in
                        for try await chunk in request.body { try await writer.write(chunk) }
                        return request.body.trailers
                    }
                )
            }
        default: return .immediate(ServerResponse(status: .notFound))
        }
    }

    @Test func answersFromTheLoop() async throws {
        try await withServer(Self.plan) { server in
            let connection = try await server.connect()
            let response = try await connection.execute(server.request("/hello"))
            #expect(response.head.status == .ok)
            #expect(response.head.headerFields[.contentType] == "text/plain")
            #expect(response.head.headerFields[.contentLength] == "13")
            #expect(String(buffer: try await response.collect(upTo: 100)) == "hello over h2")
            #expect(connection.info.tlsVersion == "TLSv1.3")
            #expect(connection.info.peer?.dnsNames == ["localhost"])
            let missing = try await connection.execute(server.request("/nowhere"))
            #expect(missing.head.status == .notFound)
            connection.close()
        }
    }

    @Test(arguments: [0, 1, 16_384, 99_999, 100_000])
    func collectsABody(bytes: Int) async throws {
        try await withServer(Self.plan) { server in
            let connection = try await server.connect()
            let body = ByteBuffer(repeating: 7, count: bytes)
            let response = try await connection.execute(server.request("/count", .post), body: .bytes(body))
            #expect(response.head.status == .created)
            #expect(String(buffer: try await response.collect(upTo: 100)) == "POST \(bytes)")
        }
    }

    @Test(arguments: [true, false])
    func refusesABodyOverTheLimit(isDeclared: Bool) async throws {
        try await withServer(Self.plan) { server in
            let connection = try await server.connect()
            let body = ByteBuffer(repeating: 7, count: 100_001)
            let source: RequestBodySource =
                isDeclared
                ? .bytes(body)
                : .stream { writer in
                    try await writer.write(body)
                    return nil
                }
            let response = try await connection.execute(server.request("/count", .post), body: source)
            #expect(response.head.status == .contentTooLarge)
            // The connection goes on, and its window has not leaked.
            for _ in 0..<100 {
                let next = try await connection.execute(server.request("/count", .post), body: .bytes(body))
                #expect(next.head.status == .contentTooLarge)
            }
            let small = try await connection.execute(server.request("/count", .post), body: .none)
            #expect(small.head.status == .created)
        }
    }

    @Test func streamsBothWaysWithTrailers() async throws {
        let checksum = try #require(HTTPField.Name("x-checksum"))
        try await withServer(Self.plan) { server in
            let connection = try await server.connect()
            let chunk = ByteBuffer(repeating: 1, count: 50_000)
            let response = try await connection.execute(
                server.request("/echo", .post),
                body: .stream { writer in
                    for _ in 0..<100 { try await writer.write(chunk) }
                    return [checksum: "abc"]
                }
            )
            #expect(response.head.status == .ok)
            let body = try await response.collect(upTo: 5_000_000)
            #expect(body.readableBytes == 5_000_000)
            #expect(response.trailers?[checksum] == "abc")
        }
    }

    @Test func multiplexesManyRequests() async throws {
        try await withServer(Self.plan) { server in
            let connection = try await server.connect()
            try await withThrowingTaskGroup(of: Int.self) { group in
                for index in 0..<1_000 {
                    group.addTask {
                        let body = ByteBuffer(repeating: 2, count: index)
                        let response = try await connection.execute(server.request("/echo", .post), body: .bytes(body))
                        return try await response.collect(upTo: 2_000).readableBytes
                    }
                }
                var sum = 0
                for try await count in group { sum += count }
                #expect(sum == 1_000 * 999 / 2)
            }
        }
    }

    @Test func answersHeadWithoutABody() async throws {
        try await withServer(Self.plan) { server in
            let connection = try await server.connect()
            let response = try await connection.execute(server.request("/hello", .head))
            #expect(response.head.headerFields[.contentLength] == "13")
            #expect(try await response.collect(upTo: 100).readableBytes == 0)
        }
    }
}
