internal import ArgumentParser
internal import NodeRuntime

/// Whether and how long a command waits for the cluster to be done.
struct WaitOptions: ParsableArguments {
    @Flag(help: "Wait until the cluster has done it, and show how far it is.")
    var wait = false
    @Option(help: ArgumentHelp("Give up waiting after this many seconds; the cluster goes on.", valueName: "seconds"))
    var waitTimeout = 3600

    mutating func validate() throws {
        if self.waitTimeout < 1 { throw ValidationError("--wait-timeout must be at least 1") }
    }

    /// Prints `done` at once, or after waiting until `isDone`.
    func finish(
        _ client: ClusterClient,
        asked: String,
        done: String,
        until isDone: @escaping @Sendable (ClusterView) -> Bool
    ) async throws {
        guard self.wait else {
            Terminal.out(asked + "\n")
            return
        }
        try await ClusterWait(client: client, timeoutSeconds: Double(self.waitTimeout)).run(until: isDone)
        Terminal.out(done + "\n")
    }
}

/// Looks at the cluster until it is as wished.
struct ClusterWait {
    /// Between two looks.
    private static let pause = Duration.milliseconds(500)

    let client: ClusterClient
    let timeoutSeconds: Double

    /// - Throws: ``CommandFailure`` when the time is over.
    func run(until isDone: (ClusterView) -> Bool) async throws {
        let start = CommandEnvironment.uptimeSeconds()
        var last = ""
        while true {
            let view = try await self.client.status().view
            if isDone(view) {
                if Terminal.errorIsTerminal, !last.isEmpty { Terminal.overwrite("") }
                return
            }
            let line = Self.progress(view)
            if line != last {
                if Terminal.errorIsTerminal { Terminal.overwrite(line) } else { Terminal.note(line) }
                last = line
            }
            guard CommandEnvironment.uptimeSeconds() - start < self.timeoutSeconds else {
                throw CommandFailure(
                    "not done after \(Int(self.timeoutSeconds)) s; the cluster goes on, `ftnode cluster status` shows how far"
                )
            }
            try await Task.sleep(for: Self.pause)
        }
    }

    private static func progress(_ view: ClusterView) -> String {
        let moves = view.moves ?? []
        let running = moves.filter { $0.state == "running" }
        let left = moves.count - running.count + (view.movesLeft ?? 0)
        let shown = running.prefix(3).map { move in
            "group \(move.group) \(move.action)" + (move.node.map { " node \($0)" } ?? "")
        }
        return "waiting: \(running.count) \(running.count == 1 ? "move" : "moves") running"
            + (shown.isEmpty ? "" : " (\(shown.joined(separator: ", ")))") + ", at least \(left) to come"
    }
}

extension ClusterView {
    func node(_ id: Int) -> Node? { self.nodes.first { $0.id == id } }

    /// True when no group has a replica on the node, besides the system group, which lives on every node.
    func hasNoData(on id: Int) -> Bool {
        !self.groups.contains { group in group.id != 0 && group.replicas.contains { $0.node == id } }
    }
}

/// A node's id as an argument.
struct NodeArgument: ParsableArguments {
    @Argument(help: "The node's id.")
    var node: Int

    mutating func validate() throws { try Self.check(self.node, "NODE") }

    static func check(_ id: Int, _ name: String) throws {
        guard (1...1_000_000).contains(id) else { throw ValidationError("\(name) must be from 1 to 1000000") }
    }
}

/// Ids between commas.
enum NodeList {
    static func parse(_ text: String, _ name: String) throws -> [Int] {
        let parts = text.split(separator: ",", omittingEmptySubsequences: false)
        let ids = parts.compactMap { Int($0.filter { $0 != " " }) }
        guard ids.count == parts.count, Set(ids).count == ids.count else {
            throw ValidationError("\(name) must be ids such as 1,2, each once")
        }
        for id in ids { try NodeArgument.check(id, name) }
        return ids
    }
}

