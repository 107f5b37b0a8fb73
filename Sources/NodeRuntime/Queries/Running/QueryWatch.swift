internal import Primitives

/// The running statements of all nodes, as one node gathers them.
///
/// A statement's name in the cluster is `NODE-ID`: it tells who answers it.
struct QueryWatch: Sendable {
    struct Entry: Sendable {
        let id: String
        let node: NodeID
        let state: WireRunningQuery
    }

    let node: NodeID
    let running: RunningQueries
    let links: PeerLinks
    /// The cluster's nodes.
    let nodes: @Sendable () -> [NodeID]
    /// How long a node may take to answer.
    let timeout: Duration

    /// Every statement of `token`, or of all when nil, the longest running first; and the nodes that did not answer.
    func list(of token: String?) async -> (queries: [Entry], silent: [NodeID]) {
        var request = WireListQueriesRequest()
        request.token = token ?? ""
        let question = request
        let answers = await withTaskGroup(of: (NodeID, WireListQueriesResponse?).self) { group in
            for node in self.nodes() {
                group.addTask { (node, try? await self.ask(question, of: node)) }
            }
            return await group.reduce(into: []) { $0.append($1) }
        }
        let entries = answers.flatMap { node, answer in
            (answer?.queries ?? []).map { Entry(id: "\(node)-\($0.id)", node: node, state: $0) }
        }
        return (
            entries.sorted { ($1.state.runningMs, $0.id) < ($0.state.runningMs, $1.id) },
            answers.filter { $0.1 == nil }.map(\.0).sorted()
        )
    }

    private func ask(_ request: WireListQueriesRequest, of node: NodeID) async throws -> WireListQueriesResponse {
        if node == self.node { return self.running.answer(request) }
        return try await self.links.call(PeerPath.listQueries, of: node, request, timeout: self.timeout)
    }

    /// Ends the statement `NODE-ID`, when it is `token`'s or `token` is nil; false when there is none.
    /// - Throws: ``PeerError`` when its node cannot be reached.
    func end(_ name: String, of token: String?, by who: String) async throws -> Bool {
        let parts = name.split(separator: "-", maxSplits: 1)
        guard parts.count == 2, let number = UInt64(parts[0]), self.nodes().contains(where: { $0.rawValue == number })
        else { return false }
        var request = WireEndQueryRequest()
        request.id = String(parts[1])
        request.token = token ?? ""
        request.name = who
        let node = NodeID(number)
        if node == self.node { return self.running.answer(request).found }
        let answer: WireEndQueryResponse = try await self.links.call(
            PeerPath.endQuery,
            of: node,
            request,
            timeout: self.timeout
        )
        return answer.found
    }
}

extension RunningQueries {
    /// What a peer, or this node itself, wants to know.
    func answer(_ request: WireListQueriesRequest) -> WireListQueriesResponse {
        var response = WireListQueriesResponse()
        for query in self.all where request.token.isEmpty || query.caller.token == request.token {
            let sight = query.sight
            var entry = WireRunningQuery()
            entry.id = query.id
            entry.sql = query.sql
            entry.organizations = query.organizations.prefix(Self.shownOrganizationsMax).map(\.rawValue)
            entry.caller = query.caller.name
            entry.channel = query.caller.channel.rawValue
            entry.requestID = query.caller.requestID
            entry.phase = sight.phase.rawValue
            entry.runningMs = UInt64(max(0, query.age.milliseconds))
            entry.rows = UInt64(sight.rows)
            entry.bytes = UInt64(sight.bytes)
            entry.plan = sight.plan ?? ""
            response.queries.append(entry)
        }
        return response
    }

    func answer(_ request: WireEndQueryRequest) -> WireEndQueryResponse {
        var response = WireEndQueryResponse()
        if let query = self.query(request.id), request.token.isEmpty || query.caller.token == request.token {
            query.stop(.killed(by: request.name))
            response.found = true
        }
        return response
    }
}
