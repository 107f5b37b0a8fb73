internal import Foundation
internal import HTTPTypes
internal import NIOCore
internal import NIOPosix
internal import Primitives
internal import Synchronization
internal import Testing
internal import Transport

@testable internal import NodeRuntime

/// Answers from a list, and remembers what it was asked.
private final class ScriptedRouter: RequestRouter {
    struct Seen: Sendable {
        var path: String
        var key: String?
        var body: [UInt8]
    }

    private let answers: Mutex<[(status: Int, body: String, fields: [(String, String)])]>
    let seen = Mutex<[Seen]>([])

    init(_ answers: [(status: Int, body: String, fields: [(String, String)])]) { self.answers = Mutex(answers) }

    func route(_ head: HTTPRequest, _ connection: ConnectionInfo) -> RoutePlan {
        .collected(bodyBytesMax: 8 << 20) { request, body in
            let key = HTTPField.Name("idempotency-key").flatMap { request.head.headerFields[$0] }
            self.seen.withLock {
                $0.append(Seen(path: request.head.path ?? "", key: key, body: Array(body.readableBytesView)))
            }
            let answer = self.answers.withLock { $0.count > 1 ? $0.removeFirst() : $0[0] }
            var fields = HTTPFields()
            for (name, value) in answer.fields { HTTPField.Name(name).map { fields[$0] = value } }
            return ServerResponse(
                status: .init(code: answer.status),
                headerFields: fields,
                body: .bytes(ByteBuffer(string: answer.body))
            )
        }
    }
}

@Suite("The client goes on when nodes fail", .timeLimit(.minutes(10)))
struct ClientFailoverTests {
    private static func problem(_ status: Int, _ code: String, line: Int? = nil) -> (Int, String, [(String, String)]) {
        let place = line.map { ",\"line\":\($0)" } ?? ""
        let detail = line.map { "line \($0), column 4: d" } ?? "d"
        let head = "{\"status\":\(status),\"code\":\"\(code)\",\"detail\":\"\(detail)\""
        return (status, "\(head),\"request_id\":\"r\"\(place)}", [])
    }

    /// Runs `body` with a client of a closed port and of a server that gives `answers`.
    private func withClient(
        _ answers: [(Int, String, [(String, String)])],
        _ body: (ClusterClient, ScriptedRouter, String) async throws -> Void
    ) async throws {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("client-\(UUID().uuidString)").path
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let pki = PKIFolder(path: folder)
        try pki.initialize(cluster: "demo", days: 2, now: SystemTime.now(), replacing: false)
        try pki.issueNode(NodeID(1), hosts: ["127.0.0.1"], days: 1, now: SystemTime.now(), replacing: false)
        let router = ScriptedRouter(answers.map { (status: $0.0, body: $0.1, fields: $0.2) })
        let tls = try ReloadableTLSContext(
            server: TLSServerConfiguration(
                certificateChainFile: pki.certificateFile("node-1"),
                privateKeyFile: pki.keyFile("node-1")
            )
        )
        let group = MultiThreadedEventLoopGroup.singleton
        let closed = HTTPServer(host: "127.0.0.1", port: 0, tls: tls, eventLoopGroup: group, router: router)
        let closedPort = try await closed.start()
        await closed.shutdown(graceful: false)
        let server = HTTPServer(host: "127.0.0.1", port: 0, tls: tls, eventLoopGroup: group, router: router)
        let port = try await server.start()
        let client = try ClusterClient(
            context: ClientContext(
                addresses: [.init(host: "127.0.0.1", port: closedPort), .init(host: "127.0.0.1", port: port)],
                caFile: pki.caFile,
                token: "ft_test"
            ),
            connectTimeout: .seconds(50),
            // However busy the machine is, no budget runs out.
            now: { .zero }
        )
        do { try await body(client, router, folder) } catch {
            client.close()
            await server.shutdown(graceful: false)
            throw error
        }
        client.close()
        await server.shutdown(graceful: false)
    }

    @Test func leavesAnAddressThatRefusesAndRepeatsWhatIsUnavailable() async throws {
        try await self.withClient([
            Self.problem(503, "no_leader"), Self.problem(429, "overloaded"), (200, "{\"organizations\":[]}", []),
        ]) { client, router, _ in
            let list = try await client.organizations().list
            #expect(list.isEmpty)
            #expect(router.seen.withLock { $0.count } == 3)
        }
    }

    @Test func doesNotRepeatAPostWithoutAKeyWhoseOutcomeIsUnknown() async throws {
        try await self.withClient([Self.problem(503, "outcome_unknown"), (201, "{}", [])]) { client, router, _ in
            await #expect(throws: ClientError.self) { try await client.createOrganization(key: "lab-a", name: nil) }
            #expect(router.seen.withLock { $0.count } == 1)
        }
    }

    @Test func refusalsComeWithCodeDetailAndRequestID() async throws {
        try await self.withClient([Self.problem(403, "forbidden")]) { client, _, _ in
            let error = await #expect(throws: ClientError.self) { _ = try await client.status() }
            #expect(error?.code == .refused(problem: "forbidden"))
            #expect(error?.message == "forbidden: d (request_id r)")
        }
    }

    private func importing(_ text: String, _ client: ClusterClient, _ folder: String) async throws -> ImportRun.Outcome
    {
        let file = folder + "/events.ndjson"
        try WholeTextFile.write(text, to: file, for: .owner, replacing: true)
        let run = ImportRun(client: client, createsOrganizations: false, timeout: .seconds(20))
        return await run.run(try LineSource(path: file)) { _ in }
    }

    private static func events(_ count: Int) -> String {
        (0..<count).map { "{\"organization\":\"lab-a\",\"action\":\"a\($0)\"}\n" }.joined()
    }

    @Test func importRepeatsABatchUnderTheSameKeyAndCountsWhatWasThere() async throws {
        try await self.withClient([
            (201, "{}", []), Self.problem(503, "outcome_unknown"), (201, "{}", [("idempotency-replayed", "true")]),
        ]) { client, router, folder in
            let outcome = try await self.importing(Self.events(900), client, folder)
            #expect(outcome.failure == nil)
            #expect(outcome.progress.appended == 500)
            #expect(outcome.progress.alreadyThere == 400)
            let seen = router.seen.withLock { $0 }
            #expect(seen.map(\.path) == Array(repeating: "/v1/organizations/lab-a/records", count: 3))
            #expect(seen[1].key == seen[2].key)
            #expect(seen[0].key != seen[1].key)
            #expect(seen[1].body == seen[2].body)
        }
    }

    @Test func importNamesTheLineOfTheFileThatTheClusterRefuses() async throws {
        try await self.withClient([(201, "{}", []), Self.problem(400, "unknown_field", line: 3)]) { client, _, folder in
            let outcome = try await self.importing(Self.events(900), client, folder)
            #expect(outcome.progress.acknowledged == 500)
            let expected = "\(folder)/events.ndjson:503: unknown_field: column 4: d (request_id r)"
            #expect(outcome.failure?.message == expected)
        }
    }

    @Test func importStopsAtALineThatIsNoEventAndKeepsItsCountsTrue() async throws {
        try await self.withClient([(201, "{}", [])]) { client, router, folder in
            let outcome = try await self.importing(Self.events(600) + "nonsense\n", client, folder)
            #expect(outcome.failure?.message.hasPrefix("\(folder)/events.ndjson:601: ") == true)
            #expect(outcome.progress.acknowledged == router.seen.withLock { $0.count } * 500)
        }
    }
}
