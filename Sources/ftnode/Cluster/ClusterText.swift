internal import NodeRuntime

/// The state of a cluster as two tables, the moves, and a line.
enum ClusterText {
    static func text(_ view: ClusterView) -> String {
        let shown = view.nodes.filter { $0.membership != "removed" }.sorted { $0.id < $1.id }
        return self.nodes(shown).rendered() + "\n" + self.groups(view.groups, ids: shown.map(\.id)).rendered()
            + self.workers(shown) + self.moves(view) + self.damage(shown) + self.erasures(shown) + "\n"
            + self.summary(view, shown)
    }

    /// What nodes do not serve because their history is damaged there; nothing when there is none.
    private static func damage(_ nodes: [ClusterView.Node]) -> String {
        let lines = nodes.flatMap { node in
            (node.damaged ?? []).map { damage in
                "  node \(node.id) does not serve \(damage.organization ?? "?"): \(damage.kind) at \(damage.place)\n"
            }
        }
        return lines.isEmpty ? "" : "\nDAMAGED:\n" + lines.joined()
    }

    /// Erasures that wait for a replica; nothing when there are none.
    private static func erasures(_ nodes: [ClusterView.Node]) -> String {
        let pending = nodes.compactMap { $0.audit?.erasuresPending }.reduce(0, +)
        guard pending > 0 else { return "" }
        return "\nERASURES: \(pending) \(pending == 1 ? "waits" : "wait") until every replica has destroyed its keys\n"
    }

    private static func nodes(_ nodes: [ClusterView.Node]) -> TextTable {
        var table = TextTable(
            columns: [
                "node", "state", "membership", "region", "address", "replicas", "leaders", "clock", "level", "version",
                "up",
            ],
            right: [5, 6, 7]
        )
        for node in nodes {
            table.append([
                String(node.id), node.state, node.membership ?? "-", node.region.map { $0.isEmpty ? "-" : $0 } ?? "-",
                node.address, node.replicas.map(String.init) ?? "-", node.leaders.map(String.init) ?? "-",
                node.clockOffsetMs.map(Self.offset) ?? "-", node.featureLevel.map(String.init) ?? "-",
                node.version ?? "-", node.uptimeSeconds.map(Self.uptime) ?? "-",
            ])
        }
        return table
    }

    /// The worker processes of the nodes that say something of them.
    private static func workers(_ nodes: [ClusterView.Node]) -> String {
        var table = TextTable(
            columns: ["node", "worker", "pid", "memory", "stores", "up", "restarts", "last end"],
            right: [2, 3, 4, 5, 6]
        )
        for node in nodes {
            for worker in node.workers ?? [] {
                table.append([
                    String(node.id), TextTable.printable(worker.name), worker.pid.map(String.init) ?? "starting",
                    "\(worker.memoryBytes >> 20) MiB", String(worker.openStores),
                    worker.uptimeSeconds.map(Self.uptime) ?? "-", String(worker.restarts),
                    worker.lastEnd.map(TextTable.printable) ?? "",
                ])
            }
        }
        return table.isEmpty ? "" : "\n" + table.rendered()
    }

    private static func groups(_ groups: [ClusterView.Group], ids: [Int]) -> TextTable {
        var table = TextTable(
            columns: ["group", "leader", "term", "commit", ""] + ids.map { "n\($0)" },
            right: [2, 3]
        )
        for group in groups.sorted(by: { $0.id < $1.id }) {
            let commit = group.replicas.compactMap(\.commit).max()
            table.append(
                [
                    group.id == 0 ? "0 system" : String(group.id), group.leader.map { "node \($0)" } ?? "none",
                    group.term.map(String.init) ?? "-", commit.map(String.init) ?? "-",
                    group.joint == true ? "changing" : group.asleep == true ? "asleep" : "",
                ] + ids.map { id in group.replicas.first { $0.node == id }.map(Self.replica) ?? "" }
            )
        }
        return table
    }

    private static func replica(_ replica: ClusterView.Replica) -> String {
        let part: String =
            switch replica.part {
            case "learner": " l"
            case "incoming": " +"
            case "outgoing": " -"
            default: ""
            }
        guard let applied = replica.applied else { return "-" + part }
        let lag = replica.lag ?? 0
        return "\(applied)\(lag > 0 ? " (-\(lag))" : "")\(replica.role == "leader" ? " *" : "")" + part
    }

    private static func moves(_ view: ClusterView) -> String {
        guard let moves = view.moves, !moves.isEmpty else { return "" }
        var table = TextTable(columns: ["group", "move", "node", "state"])
        for move in moves {
            table.append([String(move.group), move.action, move.node.map(String.init) ?? "", move.state])
        }
        let left = view.movesLeft ?? 0
        return "\n" + table.rendered() + (left > 0 ? "and \(left) more\n" : "")
    }

    private static func summary(_ view: ClusterView, _ shown: [ClusterView.Node]) -> String {
        let up = shown.filter { $0.state == "up" }.count
        let led = view.groups.filter { $0.leader != nil }.count
        var text =
            "cluster \(TextTable.printable(view.clusterId)): \(up) of \(shown.count) nodes up, "
            + "\(led) of \(view.groups.count) groups have a leader"
        let asleep = view.groups.filter { $0.asleep == true }.count
        if asleep > 0 { text += ", \(asleep) asleep" }
        if let level = view.featureLevel { text += ", feature level \(level)" }
        return text + "\n" + self.alarms(shown)
    }

    /// What must never be: one line for each node that says so.
    private static func alarms(_ nodes: [ClusterView.Node]) -> String {
        nodes.compactMap { node in
            guard let audit = node.audit, audit.forks > 0 || audit.contradictions > 0 else { return nil }
            return "ALARM: node \(node.id) stores \(audit.forks) fork proofs and contradicts its own signatures in "
                + "\(audit.contradictions) organizations\n"
        }.joined()
    }

    private static func offset(_ milliseconds: Double) -> String {
        let tenths = Int((milliseconds * 10).rounded())
        return "\(tenths < 0 ? "-" : tenths > 0 ? "+" : "")\(abs(tenths) / 10).\(abs(tenths) % 10) ms"
    }

    private static func uptime(_ seconds: Double) -> String {
        let whole = Int(seconds)
        return switch whole {
        case ..<60: "\(whole) s"
        case ..<3600: "\(whole / 60) min"
        case ..<86_400: "\(whole / 3600) h \(whole % 3600 / 60) min"
        default: "\(whole / 86_400) d \(whole % 86_400 / 3600) h"
        }
    }
}
