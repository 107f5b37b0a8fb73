internal import Crypto
internal import Foundation
internal import NodeRuntime
internal import Primitives

/// Where a development cluster keeps what, and on which ports it listens.
struct DevLayout: Sendable {
    /// The most nodes of a development cluster.
    static let nodesMax = 7
    /// From a node's API port to its peer port.
    static let peerPortOffset = 100
    static let clusterID = "dev"
    static let host = "127.0.0.1"

    /// Absolute path of the folder.
    let root: String
    let nodeCount: Int
    let port: Int
    /// Replication groups for organizations; nil for the default.
    var dataGroups: Int?

    var nodes: [Int] { Array(1...self.nodeCount) }
    var pki: PKIFolder { PKIFolder(path: self.root + "/pki") }
    var tokenFile: String { self.root + "/tokens/operator.token" }
    var clientFile: String { self.root + "/client.yaml" }
    var demoFile: String { self.root + "/demo.ndjson" }
    func folder(_ node: Int) -> String { "\(self.root)/nodes/\(node)" }
    func configFile(_ node: Int) -> String { self.folder(node) + "/config.yaml" }
    func pidFile(_ node: Int) -> String { self.folder(node) + "/node.pid" }
    func logFile(_ node: Int) -> String { self.folder(node) + "/node.log" }
    func apiPort(_ node: Int) -> Int { self.port + node - 1 }
    func peerPort(_ node: Int) -> Int { self.apiPort(node) + Self.peerPortOffset }
    func apiAddress(_ node: Int) -> String { "\(Self.host):\(self.apiPort(node))" }
    var ports: [Int] { self.nodes.map(self.apiPort) + self.nodes.map(self.peerPort) }

    /// The largest odd number of replicas that the nodes can hold.
    var replicas: Int { self.nodeCount.isMultiple(of: 2) ? self.nodeCount - 1 : self.nodeCount }

    /// The configuration of `node`.
    func configuration(_ node: Int, tokenHash: String) -> String {
        let members = self.nodes.map {
            "    - {id: \($0), api: \"\(self.apiAddress($0))\", peer: \"\(Self.host):\(self.peerPort($0))\"}\n"
        }.joined()
        let pki = "../../pki/\(PKIFolder.name(of: NodeID(UInt64(node))))"
        return """
            # Written by ftnode dev at each start.
            cluster:
              id: \(Self.clusterID)
              replicas: \(self.replicas)
            \(self.dataGroups.map { "  data_groups: \($0)\n" } ?? "")  nodes:
            \(members)node: {id: \(node), data: data}
            api: {listen: "\(self.apiAddress(node))", certificate: \(pki).pem, key: \(pki).key}
            peer: {listen: "\(Self.host):\(self.peerPort(node))", certificate: \(pki).pem, key: \(pki).key, ca: ../../pki/ca.pem}
            auth: {bootstrap_token_sha256: "\(tokenHash)"}
            audit: {signing_key: \(pki).signing.key, sealing_key: \(pki).sealing.key}

            """
    }

    /// Makes what is missing: folders, CA, certificates (renewed when about to expire), token, configurations.
    func prepare(now: Timestamp) throws {
        if !FilePaths.exists(self.pki.caFile) {
            try self.pki.initialize(
                cluster: Self.clusterID,
                days: CertificateAuthority.DefaultDays.authority,
                now: now,
                replacing: true
            )
        }
        try WholeTextFile.makeFolder(self.root + "/tokens", for: .owner)
        if !FilePaths.exists(self.tokenFile) {
            try WholeTextFile.write(Self.makeToken(), to: self.tokenFile, for: .owner, replacing: false)
        }
        let token = try WholeTextFile.read(self.tokenFile)
        let hash = Hex.encode(Array(SHA256.hash(data: Array(token.utf8))))
        for node in self.nodes {
            try WholeTextFile.makeFolder(self.folder(node), for: .everybody)
            try self.issueCertificate(node, now: now)
            // Folders of earlier programs have certificates but no key for checkpoints.
            if !FilePaths.exists(self.pki.signingKeyFile(NodeID(UInt64(node)))) {
                try self.pki.issueSigningKey(NodeID(UInt64(node)), replacing: false)
            }
            if !FilePaths.exists(self.pki.sealingKeyFile(NodeID(UInt64(node)))) {
                try self.pki.issueSealingKey(NodeID(UInt64(node)), replacing: false)
            }
            try WholeTextFile.write(
                self.configuration(node, tokenHash: hash),
                to: self.configFile(node),
                for: .owner,
                replacing: true
            )
        }
    }

    private func issueCertificate(_ node: Int, now: Timestamp) throws {
        let marginMicroseconds = Int64(86_400_000_000)
        let file = self.pki.certificateFile(PKIFolder.name(of: NodeID(UInt64(node))))
        if FilePaths.exists(file), FilePaths.exists(self.pki.keyFile(PKIFolder.name(of: NodeID(UInt64(node))))) {
            let until = try CertificateFile(path: file).validUntil
            if until.rawValue > now.rawValue + marginMicroseconds { return }
        }
        try self.pki.issueNode(
            NodeID(UInt64(node)),
            hosts: PKIFolder.defaultHosts,
            days: CertificateAuthority.DefaultDays.node,
            now: now,
            replacing: true
        )
    }

