internal import Foundation
internal import NIOCore
internal import NIOPosix
internal import Testing

extension RealCluster.Shared {
    @Suite("Other programs, and bytes that are no requests")
    struct RawTrafficTests {
        /// Runs curl against node 1.
        /// - Returns: The status, the protocol's version, and the body.
        private static func curl(_ cluster: DevCluster, _ arguments: [String]) async throws -> (String, String) {
            let run = try await ChildProgram.run(
                "/usr/bin/curl",
                [
                    "--silent", "--show-error", "--max-time", "30", "--cacert", cluster.caFile, "--write-out",
                    "\n%{http_code} %{http_version}",
                ] + arguments
            )
            #expect(run.ending == .exited(0), "\(run.output)")
            var lines = run.output.split(separator: "\n", omittingEmptySubsequences: false)
            let summary = lines.popLast().map(String.init) ?? ""
            return (summary, lines.joined(separator: "\n"))
        }

        @Test(.timeLimit(.minutes(1)), arguments: [("--http1.1", "1.1"), ("--http2", "2")])
        func servesCurl(flag: String, version: String) async throws {
            let bench = try await Bench.prepare()
            let cluster = bench.cluster
            let url = "https://127.0.0.1:\(cluster.port)"
            let token = "authorization: \(cluster.authorization)"
            let health = try await Self.curl(cluster, [flag, "\(url)/healthz"])
            #expect(health == ("200 \(version)", "{\"status\":\"ok\"}"))
            let record = try await Self.curl(cluster, [flag, "-H", token, "\(url)\(Bench.recordsPath)/1"])
            #expect(record.0 == "200 \(version)" && record.1.contains("\"sequence\":1"), "\(record)")
            let missing = try await Self.curl(cluster, [flag, "-H", token, "\(url)\(Bench.recordsPath)/77"])
            #expect(missing.0 == "404 \(version)" && missing.1.contains("record_not_found"), "\(missing)")
        }

        /// A refusal that comes before the body was sent must still reach the sender.
        @Test(.timeLimit(.minutes(1)), arguments: [("--http1.1", "1.1"), ("--http2", "2")])
        func refusesUploadsSoThatCurlSeesWhy(flag: String, version: String) async throws {
            let bench = try await Bench.prepare()
            let cluster = bench.cluster
            let url = "https://127.0.0.1:\(cluster.port)\(Bench.recordsPath)"
            let event = try cluster.folder.write(Array(Bench.event("\"reason\":\"r\"").utf8), to: "event.json")
            let line = Bench.event("\"after\":\"\(String(repeating: "x", count: 50_000))\"") + "\n"
            let huge = try cluster.folder.write(Array(String(repeating: line, count: 90).utf8), to: "huge.ndjson")
            for _ in 0..<10 {
                let refused = try await Self.curl(
                    cluster,
                    [
                        flag, "-H", "authorization: Bearer no", "-H", "content-type: application/json", "-d",
                        "@\(event)", url,
                    ]
                )
                #expect(refused.0 == "401 \(version)" && refused.1.contains("unauthenticated"), "\(refused)")
            }
            for _ in 0..<3 {
                let tooLarge = try await Self.curl(
                    cluster,
                    [
                        flag, "-H", "authorization: \(cluster.authorization)", "-H",
                        "content-type: application/x-ndjson",
                        "--data-binary", "@\(huge)", url,
                    ]
                )
                #expect(tooLarge.0 == "413 \(version)" && tooLarge.1.contains("body_too_large"), "\(tooLarge)")
            }
            #expect(try await cluster.clientRecords(of: Bench.organization) == Bench.records)
        }

        private static let garbage: [(name: String, bytes: [UInt8])] = [
            ("zeros", [UInt8](repeating: 0, count: 4096)),
            ("HTTP without TLS", Array("GET / HTTP/1.1\r\nhost: x\r\n\r\n".utf8)),
            ("an HTTP/2 preface without TLS", Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8)),
            (
                "a TLS record of a wild length",
                [0x16, 0x03, 0x03, 0xFF, 0xFF] + [UInt8](repeating: 0xAA, count: 70_000)
            ),
            ("a hello that is none", [0x16, 0x03, 0x01, 0x00, 0x20, 0x01] + [UInt8](repeating: 0x5A, count: 64)),
        ]

        @Test(.timeLimit(.minutes(1)))
        func closesOnGarbageAndLivesOn() async throws {
            let bench = try await Bench.prepare()
            for port in [bench.cluster.port, bench.cluster.peerPort(1)] {
                for garbage in Self.garbage {
                    let channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
                        .connect(host: "127.0.0.1", port: port).get()
                    // The node may close before everything is written.
                    try? await channel.writeAndFlush(ByteBuffer(bytes: garbage.bytes)).get()
                    try await channel.closeFuture.get()
                }
                // One that says nothing and goes.
                let silent = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
                    .connect(host: "127.0.0.1", port: port).get()
                try await silent.close()
            }
            #expect(try await bench.cluster.send("GET", "/healthz").status == 200)
            #expect(try await bench.cluster.clientRecords(of: Bench.organization) == Bench.records)
        }
    }
}
