internal import AuditLedger
internal import HTTPTypes
internal import Laboratory
internal import NIOCore
internal import Primitives
internal import Shards
internal import Transport

/// The cluster's state, and what changes it; operators only.
extension APIRouter {
    func clusterStatus(_ request: APICall, _: ByteBuffer) async throws -> ServerResponse {
        try request.allow(.readCluster)
        try request.requireOnly(parameters: [])
        return Self.json(.ok, await self.cluster.document())
    }

    /// The plan of a route below `/v1/cluster/`.
    func clusterPlan(_ request: APICall, _ segments: [String]) throws(Problem) -> RoutePlan {
        switch (segments.count, segments[0]) {
        case (1, "nodes"): return try self.only(.post, request, self.addNode)
        case (1, "rebalance"):
            return try self.only(.post, request) { request, body in
                _ = try self.manage(request, body, keys: [])
                try await self.administration.rebalance(by: request.origin)
                return Self.accepted()
            }
        case (2, "nodes"):
            let node = try Self.node(segments[1])
            return try self.only(.delete, request) { request, _ in
                try request.allow(.manageCluster)
                try request.requireOnly(parameters: [])
                try await self.administration.remove(node, by: request.origin)
                return Self.accepted()
            }
        case (3, "nodes"): return try self.nodePlan(request, try Self.node(segments[1]), segments[2])
        case (4, "nodes") where segments[2] == "keys":
            return try self.keyPlan(request, try Self.node(segments[1]), segments[3])
        case (3, "groups"): return try self.groupPlan(request, try Self.group(segments[1]), segments[2])
        default: throw Problem(.notFound, "there is no such route")
        }
    }

    private func nodePlan(_ request: APICall, _ node: NodeID, _ verb: String) throws(Problem) -> RoutePlan {
        let state: NodeState
        switch verb {
        case "replace":
            return try self.only(.post, request) { request, body in
                let object = try self.manage(request, body, keys: ["by"])
                let other = try Self.node(in: object, "by")
                try await self.administration.replace(node, by: other, origin: request.origin)
                return Self.accepted()
            }
        case "cordon": state = .cordoned
        case "uncordon": state = .active
        case "drain": state = .draining
        default: throw Problem(.notFound, "there is no such route")
        }
        return try self.only(.post, request) { request, body in
            _ = try self.manage(request, body, keys: [])
            try await self.administration.set(node, state, by: request.origin)
            return Self.accepted()
        }
    }

    private func groupPlan(_ request: APICall, _ group: GroupID, _ verb: String) throws(Problem) -> RoutePlan {
        switch verb {
        case "transfer":
            return try self.only(.post, request) { request, body in
                let object = try self.manage(request, body, keys: ["to"])
                try await self.administration.transfer(group, to: try Self.node(in: object, "to"))
                return Self.accepted()
            }
        case "replicas":
            return try self.only(.post, request) { request, body in
                let object = try self.manage(request, body, keys: ["nodes"])
                let nodes = try object.array("nodes").map { try Self.node($0.integer(), "/nodes") }
                try await self.administration.place(group, on: nodes, by: request.origin)
                return Self.accepted()
            }
        default: throw Problem(.notFound, "there is no such route")
        }
    }

    private func addNode(_ request: APICall, _ body: ByteBuffer) async throws -> ServerResponse {
        let object = try self.manage(request, body, keys: ["id", "api", "peer", "region", "priority"])
        let region = try object.optionalString("region") ?? ""
        guard region.isEmpty || ConfigurationRules.isName(region) else {
            throw Problem(
                .invalidField,
                "a region is \(ConfigurationKind.name.allowed)",
                members: [.text("pointer", "/region")]
            )
        }
        let priority = try object.optionalInteger("priority") ?? 0
        guard (0...Int64(NodeConfiguration.priorityMax)).contains(priority) else {
            throw Problem(
                .invalidField,
                "a priority is from 0 to \(NodeConfiguration.priorityMax)",
                members: [.text("pointer", "/priority")]
            )
        }
        let added = try await self.administration.add(
            try Self.node(in: object, "id"),
            api: try Self.address(in: object, "api"),
            peer: try Self.address(in: object, "peer"),
            by: request.origin
        )
        var json = JSONOutput()
        json.beginObject()
        json.member("id", added.node.rawValue)
        json.member("join_token", added.token)
        json.member("expires_at", added.expiresAt)
        json.endObject()
        return Self.json(.created, json)
    }

    /// Allows an operator's change and reads its body.
    func manage(_ request: APICall, _ body: ByteBuffer, keys: [String]) throws -> JSONPlace {
        try request.allow(.manageCluster)
        try request.requireOnly(parameters: [])
        return try self.object(body, of: request, keys: keys)
    }

    static func accepted() -> ServerResponse {
        var json = JSONOutput()
        json.beginObject()
        json.member("status", "accepted")
        json.endObject()
        return self.json(.accepted, json)
    }

    private static func node(_ text: String) throws(Problem) -> NodeID {
        guard let number = UInt64(text), number > 0 else {
            throw Problem(.nodeNotFound, "there is no node \"\(text)\"")
        }
        return NodeID(number)
    }

    private static func group(_ text: String) throws(Problem) -> GroupID {
        guard let number = UInt32(text) else { throw Problem(.groupNotFound, "there is no group \"\(text)\"") }
        return GroupID(number)
    }

    private static func node(in object: JSONPlace, _ name: String) throws -> NodeID {
        try self.node(try object.integer(name), "/" + name)
    }

    private static func node(_ number: Int64, _ pointer: String) throws(Problem) -> NodeID {
        guard (1...1_000_000).contains(number) else {
            throw Problem(.invalidField, "a node's id is from 1 to 1000000", members: [.text("pointer", pointer)])
        }
        return NodeID(UInt64(number))
    }

    private static func address(in object: JSONPlace, _ name: String) throws -> NodeConfiguration.HostPort {
        guard let address = NodeConfiguration.HostPort(try object.string(name)) else {
            throw Problem(
                .invalidField,
                "must be \(ConfigurationKind.address.allowed)",
                members: [.text("pointer", "/" + name)]
            )
        }
        return address
    }
}
