internal import Columnar
internal import Crypto
internal import Foundation
internal import HTTPTypes
internal import NIOCore
internal import Primitives
internal import QueryRouter
internal import Testing

@testable internal import NodeRuntime
@testable internal import Transport

@Suite("Manifests of answers", .timeLimit(.minutes(10)))
struct QueriesManifestTests {
    private static func answer(_ id: String, statement: String = "select 1", provenance: String) -> QueryAnswer {
        QueryAnswer(
            request: QueryRequest(sql: statement, organizations: []),
            caller: QueryCaller(token: "t-1", name: "reader", channel: .rest, requestID: id, seesReserved: false),
            format: .csv,
            at: Timestamp(microseconds: 0),
            plan: .partial,
            provenance: provenance,
            rows: RowCounter()
        )
    }

    /// What follows the body of an answer with three bytes.
    private static func trailer(_ manifests: QueryManifests, _ answer: QueryAnswer) async throws -> [String: Any] {
        let response = manifests.noting(
            answer,
            ServerResponse(
                status: .ok,
                body: .stream { writer in
                    try await writer.write(ByteBuffer(string: "n\n1"))
                    return nil
                }
            )
        )
        guard case .stream(let produce) = response.body else {
            Issue.record("no stream")
            return [:]
        }
        let fields = try await produce(ResponseBodyWriter(pipe: OutboundBody(bytesMax: 100) {}))
        let text = try #require(fields?[.queryManifest])
        #expect(text.utf8.count <= QueryManifests.trailerBytesMax)
        return try Self.object(Array(text.utf8))
    }

    private static func object(_ json: [UInt8]) throws -> [String: Any] {
        try #require(try JSONSerialization.jsonObject(with: Data(json)) as? [String: Any])
    }

    @Test func aShortOneFollowsTheBody() async throws {
        let manifests = QueryManifests()
        let trailer = try await Self.trailer(manifests, Self.answer("r-1", provenance: "[]"))
        #expect(trailer["statement"] as? String == "select 1")
        #expect(trailer["bytes"] as? Int == 3)
        #expect(trailer["whole"] == nil)
        let kept = try Self.object(try #require(manifests.manifest(of: "r-1", for: "t-1")))
        #expect(kept["sha256"] as? String == trailer["sha256"] as? String)
    }

    /// Of many organizations, or with a long statement, it would be longer than clients take.
    @Test(arguments: [true, false])
    func aLongOneIsAskedForAndTheTrailerTellsTheBytes(isStatement: Bool) async throws {
        let manifests = QueryManifests()
        let provenance = (1...200).map { #"{"organization":"lab-\#($0)","sequence":1}"# }.joined(separator: ",")
        let answer =
            isStatement
            ? Self.answer("r-1", statement: String(repeating: "x", count: 60_000), provenance: "[]")
            : Self.answer("r-1", provenance: "[\(provenance)]")
        let trailer = try await Self.trailer(manifests, answer)
        #expect(trailer["bytes"] as? Int == 3)
        #expect(trailer["sha256"] as? String == Hex.encode(Array(SHA256.hash(data: Data("n\n1".utf8)))))
        #expect(trailer["whole"] as? String == "/v1/queries/r-1/manifest")
        #expect(trailer["statement"] == nil && trailer["provenance"] == nil)
        let kept = try Self.object(try #require(manifests.manifest(of: "r-1", for: "t-1")))
        #expect((kept["provenance"] as? [Any])?.count == (isStatement ? 0 : 200))
        #expect(kept["sha256"] as? String == trailer["sha256"] as? String)
        #expect(manifests.manifest(of: "r-1", for: "t-2") == nil)
    }

    @Test func theOldestGoWhenThereAreTooManyOrTheyAreTooLong() async throws {
        let manifests = QueryManifests()
        for number in 0...QueryManifests.keptMax {
            _ = try await Self.trailer(manifests, Self.answer("r-\(number)", provenance: "[]"))
        }
        #expect(manifests.manifest(of: "r-0", for: nil) == nil)
        #expect(manifests.manifest(of: "r-1", for: nil) != nil)
        let long = String(repeating: "x", count: QueryManifests.keptBytesMax / 2)
        for number in 0..<3 {
            _ = try await Self.trailer(manifests, Self.answer("l-\(number)", statement: long, provenance: "[]"))
        }
        #expect(manifests.manifest(of: "r-1024", for: nil) == nil)
        #expect(manifests.manifest(of: "l-1", for: nil) == nil)
        #expect(manifests.manifest(of: "l-2", for: nil) != nil)
    }
}
