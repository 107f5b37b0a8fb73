internal import AuditLedger
internal import Foundation
internal import HTTPTypes
internal import Laboratory
internal import NIOCore
internal import Primitives
internal import Shards
internal import Storage
internal import Testing
internal import Transport

@testable internal import NodeRuntime

/// What the tests of requests and stores are made of.
enum Fixture {
    static let operatorToken = TokenEntry(
        id: "t-1",
        hash: .zero,
        name: "test",
        grant: Grant(role: .operator),
        createdAt: Timestamp(microseconds: 0)
    )

    static func call(
        _ parameters: [(name: String, value: String)] = [],
        headers: HTTPFields = [:],
        token: TokenEntry = operatorToken
    ) -> APICall {
        APICall(
            id: "r-1",
            head: HTTPRequest(
                method: .get,
                scheme: "https",
                authority: "localhost",
                path: "/",
                headerFields: headers
            ),
            token: token,
            connection: ConnectionInfo(
                remoteAddress: "127.0.0.1:5",
                applicationProtocol: "h2",
                tlsVersion: "TLSv1.3"
            ),
            parameters: parameters
        )
    }

    static func key(_ text: String) throws -> OrganizationKey { try #require(OrganizationKey(text)) }

    static func draft(_ event: String, of key: String = "lab-a") throws -> EventDraft {
        let context = EventContext(
            organization: try self.key(key),
            request: RequestInfo(id: "r-1", ip: "127.0.0.1:5", userAgent: "test", authentication: "bearer"),
            defaultActor: Actor(kind: .apiKey, id: "t-1", name: "scanner", role: "writer")
        )
        return try EventDraft.parse(Array(event.utf8), defaults: context)
    }

    /// The stored records of `events`, with sequences from 1 and one second between them.
    static func records(_ events: [String], organization: OrganizationID) throws -> [StoredRecord] {
        var appender = LedgerAppender(head: LedgerHead(empty: organization))
        var batch = WriteBatch()
        return try events.enumerated().map { place, event in
            let stamp = Timestamp(microseconds: Int64(place + 1) * 1_000_000)
            let record = appender.append(try self.draft(event), stampedAt: stamp, into: &batch)
            return StoredRecord(sequence: record.sequence, bytes: record.bytes)
        }
    }

    static func events(_ count: Int) -> [String] {
        (0..<count).map { #"{"action":"weigh","entity_type":"sample","entity_id":"s-\#($0)"}"# }
    }

    static func text(_ response: ServerResponse) throws -> String {
        guard case .bytes(let buffer) = response.body else {
            Issue.record("the body is not made of bytes")
            return ""
        }
        return String(buffer: buffer)
    }

    /// Runs `body` with a directory that is removed afterwards.
    static func withDirectory<Value>(_ body: (String) async throws -> Value) async throws -> Value {
        let path = FileManager.default.temporaryDirectory.appendingPathComponent("node-\(UUID().uuidString)").path
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: path) }
        return try await body(path)
    }
}
