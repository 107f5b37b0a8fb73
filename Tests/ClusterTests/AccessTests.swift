internal import Foundation
internal import HTTPTypes
internal import NodeRuntime
internal import Testing

extension RealCluster.Shared {
    @Suite("Who may do what, and routes that are not there")
    struct AccessTests {
        static let requests: [BadRequest] = [
            route("an unknown organization", "GET", "/v1/organizations/nowhere", 404, "organization_not_found"),
            route("its records", "GET", "/v1/organizations/nowhere/records", 404, "organization_not_found"),
            route("a key that can be none", "GET", "/v1/organizations/No%20Key", 404, "organization_not_found"),
            route("a record that is not there", "GET", Bench.recordsPath + "/999999", 404, "record_not_found"),
            route("the record 0", "GET", Bench.recordsPath + "/0", 400, "invalid_parameter"),
            route("a record without a number", "GET", Bench.recordsPath + "/last", 400, "invalid_parameter"),
            parameter("nothing=1"), parameter("limit=0"), parameter("limit=1001"), parameter("limit=ten"),
            parameter("limit=5&limit=6"), parameter("cursor=x"), parameter("cursor=0"), parameter("cursor=-1"),
            parameter("from=yesterday"), parameter("to=2026-13-01T00:00:00Z"),
            parameter("from=2026-02-01T00:00:00Z&to=2026-01-01T00:00:00Z"), parameter("order=up"),
            parameter("severity=loud"), parameter("action=%zz"), parameter("action=%ff"), parameter("action=%00"),
            parameter("consistency=strong"),
            route("an unknown route", "GET", "/v1/nothing", 404, "not_found"),
            route("a path outside", "GET", "/nothing", 404, "not_found"),
            route("too long a path", "GET", Bench.recordsPath + "/1/2", 404, "not_found"),
            route("deleting records", "DELETE", Bench.recordsPath, 405, "method_not_allowed"),
            route("replacing a record", "PUT", Bench.recordsPath + "/1", 405, "method_not_allowed"),
            route("posting to the status", "POST", "/v1/cluster", 405, "method_not_allowed"),
            route("a query by GET", "GET", "/v1/query", 405, "method_not_allowed"),
            posted("a key with a space", "/v1/organizations", "{\"key\":\"Bad Key\"}", 400, "invalid_field"),
            posted("a key that is taken", "/v1/organizations", "{\"key\":\"checks\"}", 409, "organization_exists"),
            posted("an organization with more", "/v1/organizations", "{\"key\":\"x\",\"y\":1}", 400, "unknown_field"),
            posted("an unknown role", "/v1/tokens", "{\"role\":\"king\"}", 400, "invalid_field"),
            posted("a reader of nothing", "/v1/tokens", "{\"role\":\"reader\"}", 400, "invalid_field"),
            posted(
                "a reader of nowhere",
                "/v1/tokens",
                "{\"role\":\"reader\",\"organizations\":[\"nowhere\"]}",
                404,
                "organization_not_found"
            ),
            route("revoking no token", "DELETE", "/v1/tokens/none", 404, "token_not_found"),
            posted(
                "verifying nowhere",
                "/v1/audit/verify",
                "{\"organizations\":[\"nowhere\"]}",
                404,
                "organization_not_found"
            ),
            posted("verifying a number", "/v1/audit/verify", "{\"organizations\":5}", 400, "invalid_field"),
            key(String(repeating: "k", count: 201)), key("two words"), key(""),
        ]

        private static func route(
            _ name: String,
            _ method: String,
            _ path: String,
            _ status: Int,
            _ code: String
        ) -> BadRequest { BadRequest(name: name, method: method, path: path, status: status, code: code) }

        private static func parameter(_ query: String) -> BadRequest {
            self.route("the parameters \(query)", "GET", "\(Bench.recordsPath)?\(query)", 400, "invalid_parameter")
        }

        private static func posted(
            _ name: String,
            _ path: String,
            _ body: String,
            _ status: Int,
            _ code: String
        ) -> BadRequest {
            BadRequest(
                name: name,
                method: "POST",
                path: path,
                contentType: "application/json",
                body: Array(body.utf8),
                status: status,
                code: code
            )
        }

        private static func key(_ text: String) -> BadRequest {
            var request = self.posted(
                "the idempotency key \"\(text.prefix(20))\"",
                Bench.recordsPath,
                Bench.event("\"reason\":\"r\""),
                400,
                "invalid_parameter"
            )
            request.idempotencyKey = text
            return request
        }

        @Test(.timeLimit(.minutes(1)), arguments: requests)
        func refusesByName(request: BadRequest) async throws {
            try await request.check(try await Bench.prepare())
        }

