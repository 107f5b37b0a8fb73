import AuditLedger
import Foundation
import Primitives
import Testing

/// The inputs with which fuzzing begins, and those that it once found: the first byte says whose they are.
struct FuzzCorpusTests {
    static let folder = URL(filePath: #filePath).deletingLastPathComponent()
        .appending(path: "../../Fuzz/Corpus").standardized

    static func files() throws -> [URL] {
        try FileManager.default.contentsOfDirectory(at: Self.folder, includingPropertiesForKeys: nil)
            .sorted { $0.path < $1.path }
    }

    /// What the parser of a letter makes of an input, written again; nil when it refuses it.
    static func rewritten(_ letter: UInt8, _ input: [UInt8]) throws -> [UInt8]? {
        switch Character(UnicodeScalar(letter)) {
        case "a": return try? SignedNote(parsing: input).encoded
        case "b": return try? SignedCheckpoint(parsing: input).encoded
        case "c": return try? TransparencyProof(parsing: input).encoded
        case "d": return try? ForkProof(parsing: input).encoded
        case "e":
            guard let policy = try? TrustPolicy(parsing: input) else { return nil }
            #expect(try TrustPolicy(parsing: policy.encoded) == policy)
            return input
        case "f": return try? NoteVerifierKey(parsing: input).text
        case "g": return try? NoteSignerKey(parsing: input).secretText
        case "h": return try? ConsistencyProof(parsing: input).encoded
        case "i": return try? SelectionProof(parsing: input).encoded
        case "j": return (try? TilePath(parsing: input)).map { bytes($0.text) }
        case "k":
            guard let width = input.first else { return nil }
            let path = try TilePath(.entries, index: 0, width: Int(width) + 1)
            guard let entries = try? EntryBundle.entries(path: path, parsing: Array(input.dropFirst())) else {
                return nil
            }
            var bundle = [width]
            for entry in entries { try EntryBundle.append(Array(entry), to: &bundle) }
            return bundle
        case "l": return (try? EventDraft.parse(input, defaults: LedgerFixture.context)).map { _ in input }
        case "m": return try? CanonicalJSON.canonicalize(input)
        default:
            Issue.record("no parser \(letter)")
            return nil
        }
    }

    @Test func everyParserReadsItsOwnInputsAndWritesThemAgain() throws {
        var letters: Set<UInt8> = []
        for file in try Self.files() {
            let bytes = Array(try Data(contentsOf: file))
            let letter = try #require(bytes.first)
            letters.insert(letter)
            let rewritten = try Self.rewritten(letter, Array(bytes.dropFirst()))
            // A file whose name begins with «found-» is one that was once read, or worse, and must not be.
            if file.lastPathComponent.hasPrefix("found-") {
                #expect(rewritten == nil || rewritten == Array(bytes.dropFirst()), "\(file.lastPathComponent)")
            } else if letter == UInt8(ascii: "m") {
                #expect(rewritten != nil, "\(file.lastPathComponent)")
            } else {
                #expect(rewritten == Array(bytes.dropFirst()), "\(file.lastPathComponent)")
            }
        }
        #expect(letters == Set(UInt8(ascii: "a")...UInt8(ascii: "m")), "each parser has an input")
    }

    @Test(arguments: UInt64(1)...5) func damagedInputsNeverTrap(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        for file in try Self.files() {
            let input = Array(try Data(contentsOf: file))
            let letter = try #require(input.first)
            guard letter != UInt8(ascii: "m") else { continue }
            for _ in 0..<20 {
                let damaged = NoteFixture.damage(Array(input.dropFirst()), &generator)
                let rewritten = try Self.rewritten(letter, damaged)
                #expect(rewritten == nil || rewritten == damaged, "seed \(seed), \(file.lastPathComponent)")
            }
        }
    }
}
