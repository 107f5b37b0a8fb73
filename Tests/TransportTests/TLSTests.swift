import Foundation
import HTTPTypes
import NIOCore
import NIOEmbedded
import NIOPosix
import Testing

@testable import Transport

@Suite(.timeLimit(.minutes(10)))
struct TLSTests {
    private static let answer = ServerResponse(status: .ok, body: .bytes(ByteBuffer(string: "ok\n")))

    /// Runs a server for peers that accepts only certificates for `node-1`.
    private func withPeerServer(_ body: (TestServer) async throws -> Void) async throws {
        let pki = try sharedPKI.get()
        let tls = try ReloadableTLSContext(
            server: TLSServerConfiguration(
                certificateChainFile: pki.path("node-2.pem"),
                privateKeyFile: pki.path("node-2.key"),
                clients: .peers(caFile: pki.path("ca.pem")),
                acceptsPeer: { $0.dnsNames.contains("node-1") }
            )
        )
        let server = HTTPServer(
            host: "127.0.0.1",
            port: 0,
            tls: tls,
            eventLoopGroup: .singleton,
            router: TestRouter { _, connection in
                .immediate(
                    ServerResponse(
                        status: .ok,
                        body: .bytes(ByteBuffer(string: connection.peerNames.joined(separator: ",")))
                    )
                )
            }
        )
        let port = try await server.start()
        do {
            try await body(TestServer(server: server, port: port, pki: pki))
        } catch {
            await server.shutdown(graceful: false)
            throw error
        }
        await server.shutdown(graceful: false)
    }

    private func peerClient(_ identity: String?, pki: TestPKI, ca: String = "ca") throws -> HTTPClient {
        HTTPClient(
            eventLoopGroup: .singleton,
            tls: try ReloadableTLSContext(
                client: TLSClientConfiguration(
                    caFile: pki.path("\(ca).pem"),
                    identity: identity.map {
                        TLSClientConfiguration.Identity(
                            certificateChainFile: pki.path("\($0).pem"),
                            privateKeyFile: pki.path("\($0).key")
                        )
                    }
                )
            )
        )
    }

    private func failure(_ body: () async throws -> Void) async throws -> TransportError {
        do {
            try await body()
        } catch {
            return try #require(error as? TransportError)
        }
        throw TransportError(.badConfiguration, "nothing was refused")
    }

    @Test func peersKnowEachOthersNames() async throws {
        try await self.withPeerServer { server in
            let client = try self.peerClient("node-1", pki: server.pki)
            let connection = try await client.connect(host: "127.0.0.1", port: server.port, expectedName: "node-2")
            #expect(connection.info.peerNames == ["node-2"])
            let response = try await connection.execute(server.request("/"))
            #expect(String(buffer: try await response.collect(upTo: 100)) == "node-1")
        }
    }

    @Test func refusesAPeerOfAnotherName() async throws {
        try await self.withPeerServer { server in
            let client = try self.peerClient("node-2", pki: server.pki)
            let error = try await self.failure { _ = try await client.connect(host: "127.0.0.1", port: server.port) }
            #expect(error.code == .handshakeFailed)
            #expect(error.message.contains("127.0.0.1:\(server.port)"))
        }
    }

    @Test func refusesAPeerWithoutACertificate() async throws {
        try await self.withPeerServer { server in
            let client = try self.peerClient(nil, pki: server.pki)
            let error = try await self.failure { _ = try await client.connect(host: "127.0.0.1", port: server.port) }
            #expect(error.code == .handshakeFailed)
            #expect(error.message.contains("certificate required"))
        }
    }

    @Test func refusesAPeerOfAnotherAuthority() async throws {
        let own = try TestPKI()
        try own.makeCertificate("node-1", names: ["DNS:node-1"])
        try await self.withPeerServer { server in
            let client = HTTPClient(
                eventLoopGroup: .singleton,
                tls: try ReloadableTLSContext(
                    client: TLSClientConfiguration(
                        caFile: server.pki.path("ca.pem"),
                        identity: TLSClientConfiguration.Identity(
                            certificateChainFile: own.path("node-1.pem"),
                            privateKeyFile: own.path("node-1.key")
                        )
                    )
                )
            )
            let error = try await self.failure { _ = try await client.connect(host: "127.0.0.1", port: server.port) }
            #expect(error.code == .untrustedCertificate)
            #expect(error.message.contains("unknown ca"))
        }
    }

