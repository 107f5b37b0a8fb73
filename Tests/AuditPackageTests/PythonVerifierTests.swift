import AuditLedger
import Foundation
import Primitives
import Testing

@testable import AuditPackage

/// The other verifier, which shares no line with ours: both must say the same.
@Suite struct PythonVerifierTests {
    static let script = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().appending(path: "Documentation/verify/verify.py").path

    /// Runs it on a package.
    private func run(_ package: [UInt8], keys: Bool = true) throws -> (status: Int32, output: String) {
        let folder = try TemporaryFolder()
        let file = folder.url.appending(path: "package.zip")
        try Data(package).write(to: file)
        let keyFile = folder.url.appending(path: "keys.json")
        try Data(PackageKey.encode(try PackageFixture.keys())).write(to: keyFile)
        return try python([Self.script, file.path] + (keys ? [keyFile.path] : []))
    }

    @Test(arguments: [1, 255, 256, 257, 600])
    func acceptsFullPackages(count: Int) throws {
        let result = try self.run(PackageFixture(records: count).package())
        #expect(result.status == 0, "\(result.output)")
        #expect(result.output.contains("\(count) of \(count) records"))
    }

    @Test func acceptsSelections() throws {
        let package = try PackageFixture(records: 600).package {
            $0.selection = .ranges([1...1, 5...5, 100...260, 600...600])
            $0.filters = [JSONMember("action", .text("update"))]
        }
        let result = try self.run(package)
        #expect(result.status == 0, "\(result.output)")
        #expect(result.output.contains("164 of 600 records"))
    }

    @Test func demandsKeysFromElsewhere() throws {
        let result = try self.run(PackageFixture(records: 3).package(), keys: false)
        #expect(result.status == 3, "\(result.output)")
    }

    @Test func demandsAQuorum() throws {
        let fixture = try PackageFixture(records: 3)
        let result = try self.run(try fixture.package { $0.checkpoint = try fixture.checkpoint(cosigners: [3]) })
        #expect(result.status == 3, "\(result.output)")
    }

    @Test(arguments: ["absent", "renamed", "changed"])
    func demandsTheSignatureOfTheManifest(change: String) throws {
        var package = try LoosePackage(try PackageFixture(records: 3).package())
        let text = String(decoding: package[PackageLayout.manifestSignature], as: UTF8.self)
        switch change {
        case "absent": package.remove(PackageLayout.manifestSignature)
        case "renamed":
            let name = text.replacing("/node-", with: "/nobody-")
            package[PackageLayout.manifestSignature] = Array(name.utf8)
        default:
            let manifest = String(decoding: package[PackageLayout.manifest], as: UTF8.self)
            package[PackageLayout.manifest] = Array(manifest.replacing("auditor-1", with: "auditor-2").utf8)
        }
        let result = try self.run(package.packed())
        #expect(result.status == (change == "changed" ? 1 : 3), "\(result.output)")
        #expect(result.output.contains("MANIFEST.sig"), "\(result.output)")
    }

    @Test(arguments: PackageTamperTests.forgeries)
    func agreesOnForgeries(forgery: PackageTamperTests.Forgery) throws {
        var package = try LoosePackage(
            try PackageFixture(records: 600).package {
                guard forgery.selection else { return }
                $0.selection = .ranges([100...110, 300...310])
                $0.filters = [JSONMember("action", .text("update"))]
            }
        )
        try forgery.change(&package)
        // It reads no proofs of single records, and trusts that what is repaired belongs there.
        let result = try self.run(package.packed())
        #expect([1, 2].contains(result.status) && result.output.hasPrefix("not valid:"), "\(result.output)")
    }
}