extension ClusterCommand {
    struct AddNode: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "add-node",
            abstract: "Make a new node known, and print what its configuration needs.",
            discussion: """
                Prints the lines for the new node's configuration, with a token that lets it join once. Its certificate \
                must be signed by the cluster's CA (`ftnode pki node --id N`). Ids are never used again.

                Example:
                  ftnode cluster add-node --id 4 --api 10.0.0.4:8443 --peer 10.0.0.4:8543 --region north
                """
        )
        @OptionGroup var connection: ConnectionOptions
        @Option(help: "The new node's id, never used before.")
        var id: Int
        @Option(help: ArgumentHelp("Where clients will reach it.", valueName: "host:port"))
        var api: String
        @Option(help: ArgumentHelp("Where its peers will reach it.", valueName: "host:port"))
        var peer: String
        @Option(help: "Where it stands; replicas are spread over regions.")
        var region: String?
        @Option(help: "0 (default) is preferred as a leader, up to 10 less.")
        var priority: Int?
        @OptionGroup var waiting: WaitOptions

        mutating func validate() throws {
            try NodeArgument.check(self.id, "--id")
            for (name, value) in [("--api", self.api), ("--peer", self.peer)] {
                guard NodeConfiguration.HostPort(value) != nil else {
                    throw ValidationError("\(name) must be host:port")
                }
            }
        }

        mutating func run() async throws {
            let (id, waiting, settings) = (self.id, self.waiting, self)
            try await self.connection.withClient { client in
                let added = try await client.addNode(
                    id: id,
                    api: settings.api,
                    peer: settings.peer,
                    region: settings.region,
                    priority: settings.priority
                )
                let view = try await client.status().view
                Terminal.out(Self.configurationLines(added, view, settings))
                Terminal.note("the token is not shown again; it lets node \(id) join until \(added.expiresAt)")
                guard waiting.wait else { return }
                try await waiting.finish(client, asked: "", done: "node \(id) has joined") { view in
                    view.node(id)?.membership == "active" && view.node(id)?.state == "up" && view.isSettled
                }
            }
        }

        /// What the new node's configuration must say.
        static func configurationLines(_ added: AddedNode, _ view: ClusterView, _ settings: AddNode) -> String {
            var text = "cluster:\n  id: \(view.clusterId)\n  join_token: \(added.joinToken)\n  nodes:\n"
            for node in view.nodes.sorted(by: { $0.id < $1.id }) where node.id != added.id {
                guard node.membership != "removed", let peer = node.peerAddress else { continue }
                text += "    - {id: \(node.id), api: \"\(node.address)\", peer: \"\(peer)\"}\n"
            }
            text += "    - {id: \(added.id), api: \"\(settings.api)\", peer: \"\(settings.peer)\""
            if let region = settings.region { text += ", region: \(region)" }
            if let priority = settings.priority { text += ", priority: \(priority)" }
            text += "}\n"
            text += "node:\n  id: \(added.id)\n"
            text += "api: {listen: \"\(settings.api)\"}\npeer: {listen: \"\(settings.peer)\"}\n"
            return text
        }
    }

    struct RemoveNode: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "remove-node",
            abstract: "Take all replicas off a node, then its name out of the cluster; for good.",
            discussion: """
                Its replicas are made elsewhere first, so the other nodes must be enough for the number of replicas; a \
                node that is down may be removed. Afterwards stop it: the others refuse it.
                """
        )
        @OptionGroup var connection: ConnectionOptions
        @OptionGroup var node: NodeArgument
        @OptionGroup var waiting: WaitOptions

        mutating func run() async throws {
            let (id, waiting) = (self.node.node, self.waiting)
            try await self.connection.withClient { client in
                try await client.removeNode(id: id)
                try await waiting.finish(client, asked: "node \(id) is being removed", done: "node \(id) is removed") {
                    $0.node(id)?.membership == "removed"
                }
            }
        }
    }

    struct ReplaceNode: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "replace-node",
            abstract: "Put the replicas of one node on another, then remove the first.",
            discussion: """
                For a machine that is lost or worn: add the new node first (add-node, start it), then replace the old by it.

                Example:
                  ftnode cluster replace-node 2 4 --wait
                """
        )
        @OptionGroup var connection: ConnectionOptions
        @Argument(help: "The node that goes.")
        var old: Int
        @Argument(help: "The node that takes its replicas.")
        var new: Int
        @OptionGroup var waiting: WaitOptions

        mutating func validate() throws {
            try NodeArgument.check(self.old, "OLD")
            try NodeArgument.check(self.new, "NEW")
            if self.old == self.new { throw ValidationError("OLD and NEW are the same node") }
        }

        mutating func run() async throws {
            let (old, new, waiting) = (self.old, self.new, self.waiting)
            try await self.connection.withClient { client in
                try await client.replaceNode(id: old, by: new)
                try await waiting.finish(
                    client,
                    asked: "node \(old) is being replaced by node \(new)",
                    done: "node \(old) is replaced by node \(new)"
                ) { $0.node(old)?.membership == "removed" }
            }
        }
    }

    struct TransferLeader: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "transfer-leader",
            abstract: "Make another replica the leader of a group."
        )
        @OptionGroup var connection: ConnectionOptions
        @Option(help: "The group's number; 0 is the system group.")
        var group: Int
        @Option(help: ArgumentHelp("The node that shall lead; it must have a voting replica.", valueName: "node"))
        var to: Int

        mutating func validate() throws {
            try NodeArgument.check(self.to, "--to")
            guard self.group >= 0 else { throw ValidationError("--group must not be negative") }
        }

        mutating func run() async throws {
            let (group, node) = (self.group, self.to)
            try await self.connection.withClient { client in
                try await client.transferLeader(group: group, to: node)
                Terminal.out("node \(node) leads group \(group)\n")
            }
        }
    }

    struct Place: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "place",
            abstract: "Wish the replicas of one group on certain nodes."
        )
        @OptionGroup var connection: ConnectionOptions
        @Option(help: "The data group's number.")
        var group: Int
        @Option(help: ArgumentHelp("1, 3, 5 or 7 nodes.", valueName: "ids"))
        var nodes: String
        @OptionGroup var waiting: WaitOptions

        mutating func validate() throws {
            guard self.group >= 1 else { throw ValidationError("--group must be that of a data group, from 1") }
            _ = try NodeList.parse(self.nodes, "--nodes")
        }

        mutating func run() async throws {
            let (group, nodes, waiting) = (self.group, try NodeList.parse(self.nodes, "--nodes"), self.waiting)
            try await self.connection.withClient { client in
                try await client.place(group: group, on: nodes)
                try await waiting.finish(
                    client,
                    asked: "group \(group) is being moved",
                    done: "group \(group) is on nodes \(nodes.map(String.init).joined(separator: ", "))"
                ) { view in
                    let replicas = view.groups.first { $0.id == group }?.replicas ?? []
                    return Set(replicas.map(\.node)) == Set(nodes) && replicas.allSatisfy { $0.part == "voter" }
                }
            }
        }
    }

    struct Rebalance: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "rebalance",
            abstract: "Spread replicas and leaders evenly over the nodes."
        )
        @OptionGroup var connection: ConnectionOptions
        @OptionGroup var waiting: WaitOptions

        mutating func run() async throws {
            let waiting = self.waiting
            try await self.connection.withClient { client in
                try await client.rebalance()
                try await waiting.finish(client, asked: "the cluster rebalances", done: "the cluster is balanced") {
                    $0.isSettled
                }
            }
        }
    }

    struct Drain: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "drain",
            abstract: "Take all leaders and data replicas off a node; it stays a member.",
            discussion:
                "Undo it by uncordon. For a restart drain is not needed: a node that stops hands its leaders over."
        )
        @OptionGroup var connection: ConnectionOptions
        @OptionGroup var node: NodeArgument
        @OptionGroup var waiting: WaitOptions

        mutating func run() async throws {
            let (id, waiting) = (self.node.node, self.waiting)
            try await self.connection.withClient { client in
                try await client.wish(.drain, node: id)
                try await waiting.finish(client, asked: "node \(id) is being drained", done: "node \(id) is drained") {
                    $0.hasNoData(on: id)
                }
            }
        }
    }

    struct Cordon: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "cordon",
            abstract: "Give a node no new replicas or leaders; it keeps what it has."
        )
        @OptionGroup var connection: ConnectionOptions
        @OptionGroup var node: NodeArgument

        mutating func run() async throws {
            let id = self.node.node
            try await self.connection.withClient { client in
                try await client.wish(.cordon, node: id)
                Terminal.out("node \(id) is cordoned\n")
            }
        }
    }

    struct Uncordon: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "uncordon",
            abstract: "Use a cordoned or drained node again."
        )
        @OptionGroup var connection: ConnectionOptions
        @OptionGroup var node: NodeArgument

        mutating func run() async throws {
            let id = self.node.node
            try await self.connection.withClient { client in
                try await client.wish(.uncordon, node: id)
                Terminal.out("node \(id) is in use again\n")
            }
        }
    }
}