    @Test func refusesAnExpiredPeer() async throws {
        let pki = try sharedPKI.get()
        try pki.makeCertificate("expired-node", names: ["DNS:node-1"], isExpired: true)
        try await self.withPeerServer { server in
            let client = try self.peerClient("expired-node", pki: pki)
            let error = try await self.failure { _ = try await client.connect(host: "127.0.0.1", port: server.port) }
            #expect(error.code == .certificateExpired)
            #expect(error.message.contains("said by the other side"))
        }
    }

    @Test func peersSpeakOnlyTLS13() async throws {
        try await self.withPeerServer { server in
            let arguments = [
                "s_client", "-connect", "127.0.0.1:\(server.port)", "-CAfile", server.pki.path("ca.pem"), "-alpn", "h2",
                "-cert", server.pki.path("node-1.pem"), "-key", server.pki.path("node-1.key"),
            ]
            let old = try run("openssl", arguments + ["-tls1_2"])
            #expect(old.text.contains("alert protocol version"))
            let new = try run("openssl", arguments + ["-tls1_3"])
            #expect(new.text.contains("Verify return code: 0 (ok)"))
        }
    }

    @Test func refusesAServerOfAnotherName() async throws {
        try await withServer { _, _ in
            .immediate(Self.answer)
        } _: { server in
            let error = try await self.failure {
                _ = try await server.client().connect(host: "127.0.0.1", port: server.port, expectedName: "node-9")
            }
            #expect(error.code == .certificateNameMismatch)
            #expect(error.message.contains("hostname mismatch"))
            #expect(error.message.contains("localhost"))
            // An address is checked against addresses.
            _ = try await server.client().connect(host: "127.0.0.1", port: server.port)
        }
    }

    @Test func refusesAServerOfAnotherAuthority() async throws {
        let other = try TestPKI()
        try await withServer { _, _ in
            .immediate(Self.answer)
        } _: { server in
            let client = try self.peerClient(nil, pki: other)
            let error = try await self.failure { _ = try await client.connect(host: "localhost", port: server.port) }
            #expect(error.code == .untrustedCertificate)
            #expect(error.message.contains("localhost:\(server.port)"))
        }
    }

    @Test func readsCertificatesAgainWithoutARestart() async throws {
        let pki = try TestPKI()
        try pki.makeCertificate("live", names: ["DNS:localhost"], isExpired: true)
        let tls = try ReloadableTLSContext(
            server: TLSServerConfiguration(
                certificateChainFile: pki.path("live.pem"),
                privateKeyFile: pki.path("live.key")
            )
        )
        let server = HTTPServer(
            host: "127.0.0.1",
            port: 0,
            tls: tls,
            eventLoopGroup: .singleton,
            router: TestRouter { _, _ in .immediate(Self.answer) }
        )
        let port = try await server.start()
        let client = try self.peerClient(nil, pki: pki)
        let error = try await self.failure { _ = try await client.connect(host: "localhost", port: port) }
        #expect(error.code == .certificateExpired)
        #expect(error.message.contains("certificate has expired"))

        try pki.makeCertificate("live", names: ["DNS:localhost"])
        try tls.reload()
        let connection = try await client.connect(host: "localhost", port: port)
        #expect(
            try await connection.execute(HTTPRequest(method: .get, scheme: "https", authority: "localhost", path: "/"))
                .head.status == .ok
        )

