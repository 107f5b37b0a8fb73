import Primitives
import Testing

@testable import AuditLedger

/// Checkpoints, cosignatures and receipts.
struct CheckpointTests {
    /// The example of C2SP tlog-cosignature.
    static let example = """
        example.com/behind-the-sofa
        20852163
        CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

        — example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=
        — witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==

        """

    @Test func readsTheExampleOfTheSpecification() throws {
        let signed = try SignedCheckpoint(parsing: Self.example.utf8)
        #expect(signed.checkpoint.origin.description == "example.com/behind-the-sofa")
        #expect(signed.checkpoint.size == 20_852_163)
        #expect(signed.checkpoint.root.hex.hasPrefix("0ac5186a91863e8e"))
        #expect(signed.checkpoint.extensions.isEmpty)
        #expect(text(signed.encoded) == Self.example)
        let cosignature = signed.note.signatures[1]
        #expect(cosignature.signature.count == NoteSignature.cosignatureBytes)
        // The time of the specification's example of a signed message.
        #expect(cosignature.signature.prefix(8).reduce(UInt64(0)) { $0 << 8 | UInt64($1) } == 1_679_315_147)
        let message = Cosignature.message(text: signed.note.text, timeSeconds: 1_679_315_147)
        #expect(
            text(message)
                == "cosignature/v1\ntime 1679315147\nexample.com/behind-the-sofa\n20852163\n"
                + "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
        )
    }

    @Test func acceptsExtensionLines() throws {
        let lines = "log.example - 42\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\nextension one\n*\n"
        let checkpoint = try Checkpoint(parsing: bytes(lines))
        #expect(checkpoint.size == 0)
        #expect(checkpoint.root == LedgerHash.emptyRoot)
        #expect(checkpoint.extensions.map { text($0) } == ["extension one", "*"])
        #expect(text(checkpoint.text) == lines)
        #expect(noteCode { _ = try checkpoint.origin.keyName } == .malformedKeyName)
    }

    @Test func namesWhatIsWrongWithACheckpoint() {
        let hash = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
        func code(_ text: String) -> NoteError.Code? { noteCode { _ = try Checkpoint(parsing: bytes(text)) } }
        #expect(code("o\n5\n\(hash)\n") == nil)
        #expect(code("o\n9223372036854775807\n\(hash)\n") == nil)
        #expect(code("o\n9223372036854775808\n\(hash)\n") == .numberTooLarge)
        #expect(code("o\n\(String(repeating: "9", count: 500))\n\(hash)\n") == .numberTooLarge)
        #expect(code("o\n05\n\(hash)\n") == .malformedNumber)
        #expect(code("o\n00\n\(hash)\n") == .malformedNumber)
        #expect(code("o\n+5\n\(hash)\n") == .malformedNumber)
        #expect(code("o\n-5\n\(hash)\n") == .malformedNumber)
        #expect(code("o\n5 \n\(hash)\n") == .malformedNumber)
        #expect(code("o\n\n\(hash)\n") == .malformedNumber)
        #expect(code("o\n٥\n\(hash)\n") == .malformedNumber)
        #expect(code("\n5\n\(hash)\n") == .malformedOrigin)
        #expect(code("\(String(repeating: "o", count: 256))\n5\n\(hash)\n") == .malformedOrigin)
        #expect(code("a\tb\n5\n\(hash)\n") == .malformedOrigin)
        #expect(code("o\n5\n\(hash.dropLast())\n") == .nonCanonicalBase64)
        #expect(code("o\n5\n\(hash.replacing("FU=", with: "FV="))\n") == .nonCanonicalBase64)
        #expect(code("o\n5\nAAAA\n") == .malformedHash)
        #expect(code("o\n5\n\n") == .malformedHash)
        #expect(code("o\n5\n\(hash)") == .truncated)
        #expect(code("o\n5\n") == .truncated)
        #expect(code("o\n5\n\(hash)\n\n") == .blankLine)
        #expect(code("o\n5\n\(hash)\nx\n\ny\n") == .blankLine)
        #expect(code("o\n5\n\(hash)\na\u{1}\n") == .invalidText)
        #expect(code("o\n5\n\(hash)\n" + String(repeating: "x\n", count: 33)) == .tooLarge)
        #expect(code("o\n5\n\(hash)\n" + String(repeating: "x", count: 70_000) + "\n") == .tooLarge)
    }

    @Test func twoBlankLinesMakeNoCheckpoint() throws {
        let twice = text(try NoteFixture.signed(size: 9).encoded).replacing("\n\n", with: "\n\n\n")
        #expect(noteCode { _ = try SignedCheckpoint(parsing: twice.utf8) } == .blankLine)
    }

    @Test func cosignaturesCoverTheTime() throws {
        let key = NoteFixture.replicas[0]
        var signed = try SignedCheckpoint(try NoteFixture.checkpoint(size: 7))
        try signed.cosign(key, timeSeconds: 12)
        #expect(try signed.note.verify(keys: [key.verifierKey]).map(\.timeSeconds) == [12])
        let line = signed.note.signatures[0]
        for place in line.signature.indices {
            var forged = line.signature
            forged[place] ^= 0x40
            let note = try SignedNote(
                text: signed.note.text,
                signatures: [NoteSignature(name: line.name, id: line.id, signature: forged)]
            )
            #expect(noteCode { _ = try note.verify(keys: [key.verifierKey]) } == .badSignature, "byte \(place)")
        }
        for cut in [0, 8, 64, 71] where cut > 0 {
            let note = try SignedNote(
                text: signed.note.text,
                signatures: [NoteSignature(name: line.name, id: line.id, signature: Array(line.signature.prefix(cut)))]
            )
            #expect(noteCode { _ = try note.verify(keys: [key.verifierKey]) } == .badSignature, "\(cut) bytes")
        }
        #expect(noteCode { try signed.cosign(key, timeSeconds: .max) } == .numberTooLarge)
        #expect(noteCode { try signed.sign(key) } == .unsupportedSignatureType)
        #expect(noteCode { try signed.cosign(NoteFixture.log, timeSeconds: 1) } == .unsupportedSignatureType)
    }

    /// The bytes of a cosignature do not serve as a log's signature by the same key, nor the other way round.
    @Test func oneSeedMaySignAsLogAndAsReplica() throws {
        let seed = [UInt8](repeating: 7, count: 32)
        let name = try NoteFixture.origin.keyName
        let log = try NoteSignerKey(name: name, type: .ed25519, seed: seed)
        let replica = try NoteSignerKey(name: name, type: .cosignature, seed: seed)
        #expect(log.verifierKey.publicKey == replica.verifierKey.publicKey)
        #expect(log.verifierKey.id != replica.verifierKey.id)
        let checkpoint = try NoteFixture.checkpoint(size: 7)
        let plain = try log.signature(over: checkpoint.text)
        let timed = try replica.cosignature(over: checkpoint, timeSeconds: 5)
        for (line, key) in [(plain, replica.verifierKey), (timed, log.verifierKey)] {
            let swapped = NoteSignature(name: key.name, id: key.id, signature: line.signature)
            let note = try SignedNote(text: checkpoint.text, signatures: [swapped])
            #expect(noteCode { _ = try note.verify(keys: [key]) } == .badSignature)
        }
    }

    @Test func receiptsCarryExtraAndPath() throws {
        let signed = try NoteFixture.signed(size: 777)
        let inclusion = try InclusionProof.build(index: 700, size: 777, from: NoteFixture.nodes)
        for extra in [nil, bytes("context")] {
            let receipt = try TransparencyProof(inclusion: inclusion, checkpoint: signed, extra: extra)
            let lines = text(receipt.encoded).split(separator: "\n", omittingEmptySubsequences: false)
            #expect(lines[0] == "c2sp.org/tlog-proof@v1")
            #expect(lines[1] == (extra == nil ? "index 700" : "extra Y29udGV4dA=="))
            #expect(try TransparencyProof(parsing: receipt.encoded) == receipt)
            try receipt.verifyInclusion(checksum: LargeTree.leaf(700))
            #expect(proofCode { try receipt.verifyInclusion(checksum: LargeTree.leaf(701)) } == .rootMismatch)
        }
        // The first leaf of a tree of one has an empty path.
        let one = try TransparencyProof(
            inclusion: InclusionProof(index: 0, size: 1, path: []),
            checkpoint: NoteFixture.signed(size: 1)
        )
        #expect(try TransparencyProof(parsing: one.encoded) == one)
        try one.verifyInclusion(checksum: LargeTree.leaf(0))
    }

    @Test func namesWhatIsWrongWithAReceipt() throws {
        let signed = try NoteFixture.signed(size: 777)
        let inclusion = try InclusionProof.build(index: 700, size: 777, from: NoteFixture.nodes)
        let good = text(try TransparencyProof(inclusion: inclusion, checkpoint: signed, extra: [1]).encoded)
        func code(_ text: String) -> NoteError.Code? { noteCode { _ = try TransparencyProof(parsing: text.utf8) } }
        #expect(code(good) == nil)
        #expect(code(good.replacing("@v1", with: "@v2")) == .malformedLine)
        #expect(code(good.replacing("index 700", with: "index 0700")) == .malformedNumber)
        #expect(code(good.replacing("index 700", with: "index  700")) == .malformedNumber)
        #expect(code(good.replacing("index 700", with: "index 99999999999999999999")) == .numberTooLarge)
        #expect(code(good.replacing("index 700", with: "Index 700")) == .malformedLine)
        #expect(code(good.replacing("extra AQ==", with: "extra AR==")) == .nonCanonicalBase64)
        #expect(code(good.replacing("extra AQ==", with: "extra ")) == .malformedLine)
        #expect(code(good.replacing("extra AQ==\n", with: "extra AQ==\nextra AQ==\n")) == .malformedLine)
        #expect(code(good.replacing("index 700\n", with: "index 700\nAAAA\n")) == .malformedHash)
        #expect(code(good.replacing("index 700\n", with: "index 700\n\n")) != nil)
        #expect(code("c2sp.org/tlog-proof@v1\nindex 1\n") == .truncated)
        #expect(code(good + "\n") != nil)
        let line = text(Base64.encode(Digest.zero.bytes)) + "\n"
        let long = good.replacing("index 700\n", with: "index 700\n" + String(repeating: line, count: 64))
        #expect(code(long) == .tooLarge)
        let big = good.replacing("AQ==", with: text(Base64.encode([UInt8](repeating: 0, count: 70_000))))
        #expect(code(big) == .tooLarge)
        // A path longer or shorter than the place asks for reads well and proves nothing.
        let short = InclusionProof(index: 700, size: 777, path: Array(inclusion.path.dropLast()))
        let receipt = try TransparencyProof(inclusion: short, checkpoint: signed)
        #expect(proofCode { try receipt.verifyInclusion(checksum: LargeTree.leaf(700)) } == .wrongLength)
        let beyond = try TransparencyProof(parsing: good.replacing("index 700", with: "index 777").utf8)
        #expect(proofCode { try beyond.verifyInclusion(checksum: LargeTree.leaf(700)) } == .beyondTree)
        let other = try InclusionProof.build(index: 700, size: 776, from: NoteFixture.nodes)
        #expect(noteCode { _ = try TransparencyProof(inclusion: other, checkpoint: signed) } == .malformedLine)
    }

    @Test func base64HasOneTextForEachByteString() throws {
        for count in 0..<40 {
            let data = (0..<count).map { UInt8($0 * 37 % 256) }
            let encoded = Base64.encode(data)
            #expect(Base64.decode(encoded[...]) == data)
            for place in encoded.indices {
                for character in UInt8.min...UInt8.max where character != encoded[place] {
                    var changed = encoded
                    changed[place] = character
                    if let read = Base64.decode(changed[...]) {
                        #expect(read != data && Base64.encode(read) == changed)
                    }
                }
            }
        }
        // RFC 4648 section 10.
        let vectors = [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        for (plain, encoded) in vectors { #expect(text(Base64.encode(bytes(plain))) == encoded) }
        for bad in ["=", "Zg=", "Zg", "Zh==", "Zm9=", "Z===", "====", "Zg==Zg==", "Zm9v\n", "Zm-_"] {
            #expect(Base64.decode(bytes(bad)[...]) == nil, "\(bad)")
        }
    }
}
