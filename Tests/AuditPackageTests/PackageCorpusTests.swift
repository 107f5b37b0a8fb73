import AuditLedger
import Foundation
import Primitives
import Testing

@testable import AuditPackage

/// The packages with which fuzzing begins, and those that it once found; the first byte is the fuzzer's.
@Suite struct PackageCorpusTests {
    static let folder = URL(filePath: #filePath).deletingLastPathComponent()
        .appending(path: "../../Fuzz/PackageCorpus").standardized

    /// What may be read without ending the process.
    private static func read(_ input: [UInt8]) -> PackageError? {
        let rest = Array(input.dropFirst())
        do {
            switch input.first {
            case UInt8(ascii: "n"): try PackageProbe.read(rest)
            case UInt8(ascii: "o"): try PackageProbe.read(part: PackageLayout.manifest, rest)
            case UInt8(ascii: "p"): try PackageProbe.read(part: PackageLayout.keys, rest)
            default: try PackageProbe.read(part: PackageLayout.outline(part: 0), rest)
            }
            return nil
        } catch {
            return error
        }
    }

    @Test func everyInputIsReadOrRefused() throws {
        let files = try FileManager.default.contentsOfDirectory(at: Self.folder, includingPropertiesForKeys: nil)
        #expect(files.count >= 5)
        for file in files {
            let error = Self.read([UInt8](try Data(contentsOf: file)))
            #expect(
                file.lastPathComponent.hasPrefix("found-") || error == nil,
                "\(file.lastPathComponent): \(error as Any)"
            )
        }
    }

    /// Writes the sound inputs anew; a change of the form shows in the repository.
    @Test(.enabled(if: ProcessInfo.processInfo.environment["FLASKTRACK_REWRITE"] != nil))
    func rewrites() throws {
        let fixture = try PackageFixture(records: 3)
        let full = try fixture.package()
        let selection = try fixture.package { $0.selection = .ranges([2...2]) }
        let loose = try LoosePackage(selection)
        let inputs: [(String, UInt8, [UInt8])] = [
            ("package-full", UInt8(ascii: "n"), full), ("package-selection", UInt8(ascii: "n"), selection),
            ("manifest", UInt8(ascii: "o"), loose[PackageLayout.manifest]),
            ("keys", UInt8(ascii: "p"), loose[PackageLayout.keys]),
            ("outline", UInt8(ascii: "q"), loose[PackageLayout.outline(part: 0)]),
        ]
        try FileManager.default.createDirectory(at: Self.folder, withIntermediateDirectories: true)
        for (name, letter, bytes) in inputs {
            try Data([letter] + bytes).write(to: Self.folder.appending(path: name))
        }
    }
}
