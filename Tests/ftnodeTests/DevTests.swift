internal import Foundation
internal import NodeRuntime
internal import Primitives
internal import Testing

@testable internal import ftnode

@Suite("The development cluster")
struct DevTests {
    private func withFolder(_ body: (String) throws -> Void) throws {
        let path = FileManager.default.temporaryDirectory.appendingPathComponent("dev-\(UUID().uuidString)").path
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: path) }
        try body(path)
    }

    @Test(arguments: [1, 2, 3, 5, 7])
    func preparesConfigurationsThatANodeAccepts(nodes: Int) throws {
        try self.withFolder { root in
            let layout = DevLayout(root: root, nodeCount: nodes, port: 20_000)
            let now = SystemTime.now()
            try layout.prepare(now: now)
            for node in layout.nodes {
                let loaded = try ConfigurationLoader.load(file: layout.configFile(node))
                try loaded.validate(now: now)
                #expect(loaded.configuration.apiListen.port == 20_000 + node - 1)
                #expect(loaded.configuration.peerListen.port == 20_100 + node - 1)
                #expect(!loaded.configuration.replicas.isMultiple(of: 2))
                #expect(loaded.configuration.dataDirectory == "\(root)/nodes/\(node)/data")
            }
            try layout.writeClientFile()
            let context = try ClientContext.load(path: layout.clientFile)
            #expect(context.addresses.count == nodes)
            #expect(context.caFile == layout.pki.caFile)
        }
    }

    @Test func comesBackWithTheSameTokenAndCertificates() throws {
        try self.withFolder { root in
            let layout = DevLayout(root: root, nodeCount: 1, port: 20_000)
            try layout.prepare(now: SystemTime.now())
            let files = [layout.tokenFile, layout.pki.certificateFile("node-1"), layout.configFile(1)]
            let before = try files.map { try WholeTextFile.read($0) }
            try layout.prepare(now: SystemTime.now())
            #expect(try files.map { try WholeTextFile.read($0) } == before)
            let mode = try FileManager.default.attributesOfItem(atPath: layout.tokenFile)[.posixPermissions] as? Int
            #expect(mode == 0o600)
            #expect(try !WholeTextFile.read(layout.configFile(1)).contains(before[0]))
        }
    }

    @Test func renewsACertificateThatIsAboutToExpire() throws {
        try self.withFolder { root in
            let layout = DevLayout(root: root, nodeCount: 1, port: 20_000)
            let now = SystemTime.now()
            try layout.prepare(now: now)
            let days = Int64(CertificateAuthority.DefaultDays.node)
            let later = Timestamp(microseconds: now.rawValue + (days * 24 - 1) * 3_600_000_000)
            try layout.prepare(now: later)
            let until = try CertificateFile(path: layout.pki.certificateFile("node-1")).validUntil
            #expect(until > Timestamp(microseconds: later.rawValue + 86_400_000_000))
        }
    }

    @Test func keepsNodesAndPortOfAFolder() throws {
        let existing = DevRecord(nodes: 5, port: 9000)
        #expect(
            try DevRecord.choose(existing: nil, nodes: nil, port: nil, root: "x") == DevRecord(nodes: 3, port: 8443)
        )
        #expect(try DevRecord.choose(existing: existing, nodes: nil, port: nil, root: "x") == existing)
        #expect(try DevRecord.choose(existing: existing, nodes: 5, port: 9000, root: "x") == existing)
        #expect(throws: CommandFailure.self) {
            try DevRecord.choose(existing: existing, nodes: 3, port: nil, root: "x")
        }
        #expect(throws: CommandFailure.self) {
            try DevRecord.choose(existing: existing, nodes: nil, port: 8443, root: "x")
        }
        try self.withFolder { root in
            try existing.write(root: root)
            #expect(try DevRecord.read(root: root) == existing)
        }
    }

    @Test func oneFolderHasOneSupervisor() throws {
        try self.withFolder { root in
            let first = try DevLock(root: root)
            #expect(throws: CommandFailure.self) { _ = try DevLock(root: root) }
            withExtendedLifetime(first) {}
        }
    }

    @Test func aTakenPortIsNotFree() throws {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(descriptor) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr = in_addr(s_addr: UInt32(0x7F00_0001).bigEndian)
        var size = socklen_t(MemoryLayout<sockaddr_in>.size)
        let isBound = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(descriptor, $0, size) == 0 }
        }
        #expect(isBound)
        #expect(listen(descriptor, 1) == 0)
        withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { _ = getsockname(descriptor, $0, &size) }
        }
        #expect(!PortProbe.isFree(Int(UInt16(bigEndian: address.sin_port))))
    }

    @Test func theDemoIsTheSameEveryTimeAndImportable() throws {
        let text = DemoEvents.ndjson()
        #expect(text == DemoEvents.ndjson())
        var planner = ImportPlanner()
        for line in text.utf8.split(separator: UInt8(ascii: "\n")) { _ = try planner.add(Array(line)[...]) }
        #expect(planner.eventCounts.keys.map(\.rawValue).sorted() == DemoEvents.organizations.map(\.key).sorted())
        #expect(planner.eventCounts.values.allSatisfy { $0 > 50 })
    }

    @Test func progressSaysShareRecordsAndRate() {
        var progress = ImportRun.Progress(totalBytes: 200)
        progress.appended = 1500
        progress.bytesRead = 100
        #expect(ImportReporter.line(progress, seconds: 2, hasBar: false) == "50% read, 1,500 records, 750/s")
        let bar = "[\(String(repeating: "#", count: 15))\(String(repeating: ".", count: 15))] "
        #expect(ImportReporter.line(progress, seconds: 2, hasBar: true) == bar + "50% read, 1,500 records, 750/s")
        progress.alreadyThere = 500
        #expect(
            ImportReporter.summary(progress, seconds: 2) == """
                RECORDS APPENDED  ALREADY THERE  ORGANIZATIONS  SECONDS  RECORDS/S
                           1,500            500              0      2.0      1,000

                """
        )
    }
}