        // A broken file leaves the working certificate in use, also for the open connection.
        try "nothing".write(toFile: pki.path("live.pem"), atomically: true, encoding: .utf8)
        let reloadError = try await self.failure { try tls.reload() }
        #expect(reloadError.code == .badConfiguration)
        #expect(reloadError.message.contains("live.pem"))
        #expect(
            try await connection.execute(HTTPRequest(method: .get, scheme: "https", authority: "localhost", path: "/"))
                .head.status == .ok
        )
        _ = try await client.connect(host: "localhost", port: port)
        await server.shutdown(graceful: false)
    }

    @Test func inspectsCertificates() throws {
        let pki = try sharedPKI.get()
        let certificate = try CertificateInspector.inspect(file: pki.path("server.pem"))
        #expect(certificate.dnsNames == ["localhost"])
        #expect(certificate.ipAddresses == ["127.0.0.1"])
        #expect(certificate.subject == "CN = server")
        #expect(certificate.issuer == "CN = Test CA ca")
        let days30: Int64 = 30 * 86_400
        #expect(certificate.notAfterUnixSeconds - certificate.notBeforeUnixSeconds == days30)
        let file = pki.path("server.pem")
        try CertificateInspector.requireValid(file: file, nowUnixSeconds: certificate.notBeforeUnixSeconds + 1)
        for wrong in [certificate.notBeforeUnixSeconds - 1, certificate.notAfterUnixSeconds + 1] {
            #expect {
                try CertificateInspector.requireValid(file: file, nowUnixSeconds: wrong)
            } throws: {
                ($0 as? TransportError)?.code == .certificateExpired && "\($0)".contains(file)
            }
        }
        #expect(throws: TransportError.self) { try CertificateInspector.inspect(file: "/nowhere.pem") }
        #expect(throws: TransportError.self) { try CertificateInspector.inspect(file: pki.path("server.key")) }
    }

    @Test func refusesAKeyOfAnotherCertificate() throws {
        let pki = try sharedPKI.get()
        #expect {
            try TLSContext(
                server: TLSServerConfiguration(
                    certificateChainFile: pki.path("server.pem"),
                    privateKeyFile: pki.path("node-1.key")
                )
            )
        } throws: {
            ($0 as? TransportError)?.code == .badConfiguration && "\($0)".contains("node-1.key")
        }
    }

    @Test(arguments: ["--http2", "--http1.1"], ["--tlsv1.3", "--tls-max=1.2"])
    func servesCurl(version: String, tls: String) async throws {
        let plan: @Sendable (HTTPRequest, ConnectionInfo) -> RoutePlan = { head, connection in
            guard head.method == .post else {
                return .immediate(
                    ServerResponse(
                        status: .ok,
                        body: .bytes(ByteBuffer(string: "\(connection.applicationProtocol) \(connection.tlsVersion)"))
                    )
                )
            }
            return .collected(bodyBytesMax: 1 << 20) { _, body in
                ServerResponse(status: .ok, body: .bytes(ByteBuffer(string: "\(body.readableBytes)")))
            }
        }
        try await withServer(plan) { server in
            let file = server.pki.path("body-\(version)\(tls)")
            try Data(repeating: 65, count: 500_000).write(to: URL(fileURLWithPath: file))
            let common =
                ["-sS", "--cacert", server.pki.path("ca.pem"), version] + tls.split(separator: "=").map(String.init)
            let url = "https://localhost:\(server.port)/"
            let get = try run("curl", common + [url])
            let expected =
                (version == "--http2" ? "h2" : "http/1.1") + (tls == "--tlsv1.3" ? " TLSv1.3" : " TLSv1.2")
            #expect(get.text == expected)
            let post = try run("curl", common + ["--data-binary", "@\(file)", "-H", "Expect: 100-continue", url])
            #expect(post.text == "500000")
        }
    }
    /// Hands what each side has written to the other until both are silent.
    private static func exchange(_ one: EmbeddedChannel, _ other: EmbeddedChannel) throws {
        var isSilent = false
        while !isSilent {
            isSilent = true
            for (from, to) in [(one, other), (other, one)] {
                while let part = try from.readOutbound(as: ByteBuffer.self) {
                    if part.readableBytes > 0 { isSilent = false }
                    try to.writeInbound(part)
                }
            }
        }
    }

    @Test func writingNothingIsDoneWhenWhatWasWrittenBeforeIs() throws {
        let pki = try sharedPKI.get()
        let server = try TLSContext(
            server: TLSServerConfiguration(
                certificateChainFile: pki.path("server.pem"),
                privateKeyFile: pki.path("server.key")
            )
        )
        let client = try TLSContext(client: TLSClientConfiguration(caFile: pki.path("ca.pem")))
        let channels = try [(server, String?.none), (client, "localhost")].map { context, name in
            let channel = EmbeddedChannel()
            try channel.connect(to: SocketAddress(ipAddress: "127.0.0.1", port: 1)).wait()
            try channel.pipeline.syncOperations.addHandler(
                TLSHandler(context: context, peer: "test", serverName: name, handshakeTimeout: .seconds(10))
            )
            return channel
        }
        defer { for channel in channels { _ = try? channel.finish(acceptAlreadyClosed: true) } }
        try Self.exchange(channels[1], channels[0])

        let socket = FullSocket()
        try channels[0].pipeline.syncOperations.addHandler(socket, position: .first)
        var done: [String] = []
        for text in ["something", ""] {
            let written = channels[0].writeAndFlush(ByteBuffer(string: text))
            written.assumeIsolated().whenSuccess { done.append(text) }
        }
        #expect(done.isEmpty)
        socket.drain()
        #expect(done == ["something", ""])
        try Self.exchange(channels[0], channels[1])
        #expect(try channels[1].readInbound(as: ByteBuffer.self) == ByteBuffer(string: "something"))
    }
}
