internal import Foundation
internal import HTTPTypes
internal import NodeRuntime
internal import Synchronization

/// Asks for a stop at SIGINT, SIGTERM or SIGHUP, which otherwise have no effect from then on.
final class StopSignals {
    private final class Flag: Sendable {
        let isSet = Atomic(false)
    }

    private let flag = Flag()
    private var sources: [any DispatchSourceSignal] = []

    init() {
        let flag = self.flag
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            Foundation.signal(signal, SIG_IGN)
            let source = DispatchSource.makeSignalSource(signal: signal, queue: .global())
            source.setEventHandler { flag.isSet.store(true, ordering: .relaxed) }
            source.resume()
            self.sources.append(source)
        }
    }

    var wantsStop: Bool { self.flag.isSet.load(ordering: .relaxed) }
}

/// Runs the nodes of a development cluster as child processes: starts them, restarts one that died, stops them all.
///
/// Not thread safe: one task owns it.
struct DevSupervisor {
    /// How often children are looked at.
    static let interval = Duration.milliseconds(100)
    /// A node that died is started again after this, in seconds.
    static let restartSeconds = 5.0
    /// After SIGTERM a node has this long before SIGKILL, in seconds.
    static let stopSeconds = 15.0
    /// All nodes must answer within this after the start, in seconds.
    static let readySeconds = 60.0
    private enum State {
        case running(ChildProcess)
        case waiting(untilSeconds: Double)
    }

    private let layout: DevLayout
    private let signals: StopSignals
    private var states: [Int: State] = [:]
    private var ready: Set<Int> = []
    private var clients: [Int: ClusterClient] = [:]

    init(layout: DevLayout, signals: StopSignals) throws {
        self.layout = layout
        self.signals = signals
        for node in layout.nodes { self.clients[node] = try ClusterClient(context: layout.context(node)) }
    }

    /// Starts all nodes and waits until each is ready.
    /// - Returns: False when a stop was asked for meanwhile.
    /// - Throws: ``CommandFailure`` when a node ends or the time does; the children still have to be stopped.
    mutating func startAll() async throws -> Bool {
        for node in self.layout.nodes { try self.start(node) }
        let deadline = CommandEnvironment.uptimeSeconds() + Self.readySeconds
        while self.ready.count < self.layout.nodeCount {
            if self.signals.wantsStop { return false }
            for (node, state) in self.states {
                guard case .running(let child) = state, let ending = child.poll() else { continue }
                self.states[node] = nil
                throw CommandFailure("node \(node) did not start (\(ending)): \(self.logTail(node))")
            }
            guard CommandEnvironment.uptimeSeconds() < deadline else {
                let missing = self.layout.nodes.filter { !self.ready.contains($0) }.map(String.init)
                throw CommandFailure(
                    "node \(missing.joined(separator: ", ")) was not ready after \(Int(Self.readySeconds)) s; "
                        + "see \(self.layout.root)/nodes/*/node.log"
                )
            }
            await self.askReadiness()
            try await Task.sleep(for: Self.interval)
        }
        return true
    }

    /// Watches the nodes until a stop is asked for.
    mutating func watch() async throws {
        while !self.signals.wantsStop {
            let now = CommandEnvironment.uptimeSeconds()
            for node in self.layout.nodes {
                switch self.states[node] {
                case .running(let child):
                    guard let ending = child.poll() else { continue }
                    self.ready.remove(node)
                    self.states[node] = .waiting(untilSeconds: now + Self.restartSeconds)
                    Terminal.note("node \(node) ended (\(ending)); starting it again in \(Int(Self.restartSeconds)) s")
                case .waiting(let moment):
                    guard now >= moment else { continue }
                    try self.start(node)
                    Terminal.note("node \(node) started again")
                case nil: continue
                }
            }
            if self.ready.count < self.layout.nodeCount {
                for node in await self.askReadiness() { Terminal.note("node \(node) is ready") }
            }
            try await Task.sleep(for: Self.interval)
        }
    }

