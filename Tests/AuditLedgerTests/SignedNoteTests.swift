import Primitives
import Testing

@testable import AuditLedger

/// Notes and their keys, against the example of the format's first implementation (Go's sumdb/note).
struct SignedNoteTests {
    static let peter = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
    static let peterSecret = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
    static let enoch = "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop"
    static let body =
        "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
    static let peterLine =
        "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
    static let enochLine =
        "— EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=\n"

    static func verifierKey(_ text: String) throws -> NoteVerifierKey { try NoteVerifierKey(parsing: text) }
    static func note(_ lines: String...) throws -> SignedNote {
        try SignedNote(parsing: (Self.body + "\n" + lines.joined()).utf8)
    }

    @Test func readsAndVerifiesThePublishedNote() throws {
        let note = try Self.note(Self.peterLine, Self.enochLine)
        #expect(text(note.text) == Self.body)
        #expect(note.signatures.map(\.name.description) == ["PeterNeumann", "EnochRoot"])
        #expect(text(note.encoded) == Self.body + "\n" + Self.peterLine + Self.enochLine)
        let (peter, enoch) = (try Self.verifierKey(Self.peter), try Self.verifierKey(Self.enoch))
        #expect(peter.id.description == "c74f20a3")
        #expect(try note.verify(keys: [peter]).map(\.key) == [peter])
        #expect(try note.verify(keys: [enoch, peter]).map(\.key) == [peter, enoch])
        // The same key twice is one key.
        #expect(try note.verify(keys: [peter, peter]).map(\.key) == [peter])
    }

    @Test func secretKeySignsAsPublished() throws {
        let key = try NoteSignerKey(parsing: bytes(Self.peterSecret))
        #expect(text(key.secretText) == Self.peterSecret)
        #expect(text(key.verifierKey.text) == Self.peter)
        #expect("\(key)" == "PeterNeumann+c74f20a3")
        var note = try SignedNote(text: bytes(Self.body))
        try note.add(try key.signature(over: note.text))
        #expect(try note.verify(keys: [key.verifierKey]).count == 1)
        #expect(try SignedNote(parsing: note.encoded) == note)
        // Signing again replaces the line.
        try note.add(try key.signature(over: note.text))
        #expect(note.signatures.count == 1)
    }

    /// RFC 8032 section 7.1, tests 1 to 3: public key of the seed, and the signature of the message.
    @Test(arguments: [
        (
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe2"
                + "4655141438e7a100b"
        ),
        (
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aee"
                + "b00d291612bb0c00"
        ),
        (
            "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025", "af82",
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28d"
                + "c027beceea1ec40a"
        ),
    ])
    func agreesWithRFC8032(seed: String, publicKey: String, message: String, signature: String) throws {
        let name = try NoteKeyName("rfc8032")
        let signer = try NoteSignerKey(name: name, type: .ed25519, seed: hexBytes(seed))
        #expect(Hex.encode(signer.verifierKey.publicKey) == publicKey)
        let key = try NoteVerifierKey(name: name, type: .ed25519, publicKey: hexBytes(publicKey))
        #expect(key.isValid(hexBytes(signature)[...], over: hexBytes(message)))
        #expect(key.isValid(try signer.sign(hexBytes(message))[...], over: hexBytes(message)))
        for place in 0..<64 {
            var forged = hexBytes(signature)
            forged[place] ^= 1
            #expect(!key.isValid(forged[...], over: hexBytes(message)), "byte \(place)")
        }
        #expect(!key.isValid(hexBytes(signature)[...], over: hexBytes(message) + [0]))
    }

    @Test func refusesEveryMangledKey() throws {
        let all = bytes(Self.peter)
        let secret = bytes(Self.peterSecret)
        for (whole, isSecret) in [(all, false), (secret, true)] {
            func parse(_ text: [UInt8]) throws {
                if isSecret { _ = try NoteSignerKey(parsing: text) } else { _ = try NoteVerifierKey(parsing: text) }
            }
            try parse(whole)
            for start in 0...whole.count {
                for end in start...whole.count where start > 0 || end < whole.count {
                    #expect(noteCode { try parse(Array(whole[start..<end])) } != nil, "\(start)..<\(end)")
                }
            }
            for place in whole.indices {
                for change in [UInt8(1), 0x20, 0x80] {
                    var mangled = whole
                    mangled[place] ^= change
                    #expect(noteCode { try parse(mangled) } != nil, "byte \(place) ^ \(change)")
                }
            }
        }
    }