        @Test(
            .timeLimit(.minutes(1)),
            arguments: [
                "", "Bearer", "Bearer ", "Bearer ft_0000", "Basic b3BlcmF0b3I6eA==", "bearer\tx", "Bearer a b",
            ]
        )
        func answersNothingWithoutAToken(authorization: String) async throws {
            let bench = try await Bench.prepare()
            let connection = try #require(bench.cluster.connections[2])
            for (method, path) in [
                ("GET", "/v1/organizations"), ("GET", Bench.recordsPath), ("POST", "/v1/query"), ("GET", "/v1/nothing"),
                ("GET", "/metrics"), ("DELETE", "/"),
            ] {
                let reply = try await connection.send(
                    method,
                    path,
                    authorization: authorization.isEmpty ? nil : authorization
                )
                #expect(reply.status == 401, "\(method) \(path): \(reply)")
                #expect(reply.fields[.wwwAuthenticate] == "Bearer")
                try reply.requireProblem("unauthenticated", "\(method) \(path)")
            }
        }

        @Test(.timeLimit(.minutes(1)))
        func hidesOtherOrganizationsAsIfTheyDidNotExist() async throws {
            let bench = try await Bench.prepare()
            let connection = try #require(bench.cluster.connections[1])
            for (method, suffix, body) in [
                ("GET", "", nil), ("GET", "/records", nil), ("GET", "/records/1", nil), ("GET", "/ledger", nil),
                ("POST", "/records", Bench.event("\"reason\":\"r\"")),
            ] as [(String, String, String?)] {
                var texts: Set<String> = []
                for organization in [Bench.hidden, "nowhere"] {
                    let reply = try await connection.send(
                        method,
                        "/v1/organizations/\(organization)\(suffix)",
                        authorization: bench.writer,
                        contentType: body == nil ? nil : "application/json",
                        body: body.map { Array($0.utf8) }
                    )
                    #expect(reply.status == 404, "\(reply)")
                    try reply.requireProblem("organization_not_found", "\(method) \(organization)\(suffix)")
                    let id = try reply.decode(APIConnection.ProblemDocument.self).requestId
                    texts.insert(
                        reply.text.replacingOccurrences(of: organization, with: "KEY")
                            .replacingOccurrences(of: id, with: "ID")
                    )
                }
                #expect(texts.count == 1, "the answers differ: \(texts)")
            }
            let query = try await connection.send(
                "POST",
                "/v1/query",
                authorization: bench.writer,
                contentType: "application/json",
                body: Array("{\"sql\":\"select 1\",\"organizations\":[\"\(Bench.hidden)\"]}".utf8)
            )
            #expect(query.status == 404, "\(query)")
            let list = try await connection.send("GET", "/v1/organizations", authorization: bench.stranger)
            #expect(list.text.contains(Bench.hidden) && !list.text.contains(Bench.organization), "\(list)")
            let all = try await connection.send(
                "POST",
                "/v1/query",
                authorization: bench.stranger,
                contentType: "application/json",
                body: Array("{\"sql\":\"select count(*) from audit_log where action <> 'restricted_attempt'\"}".utf8)
            )
            #expect(try Oracle.rows(all.body) == "[[0]]", "\(all)")
        }

        @Test(.timeLimit(.minutes(1)))
        func keepsRolesApart() async throws {
            let bench = try await Bench.prepare()
            var append = Self.posted(
                "a reader that writes",
                Bench.recordsPath,
                Bench.event("\"reason\":\"r\""),
                403,
                "forbidden"
            )
            try await append.check(bench, authorization: bench.reader)
            append.name = "an auditor that writes"
            try await append.check(bench, authorization: bench.auditor)
            for (path, body) in [
                ("/v1/organizations", "{\"key\":\"mine\"}"), ("/v1/tokens", "{\"role\":\"operator\"}"),
                ("/v1/audit/verify", "{}"),
            ] {
                let request = Self.posted("a writer at \(path)", path, body, 403, "forbidden")
                try await request.check(bench, authorization: bench.writer)
            }
            for path in ["/v1/cluster", "/v1/tokens", "/metrics"] {
                let request = Self.route("an auditor at \(path)", "GET", path, 403, "forbidden")
                try await request.check(bench, authorization: bench.auditor)
            }
        }

