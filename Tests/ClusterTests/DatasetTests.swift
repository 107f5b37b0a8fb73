internal import Foundation
internal import NodeRuntime
internal import Testing

extension RealCluster.Shared {
    @Suite("Entities, history and views of real organizations")
    struct DatasetTests {
        private static let first = "datasets-1"
        private static let second = "datasets-2"

        private static func append(_ cluster: DevCluster, _ key: String, _ members: String) async throws {
            let event = #"{"entity_type":"Growth Chamber",\#(members)}"#
            let reply = try await cluster.send("POST", "/v1/organizations/\(key)/records", body: event)
            try #require(reply.status == 201, "\(reply)")
        }

        /// The rows of an answer, as JSON text, and the sequences that it reflects.
        private static func query(
            _ cluster: DevCluster,
            _ sql: String,
            _ organizations: [String],
            _ members: String = "",
            node: Int = 1
        ) async throws -> (rows: String, sequences: [Int]) {
            struct Answer: Decodable {
                struct Part: Decodable { var sequence: Int }
                var provenance: [Part]
            }
            let names = organizations.map { "\"\($0)\"" }.joined(separator: ",")
            let body = #"{"sql":"\#(sql)","organizations":[\#(names)]\#(members)}"#
            let reply = try await cluster.send("POST", "/v1/query", node: node, body: body)
            try #require(reply.status == 200, "\(reply)")
            let object = try #require(try JSONSerialization.jsonObject(with: Data(reply.body)) as? [String: Any])
            let rows = try JSONSerialization.data(withJSONObject: try #require(object["rows"]))
            return (
                String(decoding: rows, as: UTF8.self), try reply.decode(Answer.self).provenance.map(\.sequence)
            )
        }

        @Test(.timeLimit(.minutes(3)))
        func theyFollowTheRecordsOnEveryNodeAndAtEveryMoment() async throws {
            let cluster = try #require(DevCluster.shared)
            try await cluster.withClient { client in
                for key in [Self.first, Self.second] { _ = try await client.createOrganization(key: key, name: nil) }
            }
            try await Self.append(
                cluster,
                Self.first,
                #""action":"create","entity_id":"c-1","after":{"celsius":21.5,"lit":true,"since":"2026-01-02T03:04:05+01:00"}"#
            )
            try await Self.append(
                cluster,
                Self.second,
                #""action":"create","entity_id":"c-1","after":{"celsius":30}"#
            )
            let first = try await cluster.size(of: Self.first)
            try await Self.append(
                cluster,
                Self.first,
                #""action":"update","entity_id":"c-1","after":{"celsius":"broken"}"#
            )
            let view = "select entity_id, celsius, celsius__v2, lit, strftime(since, '%H:%M') from growth_chamber"
            for node in 1...3 {
                let now = try await Self.query(cluster, view, [Self.first], node: node)
                #expect(now.rows == #"[["c-1",null,"broken",true,"02:04"]]"#, "node \(node)")
                let past = try await Self.query(
                    cluster,
                    "select celsius, celsius__v2 from growth_chamber",
                    [Self.first],
                    ",\"as_of\":\(first)",
                    node: node
                )
                #expect(past.rows == "[[21.5,null]]", "node \(node)")
                #expect(past.sequences == [first], "node \(node)")
                let history = try await Self.query(
                    cluster,
                    "select version, valid_to is null from entity_history where entity_type = 'Growth Chamber' order by 1",
                    [Self.first],
                    node: node
                )
                #expect(history.rows == "[[1,false],[2,true]]", "node \(node)")
            }
            let both = try await Self.query(
                cluster,
                "select organization, celsius from growth_chamber order by organization",
                [Self.first, Self.second]
            )
            #expect(both.rows == #"[["datasets-1",null],["datasets-2",30]]"#)
            let bothPast = try await Self.query(
                cluster,
                "select organization, celsius from growth_chamber order by organization",
                [Self.first, Self.second],
                ",\"as_of\":{\"\(Self.first)\":\(first)}"
            )
            #expect(bothPast.rows == #"[["datasets-1",21.5],["datasets-2",30]]"#)
            let none = try await Self.query(
                cluster,
                "select count(*) from entities",
                [Self.first, Self.second],
                #","as_of":"2020-01-01T00:00:00Z""#
            )
            #expect(none.rows == "[[0]]" && none.sequences == [0, 0])
            let late = try await cluster.send(
                "POST",
                "/v1/query",
                body: #"{"sql":"select 1 from entities","organizations":["datasets-1"],"as_of":999999}"#
            )
            #expect(late.status == 400, "\(late)")
            let verified = try await cluster.ftnode(
                "audit",
                "verify",
                "--level",
                "projections",
                "--org",
                Self.first,
                "--org",
                Self.second
            )
            #expect(verified.ending == .exited(0), "\(verified.output)")
        }
    }
}