    @Test func namesWhatIsWrongWithAKey() {
        func code(_ text: String) -> NoteError.Code? { noteCode { _ = try Self.verifierKey(text) } }
        #expect(code("PeterNeumann+c74f20a3") == .malformedKey)
        #expect(code("PeterNeumann+c74f20a+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW") == .malformedKey)
        #expect(code("PeterNeumann+C74F20A3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW") == .malformedKey)
        #expect(code("PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW") == .keyIDMismatch)
        #expect(code("PeterNeuman+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW") == .keyIDMismatch)
        #expect(code("+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW") == .malformedKeyName)
        #expect(code("Peter Neumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW") == .malformedKeyName)
        #expect(code("Peter\u{2003}N+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW") == .malformedKeyName)
        #expect(code("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10T") == .nonCanonicalBase64)
        // The two refused keys of the first implementation's tests.
        #expect(
            code("PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEY==")
                != nil
        )
        #expect(
            code("PeterNeumann+173116ae+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW") == .unsupportedSignatureType
        )
        #expect(noteCode { _ = try NoteSignerKey(parsing: bytes(Self.peter)) } == .malformedKey)
        #expect(
            noteCode { _ = try NoteSignerKey(name: NoteKeyName("a"), type: .ed25519, seed: [1, 2]) } == .malformedKey
        )
        #expect(
            noteCode { _ = try NoteVerifierKey(name: NoteKeyName("a"), type: .ed25519, publicKey: [1]) }
                == .malformedKey
        )
        #expect(noteCode { _ = try NoteKeyName(String(repeating: "a", count: 256)) } == .malformedKeyName)
        #expect(noteCode { _ = try NoteKeyName([0xFF]) } == .malformedKeyName)
    }

    /// Composed and decomposed letters are two names, though Swift's strings call them equal.
    @Test func namesAreComparedAsBytes() throws {
        #expect(try NoteKeyName("\u{e9}") != NoteKeyName("e\u{301}"))
        #expect(try LogOrigin("\u{e9}") != LogOrigin("e\u{301}"))
    }

    @Test func refusesMalformedNotes() throws {
        func code(_ note: String) -> NoteError.Code? { noteCode { _ = try SignedNote(parsing: note.utf8) } }
        let good = Self.body + "\n" + Self.peterLine
        #expect(code(good) == nil)
        #expect(code(Self.body) == .noSignatures)
        #expect(code(Self.body + "\n") == .noSignatures)
        #expect(code("\n" + Self.peterLine) == .noSignatures)
        #expect(code("") == .truncated)
        #expect(code(String(good.dropLast())) == .truncated)
        #expect(code("\u{1}" + good) == .invalidText)
        #expect(code(good.replacing("\n", with: "\r\n")) == .invalidText)
        #expect(noteCode { _ = try SignedNote(parsing: [0xFF] + bytes(good)) } == .invalidText)
        #expect(code(good + "Unexpected line.\n") == .malformedSignature)
        #expect(code(Self.body + "\n— Bad Name " + Self.peterLine.dropFirst(15)) != nil)
        #expect(code(Self.body + "\n" + Self.peterLine.replacing("— ", with: "- ")) == .malformedSignature)
        #expect(code(Self.body + "\n— PeterNeumann\n") == .malformedSignature)
        #expect(code(Self.body + "\n— PeterNeumann x08gow==\n") == .malformedSignature)
        #expect(code(Self.body + "\n— Peter+Neumann x08go/Y=\n") == .malformedKeyName)
        #expect(code(good.replacing("JnAM=", with: "JnAN=")) == .nonCanonicalBase64)
        #expect(code(good.replacing("JnAM=", with: "JnAM")) == .nonCanonicalBase64)
        #expect(code(good.replacing("JnAM=", with: "JnAM==")) == .nonCanonicalBase64)
        #expect(code(good.replacing("JnAM=", with: "JnAM= ")) == .nonCanonicalBase64)
        #expect(code(good.replacing("JnAM=", with: "Jn-M=")) == .nonCanonicalBase64)
        let line = Self.enochLine
        #expect(code(Self.body + "\n" + String(repeating: line, count: SignedNote.signaturesMax)) == nil)
        #expect(code(Self.body + "\n" + String(repeating: line, count: SignedNote.signaturesMax + 1)) == .tooLarge)
        #expect(code(String(repeating: "a", count: SignedNote.bytesMax) + good) == .tooLarge)
        #expect(noteCode { _ = try SignedNote(text: bytes("no newline")) } == .truncated)
        #expect(noteCode { _ = try SignedNote(text: bytes("a\tb\n")) } == .invalidText)
    }

    /// The text may contain blank lines: the last one divides.
    @Test func textMayContainBlankLines() throws {
        let note = try SignedNote(parsing: ("a\n\nb\n\n\n" + Self.peterLine).utf8)
        #expect(text(note.text) == "a\n\nb\n\n")
        #expect(noteCode { _ = try Checkpoint(parsing: bytes("a\n1\n\n")) } != nil)
    }

    @Test func believesKnownKeysOnly() throws {
        let (peter, enoch) = (try Self.verifierKey(Self.peter), try Self.verifierKey(Self.enoch))
        func code(_ note: SignedNote, _ keys: NoteVerifierKey...) -> NoteError.Code? {
            noteCode { _ = try note.verify(keys: keys) }
        }
        #expect(code(try Self.note(Self.peterLine), enoch) == .unknownSigner)
        #expect(code(try Self.note(Self.peterLine)) == .unknownSigner)
        #expect(code(try Self.note(Self.peterLine, Self.peterLine), peter) == .repeatedSigner)
        // Repeated lines by strangers are ignored like any others of theirs.
        #expect(code(try Self.note(Self.enochLine, Self.peterLine, Self.enochLine), peter) == nil)
        let other = try SignedNote(parsing: ("Another text.\n\n" + Self.peterLine).utf8)
        #expect(code(other, peter) == .badSignature)
        #expect(code(try Self.note(Self.enochLine), peter, enoch) == nil)
        // A key with the same name and id, but other bytes.
        let real = NoteFixture.key("PeterNeumann", .ed25519, seed: 5)
        let signature = NoteSignature(
            name: real.name,
            id: peter.id,
            signature: try real.signature(over: bytes(Self.body)).signature
        )
        #expect(code(try SignedNote(text: bytes(Self.body), signatures: [signature]), peter) == .badSignature)
        // Same name, other id; same id, other name: both are strangers.
        #expect(code(try Self.note(Self.peterLine), real.verifierKey) == .unknownSigner)
        let renamed = try Self.note(Self.peterLine.replacing("PeterNeumann", with: "PeterNewmann"))
        #expect(code(renamed, peter) == .unknownSigner)
    }

    @Test func refusesEveryChangedByteOfASignedNote() throws {
        let note = bytes(Self.body + "\n" + Self.peterLine)
        let peter = try Self.verifierKey(Self.peter)
        for place in note.indices {
            for change in [UInt8(0x01), 0x20, 0x80] {
                var forged = note
                forged[place] ^= change
                #expect(
                    noteCode { _ = try SignedNote(parsing: forged).verify(keys: [peter]) } != nil,
                    "byte \(place) ^ \(change)"
                )
            }
        }
    }

    @Test(arguments: UInt64(1)...20) func damageNeverTrapsAndWhatIsReadHasOneSpelling(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        let receipt = try TransparencyProof(
            inclusion: InclusionProof.build(index: 700, size: 777, from: NoteFixture.nodes),
            checkpoint: NoteFixture.signed(size: 777),
            extra: bytes("context")
        )
        let fork = try ForkProof(NoteFixture.signed(size: 5), NoteFixture.signed(size: 5, root: .zero))
        let selection = try SelectionProof.build(ranges: [3..<9, 100..<101], size: 777, from: NoteFixture.nodes)
        let consistency = try ConsistencyProof.build(from: 700, to: 777, nodes: NoteFixture.nodes)
        for _ in 0..<60 {
            let note = NoteFixture.damage(receipt.checkpoint.encoded, &generator)
            if let read = try? SignedNote(parsing: note) { #expect(read.encoded == note, "seed \(seed)") }
            if let read = try? SignedCheckpoint(parsing: note) { #expect(read.encoded == note, "seed \(seed)") }
            let proof = NoteFixture.damage(receipt.encoded, &generator)
            if let read = try? TransparencyProof(parsing: proof) { #expect(read.encoded == proof, "seed \(seed)") }
            let forked = NoteFixture.damage(fork.encoded, &generator)
            if let read = try? ForkProof(parsing: forked) { #expect(read.encoded == forked, "seed \(seed)") }
            let selected = NoteFixture.damage(selection.encoded, &generator)
            if let read = try? SelectionProof(parsing: selected) {
                #expect(read.encoded == selected, "seed \(seed)")
                _ = try? read.root(leaves: [Digest.zero])
            }
            let consistent = NoteFixture.damage(consistency.encoded, &generator)
            if let read = try? ConsistencyProof(parsing: consistent) {
                #expect(read.encoded == consistent, "seed \(seed)")
                try? read.verify(oldRoot: .zero, newRoot: .zero)
            }
        }
    }
}
