import Foundation
import HTTPTypes
import NIOCore
import NIOPosix
import Testing

@testable import Transport

/// Certificates of a throw-away CA, made with the `openssl` command in a temporary directory.
final class TestPKI: Sendable {
    let directory: String

    struct CommandFailed: Error {
        var arguments: [String]
        var output: String
    }

    init() throws {
        self.directory = NSTemporaryDirectory() + "transport-tests-\(UUID().uuidString)"  // ambient-ok: own directory
        try FileManager.default.createDirectory(atPath: self.directory, withIntermediateDirectories: true)
        try self.makeAuthority("ca")
    }

    deinit { try? FileManager.default.removeItem(atPath: self.directory) }

    func path(_ name: String) -> String { "\(self.directory)/\(name)" }

    /// Makes NAME.pem and NAME.key of a CA.
    func makeAuthority(_ name: String) throws {
        try self.openssl([
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-keyout", self.path("\(name).key"), "-out", self.path("\(name).pem"), "-days", "30",
            "-subj", "/CN=Test CA \(name)",
        ])
    }

    /// Makes NAME.pem and NAME.key, signed by a CA; `names` as openssl writes them, such as `DNS:localhost`.
    @discardableResult
    func makeCertificate(
        _ name: String,
        names: [String],
        authority: String = "ca",
        isExpired: Bool = false
    ) throws -> TLSClientConfiguration.Identity {
        let request = self.path("\(name).csr")
        let extensions = self.path("\(name).ext")
        try "subjectAltName=\(names.joined(separator: ","))\nextendedKeyUsage=serverAuth,clientAuth\n"
            .write(toFile: extensions, atomically: true, encoding: .utf8)
        try self.openssl([
            "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-keyout", self.path("\(name).key"), "-out", request, "-subj", "/CN=\(name)",
        ])
        // `-days -1` makes a certificate that ended yesterday.
        try self.openssl([
            "x509", "-req", "-in", request, "-CA", self.path("\(authority).pem"), "-CAkey",
            self.path("\(authority).key"), "-CAcreateserial", "-out", self.path("\(name).pem"),
            "-days", isExpired ? "-1" : "30", "-extfile", extensions,
        ])
        return TLSClientConfiguration.Identity(
            certificateChainFile: self.path("\(name).pem"),
            privateKeyFile: self.path("\(name).key")
        )
    }

    private func openssl(_ arguments: [String]) throws {
        let output = try run("openssl", arguments)
        guard output.status == 0 else { throw CommandFailed(arguments: arguments, output: output.text) }
    }
}

/// Runs a program and waits for its end.
func run(_ program: String, _ arguments: [String]) throws -> (status: Int32, text: String) {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = [program] + arguments
    let pipe = Pipe()
    process.standardOutput = pipe
    process.standardError = pipe
    process.standardInput = FileHandle.nullDevice
    try process.run()
    let data = pipe.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    return (process.terminationStatus, String(decoding: data, as: UTF8.self))
}

/// Certificates most tests share: `server` (localhost, 127.0.0.1), `node-1`, `node-2`.
let sharedPKI: Result<TestPKI, any Error> = Result {
    let pki = try TestPKI()
    try pki.makeCertificate("server", names: ["DNS:localhost", "IP:127.0.0.1"])
    try pki.makeCertificate("node-1", names: ["DNS:node-1", "IP:127.0.0.1"])
    try pki.makeCertificate("node-2", names: ["DNS:node-2", "IP:127.0.0.1"])
    return pki
}

/// A router made of a function.
struct TestRouter: RequestRouter {
    let plan: @Sendable (HTTPRequest, ConnectionInfo) -> RoutePlan

    func route(_ head: HTTPRequest, _ connection: ConnectionInfo) -> RoutePlan { self.plan(head, connection) }
}

/// A server on loopback and what is needed to reach it.
struct TestServer: Sendable {
    let server: HTTPServer
    let port: Int
    let pki: TestPKI

    func client(
        limits: TransportLimits = .patient,
        group: any EventLoopGroup = .singleton
    ) throws -> HTTPClient {
        HTTPClient(
            eventLoopGroup: group,
            tls: try ReloadableTLSContext(client: TLSClientConfiguration(caFile: self.pki.path("ca.pem"))),
            limits: limits
        )
    }

    func connect(limits: TransportLimits = .patient) async throws -> HTTPClientConnection {
        try await self.client(limits: limits).connect(host: "localhost", port: self.port)
    }

    func request(_ path: String, _ method: HTTPRequest.Method = .get, headerFields: HTTPFields = [:]) -> HTTPRequest {
        HTTPRequest(
            method: method,
            scheme: "https",
            authority: "localhost:\(self.port)",
            path: path,
            headerFields: headerFields
        )
    }
}

extension EventLoopGroup where Self == MultiThreadedEventLoopGroup {
    static var singleton: MultiThreadedEventLoopGroup { .singleton }
}

/// Runs a server for clients while `body` runs, then shuts it down at once.
func withServer<R: Sendable>(
    limits: TransportLimits = .patient,
    _ plan: @escaping @Sendable (HTTPRequest, ConnectionInfo) -> RoutePlan,
    _ body: (TestServer) async throws -> R
) async throws -> R {
    let pki = try sharedPKI.get()
    let tls = try ReloadableTLSContext(
        server: TLSServerConfiguration(
            certificateChainFile: pki.path("server.pem"),
            privateKeyFile: pki.path("server.key")
        )
    )
    let server = HTTPServer(
        host: "127.0.0.1",
        port: 0,
        tls: tls,
        limits: limits,
        eventLoopGroup: .singleton,
        router: TestRouter(plan: plan)
    )
    let port = try await server.start()
    do {
        let result = try await body(TestServer(server: server, port: port, pki: pki))
        await server.shutdown(graceful: false)
        return result
    } catch {
        await server.shutdown(graceful: false)
        throw error
    }
}

/// A one-shot event that tests wait for instead of for time.
actor Signal {
    private var isSet = false
    private var waiters: [CheckedContinuation<Void, Never>] = []

    func set() {
        self.isSet = true
        for waiter in self.waiters { waiter.resume() }
        self.waiters = []
    }

    func wait() async {
        if self.isSet { return }
        await withCheckedContinuation { self.waiters.append($0) }
    }
}

extension TransportLimits {
    /// Limits for tests over real sockets whose subject is not a time-out: none fires however busy the machine is.
    static var patient: TransportLimits {
        var limits = TransportLimits()
        limits.handshakeTimeout = .seconds(600)
        limits.headTimeout = .seconds(600)
        limits.collectTimeout = .seconds(600)
        limits.connectTimeout = .seconds(600)
        limits.idleTimeout = .seconds(600)
        limits.gracefulShutdownTimeout = .seconds(600)
        return limits
    }
}