    /// Stops all nodes: SIGTERM, and SIGKILL for those that take too long.
    mutating func stopAll() async {
        for client in self.clients.values { client.close() }
        var children = self.states.compactMapValues { state in
            if case .running(let child) = state { child } else { nil }
        }
        self.states = [:]
        for child in children.values { child.send(SIGTERM) }
        let deadline = CommandEnvironment.uptimeSeconds() + Self.stopSeconds
        var isKilled = false
        while !children.isEmpty {
            children = children.filter { $0.value.poll() == nil }
            if !isKilled, CommandEnvironment.uptimeSeconds() >= deadline {
                isKilled = true
                for (node, child) in children {
                    Terminal.note("node \(node) did not stop in \(Int(Self.stopSeconds)) s; killing it")
                    child.send(SIGKILL)
                }
            }
            // Not cancellable: children must not outlive this.
            usleep(20_000)
        }
    }

    private mutating func start(_ node: Int) throws {
        // Settings of this process are not those of its nodes, but for a few that are of no one node.
        let environment = CommandEnvironment.all.filter {
            !$0.key.hasPrefix("FTNODE_") || $0.key.hasPrefix("FTNODE_LOG_")
                || ["FTNODE_AUDIT_RECORD_READINGS", "FTNODE_QUERY_CACHE_MB"].contains($0.key)
        }
        let child = try ChildProcess.start(
            executable: CommandEnvironment.executable,
            arguments: ["serve", "--config", self.layout.configFile(node), "--parent", String(getpid())],
            environment: environment,
            outputFile: self.layout.logFile(node)
        )
        self.states[node] = .running(child)
        try WholeTextFile.write("\(child.pid)\n", to: self.layout.pidFile(node), for: .everybody, replacing: true)
    }

    /// Asks the nodes that are not known to be ready.
    /// - Returns: Those that are now.
    @discardableResult
    private mutating func askReadiness() async -> [Int] {
        var found: [Int] = []
        for node in self.layout.nodes where !self.ready.contains(node) {
            guard case .running = self.states[node], let client = self.clients[node] else { continue }
            var request = APIRequest(.get, "/readyz")
            request.budget = .zero
            request.timeout = .seconds(2)
            if (try? await client.send(request)) != nil {
                self.ready.insert(node)
                found.append(node)
            }
        }
        return found
    }

    /// The last line that the node wrote, which says why it ended.
    private func logTail(_ node: Int) -> String {
        guard let data = FileManager.default.contents(atPath: self.layout.logFile(node)) else { return "no log" }
        let lines = String(decoding: data.suffix(16_384), as: UTF8.self).split(separator: "\n")
        return lines.last.map(String.init) ?? "its log is empty"
    }
}

/// Nodes that a killed supervisor left behind: they notice it and stop, which takes a moment.
enum LeftNodes {
    /// They have this long before SIGKILL, in seconds.
    private static let patienceSeconds = DevSupervisor.stopSeconds + 5

    /// Waits until no node of `layout` runs any more.
    static func await(_ layout: DevLayout) async throws {
        let start = CommandEnvironment.uptimeSeconds()
        var isTold = false
        while true {
            let left = layout.nodes.compactMap { self.running($0, layout) }
            guard !left.isEmpty else { return }
            if !isTold { Terminal.note("waiting for \(left.count) nodes of an earlier start to stop …") }
            isTold = true
            if CommandEnvironment.uptimeSeconds() - start > self.patienceSeconds {
                for pid in left { kill(pid, SIGKILL) }
            }
            try await Task.sleep(for: DevSupervisor.interval)
        }
    }

    /// The process of `node`, when the one that is noted still runs this node's configuration.
    private static func running(_ node: Int, _ layout: DevLayout) -> pid_t? {
        guard
            let text = try? WholeTextFile.read(layout.pidFile(node)), let pid = pid_t(text.filter(\.isNumber)),
            let command = FileManager.default.contents(atPath: "/proc/\(pid)/cmdline")
        else { return nil }
        let arguments = command.split(separator: 0).map { String(decoding: $0, as: UTF8.self) }
        return arguments.contains("serve") && arguments.contains(layout.configFile(node)) ? pid : nil
    }
}