        @Test(.timeLimit(.minutes(1)))
        func whoCameInAndWhoLookedIsSeenByThoseWhoOversee() async throws {
            let cluster = try await Bench.prepare().cluster
            let organization = "overseen"
            let path = "/v1/organizations/\(organization)"
            let made = try await cluster.send("POST", "/v1/organizations", body: "{\"key\":\"\(organization)\"}")
            try #require(made.status == 201, "\(made)")
            for (action, id) in [("create", "S-1"), ("login", "jane"), ("download", "S-1"), ("update", "S-1")] {
                let event = Bench.event(
                    "\"action\":\"\(action)\",\"entity_type\":\"sample\",\"entity_id\":\"\(id)\",\"after\":{\"by\":\"\(action)\"}"
                )
                let reply = try await cluster.send("POST", path + "/records", body: event)
                try #require(reply.status == 201, "\(reply)")
            }
            let tokens = try await cluster.withClient { client in
                var tokens: [String: String] = [:]
                for role in ["reader", "writer", "auditor"] {
                    let made = try await client.createToken(role: role, organizations: [organization], name: role)
                    tokens[role] = "Bearer " + (try #require(made.token))
                }
                return tokens
            }
            for node in 1...3 {
                let connection = try #require(cluster.connections[node])
                for (role, token) in tokens {
                    let sees = role == "auditor"
                    func get(_ suffix: String) async throws -> APIConnection.Reply {
                        try await connection.send("GET", path + suffix, authorization: token)
                    }
                    // `consistency` is linearizable, so what was acknowledged is there on every node.
                    for suffix in [
                        "/records", "/records?order=desc", "/records?limit=2", "/records?entity_type=sample",
                        "/investigations/sample-history?entity_id=S-1",
                    ] {
                        let reply = try await get(suffix)
                        #expect(reply.status == 200, "\(reply)")
                        let shows = reply.text.contains("\"login\"") || reply.text.contains("\"download\"")
                        #expect(shows == sees, "node \(node), \(role) at \(suffix): \(reply)")
                    }
                    #expect(try await get("/records/2").status == (sees ? 200 : 403))
                    #expect(try await get("/records/1").status == 200)
                    let history = try await get("/entities")
                    #expect(history.text.contains("S-1") && !history.text.contains("jane"), "\(history)")
                    let query = try await connection.send(
                        "POST",
                        "/v1/query",
                        authorization: token,
                        contentType: "application/json",
                        body: Array(
                            "{\"sql\":\"select string_agg(action, ' ' order by sequence) from audit_log where sequence <= 4\"}"
                                .utf8
                        )
                    )
                    let actions = sees ? "create login download update" : "create update"
                    #expect(try Oracle.rows(query.body) == "[[\"\(actions)\"]]", "node \(node), \(role): \(query)")
                    for name in ["system.audit_log", "\\\"organization-1\\\".main.audit_log", "temp.audit_log"] {
                        let refused = try await connection.send(
                            "POST",
                            "/v1/query",
                            authorization: token,
                            contentType: "application/json",
                            body: Array("{\"sql\":\"select count(*) from \(name)\"}".utf8)
                        )
                        #expect(refused.status == 403, "\(name): \(refused)")
                    }
                }
            }
            _ = try await cluster.send("GET", path + "/checkpoint?fresh=true")
            let connection = try #require(cluster.connections[1])
            for (role, token) in tokens {
                let size = try await cluster.size(of: organization)
                let bundle = try await connection.send(
                    "GET",
                    path + "/tiles/tile/entries/000.p/\(size)",
                    authorization: token
                )
                #expect(role == "auditor" || bundle.status == 403, "\(role): \(bundle)")
                let proof = try await connection.send("GET", path + "/records/2/proof", authorization: token)
                #expect(proof.status == 200, "a proof shows nothing of the record: \(proof)")
            }
        }

        @Test(.timeLimit(.minutes(1)))
        func repeatsTheReceiptOfAnIdempotencyKeyAndRefusesItForAnotherBody() async throws {
            let bench = try await Bench.prepare()
            let organization = "repeated"
            let created = try await bench.cluster.send(
                "POST",
                "/v1/organizations",
                body: "{\"key\":\"\(organization)\"}"
            )
            #expect(created.status == 201, "\(created)")
            let path = "/v1/organizations/\(organization)/records"
            func append(_ body: String, node: Int) async throws -> APIConnection.Reply {
                try await #require(bench.cluster.connections[node]).send(
                    "POST",
                    path,
                    authorization: bench.cluster.authorization,
                    contentType: "application/json",
                    idempotencyKey: "once",
                    body: Array(body.utf8)
                )
            }
            let replayed = try #require(HTTPField.Name("idempotency-replayed"))
            let first = try await append(Bench.event("\"reason\":\"first\""), node: 1)
            #expect(first.status == 201, "\(first)")
            #expect(first.fields[replayed] == nil)
            for node in 1...3 {
                let again = try await append(Bench.event("\"reason\":\"first\""), node: node)
                #expect(again.status == 201 && again.body == first.body, "\(again)")
                #expect(again.fields[replayed] == "true")
            }
            let other = try await append(Bench.event("\"reason\":\"other\""), node: 2)
            #expect(other.status == 422, "\(other)")
            try other.requireProblem("idempotency_key_reused", "another body")
            #expect(try await bench.cluster.size(of: organization) == 1)
        }
    }
}
