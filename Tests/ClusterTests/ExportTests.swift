internal import Foundation
internal import Primitives
internal import Testing

extension RealCluster {
    @Suite("An exported package")
    struct ExportTests {
        static let script = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
            .deletingLastPathComponent().deletingLastPathComponent()
            .appending(path: "Documentation/verify/verify.py").path

        @Test(.timeLimit(.minutes(3)))
        func isVerifiedWithoutTheClusterByTwoPrograms() async throws {
            try await withFolder("export") { folder in
                let cluster = try await DevCluster.start(in: folder)
                do {
                    let log = EventLog(seed: 7, events: 900)
                    let file = try folder.write(log.ndjson, to: "log.ndjson")
                    let imported = try await cluster.ftnode("import", file, "--create-organizations")
                    #expect(imported.ending == .exited(0), "\(imported.output)")
                    let keys = try await cluster.ftnode("audit", "keys", "--format", "json")
                    let keyFile = try folder.write(Array(keys.output.utf8), to: "keys.json")
                    for organization in EventLog.organizations {
                        let whole = folder.file("\(organization).zip")
                        let made = try await cluster.ftnode("audit", "export", "--org", organization, "--output", whole)
                        #expect(made.ending == .exited(0), "\(made.output)")
                        try await Self.check(cluster, whole, keyFile, says: "every record up to the checkpoint")
                    }
                    try await Self.checkSelections(cluster, folder, keyFile, log)
                    try await Self.checkOtherForms(cluster, folder, log)
                    try await Self.checkForgery(cluster, folder, keyFile)
                } catch {
                    await cluster.stop()
                    throw error
                }
                await cluster.stop()
            }
        }

        /// Both verifiers take it with the keys, neither without.
        private static func check(
            _ cluster: DevCluster,
            _ package: String,
            _ keys: String,
            says text: String
        ) async throws {
            let ours = try await cluster.ftnode("audit", "verify-package", "--keys", keys, package)
            #expect(ours.ending == .exited(0) && ours.output.contains(text), "\(ours.output)")
            let unpinned = try await cluster.ftnode("audit", "verify-package", package)
            #expect(unpinned.ending == .exited(3), "\(unpinned.output)")
            let theirs = try await ChildProgram.run("/usr/bin/python3", [self.script, package, keys])
            #expect(theirs.ending == .exited(0), "\(theirs.output)")
        }

        private static func checkSelections(
            _ cluster: DevCluster,
            _ folder: TestFolder,
            _ keys: String,
            _ log: EventLog
        ) async throws {
            let filtered = folder.file("filtered.zip")
            let made = try await cluster.ftnode(
                "audit",
                "export",
                "--org",
                "north",
                "--action",
                "resolved",
                "--output",
                filtered
            )
            #expect(made.ending == .exited(0), "\(made.output)")
            let count = log.events.count { $0.organization == "north" && $0.action == "resolved" }
            #expect(made.output.contains("\"records\":\(count),"), "\(count) are expected: \(made.output)")
            try await self.check(cluster, filtered, keys, says: "left out and proven to exist")
            let range = folder.file("range.zip")
            let second = try await cluster.ftnode(
                "audit",
                "export",
                "--org",
                "north",
                "--first",
                "10",
                "--last",
                "30",
                "--output",
                range
            )
            #expect(second.ending == .exited(0), "\(second.output)")
            try await self.check(cluster, range, keys, says: "every record from 10 to 30")
            // The exports themselves are on record: one whole, one filtered, one of a range.
            let records = try await cluster.ftnode(
                "audit",
                "log",
                "--org",
                "north",
                "--action",
                "export",
                "--format",
                "json"
            )
            #expect(records.output.split(separator: "\n").count == 3, "\(records.output)")
            #expect(records.output.contains("\"filters\":{\"action\":\"resolved\"}"), "\(records.output)")
        }

        private static func checkOtherForms(
            _ cluster: DevCluster,
            _ folder: TestFolder,
            _ log: EventLog
        ) async throws {
            let count = log.events.count { $0.organization == "south" && $0.action == "queued" }
            for (format, lines) in [("ndjson", count), ("csv", count + 1), ("json", nil), ("parquet", nil)] {
                let output = folder.file("south.\(format)")
                let made = try await cluster.ftnode(
                    "audit",
                    "export",
                    "--org",
                    "south",
                    "--action",
                    "queued",
                    "--format",
                    format,
                    "--output",
                    output
                )
                #expect(made.ending == .exited(0), "\(made.output)")
                let bytes = try Data(contentsOf: URL(fileURLWithPath: output))
                #expect(!bytes.isEmpty)
                if let lines { #expect(bytes.count { $0 == 0x0A } == lines, "\(format)") }
                if format == "json" { _ = try JSONSerialization.jsonObject(with: bytes) }
                let manifest = try Data(contentsOf: URL(fileURLWithPath: output + ".manifest.json"))
                let text = String(decoding: manifest, as: UTF8.self)
                #expect(text.contains("\"records\":\(count),") && text.contains("\"sha256\""), "\(text)")
            }
        }

        private static func checkForgery(_ cluster: DevCluster, _ folder: TestFolder, _ keys: String) async throws {
            var bytes = [UInt8](try Data(contentsOf: URL(fileURLWithPath: folder.file("north.zip"))))
            let place = try #require(bytes.firstRange(of: Array("\"sequence\":17,".utf8))?.lowerBound)
            // Inside of the record: the last digit of its time.
            let time = try #require(bytes[..<place].lastIndex(of: UInt8(ascii: "Z")))
            bytes[time - 1] = bytes[time - 1] == UInt8(ascii: "0") ? UInt8(ascii: "1") : UInt8(ascii: "0")
            let forged = try folder.write(bytes, to: "forged.zip")
            let found = try await cluster.ftnode("audit", "verify-package", "--keys", keys, forged)
            #expect(found.ending == .exited(1), "\(found.output)")
            #expect(found.output.contains("the first bad record is 17: modified"), "\(found.output)")
        }
    }
}
