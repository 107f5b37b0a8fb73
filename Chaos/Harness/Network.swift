internal import Foundation

/// The nodes' network: a namespace each, joined by a bridge, so that links can be cut one way at a time.
///
/// Without the right to make namespaces all nodes share loopback, and links are not cut.
struct Network {
    /// Whether every node has a namespace of its own.
    let isIsolated: Bool
    /// Distinguishes the names of this run from those of another.
    private let mark: String
    private let subnet: Int

    /// All nodes on loopback.
    static let loopback = Network(isIsolated: false, mark: "", subnet: 0)

    /// Makes the bridge when this process may.
    static func make(mark: String, subnet: Int) async -> Network {
        let network = Network(isIsolated: true, mark: mark, subnet: subnet)
        do {
            try await Shell.run("ip", "link", "add", network.bridge, "type", "bridge")
            try await Shell.run("ip", "addr", "add", "10.231.\(subnet).254/24", "dev", network.bridge)
            try await Shell.run("ip", "link", "set", network.bridge, "up")
            try await Shell.run("ip", "netns", "add", network.namespace(of: 0))
            try await Shell.run("ip", "netns", "del", network.namespace(of: 0))
            return network
        } catch {
            _ = try? await Shell.run("ip", "link", "del", network.bridge)
            return Network(isIsolated: false, mark: mark, subnet: subnet)
        }
    }

    private var bridge: String { "ft\(self.mark)br" }
    func namespace(of node: Int) -> String { "ft\(self.mark)n\(node)" }
    private func link(of node: Int) -> String { "ft\(self.mark)v\(node)" }

    func address(of node: Int) -> String { self.isIsolated ? "10.231.\(self.subnet).\(node)" : "127.0.0.1" }
    func apiPort(of node: Int) -> Int { self.isIsolated ? 8443 : 21_443 + node }
    func peerPort(of node: Int) -> Int { self.isIsolated ? 8543 : 21_543 + node }

    /// What a command must begin with to run in the node's namespace.
    func prefix(of node: Int) -> [String] {
        self.isIsolated ? ["/usr/sbin/ip", "netns", "exec", self.namespace(of: node)] : []
    }

    func attach(_ node: Int) async throws {
        guard self.isIsolated else { return }
        let space = self.namespace(of: node)
        try await Shell.run("ip", "netns", "add", space)
        try await Shell.run(
            "ip",
            "link",
            "add",
            self.link(of: node),
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            space
        )
        try await Shell.run("ip", "link", "set", self.link(of: node), "master", self.bridge)
        try await Shell.run("ip", "link", "set", self.link(of: node), "up")
        try await Shell.run(
            "ip",
            "netns",
            "exec",
            space,
            "ip",
            "addr",
            "add",
            "\(self.address(of: node))/24",
            "dev",
            "eth0"
        )
        try await Shell.run("ip", "netns", "exec", space, "ip", "link", "set", "eth0", "up")
        try await Shell.run("ip", "netns", "exec", space, "ip", "link", "set", "lo", "up")
    }

    /// Nothing that `node` sends to `other` arrives any more; the other direction still works.
    func cut(from node: Int, to other: Int) async throws {
        try await Shell.run(
            self.prefix(of: node) + ["ip", "route", "add", "blackhole", "\(self.address(of: other))/32"]
        )
    }

    func mend(from node: Int, to other: Int) async {
        _ = try? await Shell.run(
            self.prefix(of: node) + ["ip", "route", "del", "blackhole", "\(self.address(of: other))/32"]
        )
    }

    /// Takes the node off the network.
    func unplug(_ node: Int) async throws { try await Shell.run("ip", "link", "set", self.link(of: node), "down") }

    func plug(_ node: Int) async { _ = try? await Shell.run("ip", "link", "set", self.link(of: node), "up") }

    /// Everything that the node sends waits in a narrow queue; some of it is lost there.
    func slow(_ node: Int, kilobits: Int) async throws {
        let shape = ["rate", "\(kilobits)kbit", "burst", "16kb", "latency", "400ms"]
        try await Shell.run(self.prefix(of: node) + ["tc", "qdisc", "add", "dev", "eth0", "root", "tbf"] + shape)
    }

    func unslow(_ node: Int) async {
        _ = try? await Shell.run(self.prefix(of: node) + ["tc", "qdisc", "del", "dev", "eth0", "root"])
    }

    /// Removes everything that this run has made.
    func remove(nodes: [Int]) async {
        guard self.isIsolated else { return }
        for node in nodes {
            _ = try? await Shell.run("ip", "netns", "del", self.namespace(of: node))
            _ = try? await Shell.run("ip", "link", "del", self.link(of: node))
        }
        _ = try? await Shell.run("ip", "link", "del", self.bridge)
    }
}