    /// Writes `client.yaml`, which says that the cluster is ready.
    func writeClientFile() throws {
        let token = try WholeTextFile.read(self.tokenFile)
        let text = ClientContext.text(addresses: self.nodes.map(self.apiAddress), caFile: "pki/ca.pem", token: token)
        try WholeTextFile.write(text, to: self.clientFile, for: .owner, replacing: true)
    }

    /// How a client reaches one node alone.
    func context(_ node: Int) throws -> ClientContext {
        ClientContext(
            addresses: [.init(host: Self.host, port: self.apiPort(node))],
            caFile: self.pki.caFile,
            token: try WholeTextFile.read(self.tokenFile)
        )
    }

    /// `ft_` and 256 random bits.
    private static func makeToken() -> String {
        var generator = SystemRandomNumberGenerator()  // ambient-ok: a secret must be of the system's chance
        var bytes: [UInt8] = []
        for _ in 0..<32 { bytes.append(UInt8.random(in: 0...255, using: &generator)) }  // ambient-ok: see above
        return "ft_" + Hex.encode(bytes)
    }
}

/// What a folder's cluster was made with; kept so that it comes back the same.
struct DevRecord: Codable, Equatable {
    var nodes: Int
    var port: Int
    var dataGroups: Int?

    static func read(root: String) throws -> DevRecord? {
        let path = root + "/dev.json"
        guard FilePaths.exists(path) else { return nil }
        do { return try JSONDecoder().decode(DevRecord.self, from: Data(WholeTextFile.read(path).utf8)) } catch {
            throw CommandFailure("\(path) cannot be read; is \(root) a folder of ftnode dev?")
        }
    }

    func write(root: String) throws {
        let groups = self.dataGroups.map { ",\"dataGroups\":\($0)" } ?? ""
        let text = "{\"nodes\":\(self.nodes),\"port\":\(self.port)\(groups)}\n"
        try WholeTextFile.write(text, to: root + "/dev.json", for: .everybody, replacing: true)
    }

    /// What to start: what was asked for, which must be what the folder has.
    static func choose(
        existing: DevRecord?,
        nodes: Int?,
        port: Int?,
        dataGroups: Int? = nil,
        root: String
    ) throws -> DevRecord {
        guard let existing else { return DevRecord(nodes: nodes ?? 3, port: port ?? 8443, dataGroups: dataGroups) }
        if let dataGroups, dataGroups != existing.dataGroups {
            throw CommandFailure(
                "\(root) holds a cluster with \(existing.dataGroups.map(String.init) ?? "the default number of") data groups; "
                    + "leave --data-groups out, or choose another --data"
            )
        }
        if let nodes, nodes != existing.nodes {
            throw CommandFailure(
                "\(root) holds a cluster of \(existing.nodes) nodes; leave --nodes out, or choose another --data"
            )
        }
        if let port, port != existing.port {
            throw CommandFailure(
                "\(root) holds a cluster on port \(existing.port); leave --port out, or choose another --data"
            )
        }
        return existing
    }
}

/// Keeps a second `ftnode dev` away from a folder; let go of when the process ends, however it ends.
final class DevLock {
    private let descriptor: Int32

    /// - Throws: ``CommandFailure`` when another process holds it.
    init(root: String) throws {
        let path = root + "/dev.lock"
        self.descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
        guard self.descriptor >= 0 else {
            throw CommandFailure("cannot open \(path): \(String(cString: strerror(errno)).lowercased())")
        }
        guard flock(self.descriptor, LOCK_EX | LOCK_NB) == 0 else {
            let holder = (try? WholeTextFile.read(path))?.split(separator: "\n").first.map { " (pid \($0))" } ?? ""
            close(self.descriptor)
            throw CommandFailure("another ftnode dev\(holder) runs on \(root); stop it first, or choose another --data")
        }
        ftruncate(self.descriptor, 0)
        try Terminal.write(Array("\(getpid())\n".utf8), to: self.descriptor)
    }

    deinit { close(self.descriptor) }
}

/// Asks whether a port of the loopback address can be listened on.
enum PortProbe {
    static func isFree(_ port: Int) -> Bool {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        guard descriptor >= 0 else { return false }
        defer { close(descriptor) }
        var yes: Int32 = 1
        setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &yes, socklen_t(MemoryLayout<Int32>.size))
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = in_port_t(UInt16(port)).bigEndian
        address.sin_addr = in_addr(s_addr: UInt32(0x7F00_0001).bigEndian)
        let size = socklen_t(MemoryLayout<sockaddr_in>.size)
        return withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(descriptor, $0, size) == 0 }
        }
    }
}
