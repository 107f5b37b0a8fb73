internal import Consensus
internal import Primitives
internal import Shards
internal import SwiftProtobuf

/// Asks every node how it is and puts the answers together.
struct ClusterReader: Sendable {
    let node: NodeID
    let members: [NodeConfiguration.Member]
    let clusterID: String
    let placement: Placement
    let host: RaftHost
    let links: PeerLinks
    let status: NodeStatus
    let timeout: Duration

    /// The answer of each member; nil where there was none.
    private func statuses() async -> [NodeID: WireStatusResponse] {
        await withTaskGroup(of: (NodeID, WireStatusResponse?).self) { group in
            for member in self.members {
                group.addTask {
                    if member.id == self.node { return (member.id, self.status.wire(self.host.status())) }
                    let answer: WireStatusResponse? = try? await self.links.call(
                        PeerPath.status,
                        of: member.id,
                        WireStatusResponse(),
                        timeout: self.timeout
                    )
                    return (member.id, answer)
                }
            }
            var statuses: [NodeID: WireStatusResponse] = [:]
            for await (node, status) in group { statuses[node] = status }
            return statuses
        }
    }

    /// The document of `GET /v1/cluster`.
    func document() async -> JSONOutput {
        let statuses = await self.statuses()
        var json = JSONOutput(capacity: 8192)
        json.beginObject()
        json.member("cluster_id", self.clusterID)
        json.beginArray("nodes")
        for member in self.members.sorted(by: { $0.id < $1.id }) {
            json.beginObject()
            json.member("id", member.id.rawValue)
            json.member("address", member.apiAddress.description)
            json.member("peer_address", member.peerAddress.description)
            json.member("state", statuses[member.id] == nil ? "down" : "up")
            if let status = statuses[member.id] {
                json.member("pid", status.processID)
                json.member("version", status.version)
                json.member("uptime_seconds", UInt64(max(0, status.uptimeSeconds)))
            }
            json.endObject()
        }
        json.endArray()
        json.beginArray("groups")
        for group in self.placement.groups { self.write(group, statuses, to: &json) }
        json.endArray()
        json.endObject()
        return json
    }

    private func write(_ group: GroupID, _ statuses: [NodeID: WireStatusResponse], to json: inout JSONOutput) {
        let nodes = self.placement.nodes(of: group)
        var replicas: [(node: NodeID, status: WireGroupStatus?)] = []
        for node in nodes {
            replicas.append((node, statuses[node]?.groups.first { $0.group == group.rawValue }))
        }
        // The leader is whoever leads in the highest term that is known.
        let leader = replicas.filter { $0.status?.role == RaftRole.leader.rawValue }
            .max { ($0.status?.term ?? 0) < ($1.status?.term ?? 0) }
        let commit = replicas.compactMap { $0.status?.commit }.max() ?? 0
        json.beginObject()
        json.member("id", group.rawValue)
        json.member("leader", leader?.node.rawValue)
        json.member("term", replicas.compactMap { $0.status?.term }.max() ?? 0)
        json.beginArray("replicas")
        for (node, status) in replicas {
            json.beginObject()
            json.member("node", node.rawValue)
            json.member("role", status?.role)
            json.member("commit", status.map(\.commit))
            json.member("applied", status.map(\.applied))
            json.member("last", status.map(\.last))
            json.member("lag", status.map { commit - min(commit, $0.applied) })
            json.endObject()
        }
        json.endArray()
        json.endObject()
    }
}
