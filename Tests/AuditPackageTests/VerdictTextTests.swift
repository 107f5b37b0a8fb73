import AuditLedger
import Foundation
import Primitives
import Testing

@testable import AuditPackage

@Suite struct VerdictTextTests {
    private func inspect(
        _ package: [UInt8],
        keys: Bool = true,
        change: (inout PackageInspection) throws -> Void = { _ in }
    ) async throws -> PackageInspection.Outcome {
        let folder = try TemporaryFolder()
        let file = folder.url.appending(path: "package.zip").path
        try Data(package).write(to: URL(fileURLWithPath: file))
        var inspection = PackageInspection()
        if keys {
            inspection.keys = try PackageFixture.keys().map { String(decoding: $0.key.text, as: UTF8.self) }
        }
        try change(&inspection)
        return try await inspection.run(file: file)
    }

    @Test func givesThreeVerdicts() async throws {
        let outcome = try await self.inspect(try PackageFixture(records: 20).package())
        #expect(outcome.exit == .valid)
        for line in [
            "integrity     SOUND: 20 records are those that were signed",
            "completeness  COMPLETE: every record up to the checkpoint", "policy        MET: replicas 3 of 3, 2 needed",
            "verdict: valid", "manifest      signed by lab-cluster/node-1",
        ] {
            #expect(outcome.text.contains(line + "\n"), "\(line)\n\(outcome.text)")
        }
    }

    @Test func saysLoudlyThatNothingIsPinned() async throws {
        let outcome = try await self.inspect(try PackageFixture(records: 20).package(), keys: false)
        #expect(outcome.exit == .policyNotMet)
        #expect(outcome.text.contains("keys taken from the package itself, which proves nothing"))
        #expect(outcome.text.contains("verdict: consistent with its own keys only\n"))
    }

    @Test func namesTheFirstBadRecordInATable() async throws {
        var package = try LoosePackage(try PackageFixture(records: 20).package())
        var entries = try package.entries("tile/entries/000.p/20")
        entries[6] = PackageTamperTests.reword(entries[6])
        entries[9] = PackageTamperTests.reword(entries[9])
        try package.set(entries, at: "tile/entries/000.p/20")
        let outcome = try await self.inspect(package.packed())
        #expect(outcome.exit == .tampered)
        #expect(
            outcome.text.contains("integrity     TAMPERED: the first bad record is 7: modified\n"),
            "\(outcome.text)"
        )
        #expect(outcome.text.contains("\n10      modified"), "\(outcome.text)")
    }

    @Test func writesOneCanonicalJSONObject() async throws {
        let outcome = try await self.inspect(try PackageFixture(records: 20).package()) { $0.asJSON = true }
        let text = Array(outcome.text.utf8.dropLast())
        #expect(CanonicalJSON.isCanonical(text))
        let place = JSONPlace(try JSONParser.parse(text))
        #expect(try place.integer("exit_code") == 0)
        #expect(try place.required("integrity").string("verdict") == "sound")
        #expect(try place.required("policy").string("verdict") == "met")
    }

    @Test func saysWhyAPackageIsUnreadable() async throws {
        for asJSON in [false, true] {
            let outcome = try await self.inspect(Array("no archive at all".utf8)) { $0.asJSON = asJSON }
            #expect(outcome.exit == .unreadable)
            #expect(outcome.text.contains("not_an_archive"), "\(outcome.text)")
        }
    }

    @Test func keysThatCannotBeReadAreNoVerdict() async throws {
        await #expect(throws: PackageError.self) {
            try await self.inspect(try PackageFixture(records: 2).package()) { $0.keys = ["/nowhere/at/all"] }
        }
        await #expect(throws: PackageError.self) {
            try await self.inspect(try PackageFixture(records: 2).package()) { $0.origin = "" }
        }
    }

    @Test func readsKeysAsLinesAndAsJSON() throws {
        let keys = try PackageFixture.keys()
        let lines = "# nodes\n\n" + keys.map { String(decoding: $0.key.text, as: UTF8.self) + "\n" }.joined()
        #expect(try PackageKey.parse(Array(lines.utf8)).map(\.key) == keys.map(\.key))
        #expect(try PackageKey.parse(PackageKey.encode(keys)) == keys)
        for text in ["", "# none\n", "{\"keys\":[]}", "not a key\n", "{\"keys\":[{\"key\":\"x\"}]}"] {
            let error = #expect(throws: PackageError.self) { try PackageKey.parse(Array(text.utf8)) }
            #expect(error?.code == .malformed)
        }
    }

    @Test func nothingOfThePackageCommandsATerminal() {
        #expect(VerdictText.printable("a\u{1B}[2Jb\u{202E}c\nd") == "a\u{FFFD}[2Jb\u{FFFD}c\u{FFFD}d")
    }
}
