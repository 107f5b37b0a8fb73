internal import AuditLedger
internal import AuditPackage
internal import Primitives

/// Called by libFuzzer with one input after the other; a trap in here is a finding.
///
/// The first byte chooses the parser, the rest is its input. Whatever a parser accepts must come out again as the same
/// bytes: a text that could be spelled in two ways would let one signature cover two notes.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzOneInput(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    guard let first = UnsafeBufferPointer(start: start, count: count).first else { return 0 }
    FuzzedParser.parser(first).run(Array(UnsafeBufferPointer(start: start, count: count).dropFirst()))
    return 0
}

/// One of the parsers of bytes that strangers send; the raw value is the first byte of an input.
enum FuzzedParser: UInt8, CaseIterable {
    case note = 0x61
    case checkpoint
    case receipt
    case fork
    case policy
    case verifierKey
    case signerKey
    case consistency
    case selection
    case tilePath
    case bundle
    case event
    case json
    case package
    case manifest
    case keys
    case outline

    static func parser(_ byte: UInt8) -> FuzzedParser {
        FuzzedParser(rawValue: byte) ?? self.allCases[Int(byte) % self.allCases.count]
    }

    func run(_ input: [UInt8]) {
        switch self {
        case .note: Self.expectSame(input, (try? SignedNote(parsing: input))?.encoded)
        case .checkpoint: Self.runCheckpoint(input)
        case .receipt: Self.runReceipt(input)
        case .fork: Self.expectSame(input, (try? ForkProof(parsing: input))?.encoded)
        case .policy: Self.runPolicy(input)
        case .verifierKey: Self.expectSame(input, (try? NoteVerifierKey(parsing: input))?.text)
        case .signerKey: Self.expectSame(input, (try? NoteSignerKey(parsing: input))?.secretText)
        case .consistency: Self.runConsistency(input)
        case .selection: Self.runSelection(input)
        case .tilePath: Self.expectSame(input, (try? TilePath(parsing: input)).map { Array($0.text.utf8) })
        case .bundle: Self.runBundle(input)
        case .event: Self.runEvent(input)
        case .json: Self.runJSON(input)
        case .package: try? PackageProbe.read(input)
        case .manifest: try? PackageProbe.read(part: "MANIFEST.json", input)
        case .keys: try? PackageProbe.read(part: "keys.json", input)
        case .outline: try? PackageProbe.read(part: "outline/000000.ndjson", input)
        }
    }

    private static func expectSame(_ input: [UInt8], _ output: [UInt8]?) {
        guard let output else { return }
        precondition(input == output, "what is accepted has one spelling")
    }

    private static func runCheckpoint(_ input: [UInt8]) {
        guard let signed = try? SignedCheckpoint(parsing: input) else { return }
        self.expectSame(input, signed.encoded)
        precondition(signed.checkpoint.text == signed.note.text, "the text is that of the checkpoint")
        let keys = signed.note.signatures.compactMap { line in
            try? NoteVerifierKey(name: line.name, type: .ed25519, publicKey: [UInt8](repeating: 1, count: 32))
        }
        _ = try? signed.note.verify(keys: keys)
    }

    private static func runReceipt(_ input: [UInt8]) {
        guard let receipt = try? TransparencyProof(parsing: input) else { return }
        self.expectSame(input, receipt.encoded)
        try? receipt.verifyInclusion(checksum: .zero)
    }

    private static func runPolicy(_ input: [UInt8]) {
        guard let policy = try? TrustPolicy(parsing: input) else { return }
        precondition((try? TrustPolicy(parsing: policy.encoded)) == policy, "a policy survives being written")
        _ = policy.evaluate(cosigners: Set(policy.witnesses.map(\.name)))
    }

    private static func runConsistency(_ input: [UInt8]) {
        guard let proof = try? ConsistencyProof(parsing: input) else { return }
        self.expectSame(input, proof.encoded)
        try? proof.verify(oldRoot: .zero, newRoot: .zero)
    }

    private static func runSelection(_ input: [UInt8]) {
        guard let proof = try? SelectionProof(parsing: input) else { return }
        self.expectSame(input, proof.encoded)
        let leavesMax = UInt64(1000)
        guard proof.ranges.allSatisfy({ $0.upperBound - $0.lowerBound <= leavesMax }), proof.ranges.count < 100,
            var verifier = try? SelectionVerifier(proof)
        else { return }
        while verifier.nextIndex != nil {
            do { try verifier.add(.zero) } catch { return }
        }
        _ = try? verifier.finish()
    }

    private static func runBundle(_ input: [UInt8]) {
        guard let width = input.first,
            let path = try? TilePath(.entries, index: 0, width: Int(width) + 1)
        else { return }
        let bytes = Array(input.dropFirst())
        guard let entries = try? EntryBundle.entries(path: path, parsing: bytes) else { return }
        var bundle: [UInt8] = []
        for entry in entries { try? EntryBundle.append(Array(entry), to: &bundle) }
        self.expectSame(bytes, bundle)
    }

    private static func runEvent(_ input: [UInt8]) {
        guard let organization = OrganizationKey("lab-a") else { return }
        let request = RequestInfo(id: "r-1", channel: .api, ip: "::1", userAgent: "fuzz", authentication: "bearer")
        let context = EventContext(
            organization: organization,
            request: request,
            defaultActor: Actor(kind: .apiKey, id: "key-1"),
            saltSeed: [UInt8](repeating: 7, count: 32)
        )
        let quick = Result { () throws(EventError) in try EventDraft.parse(input, defaults: context) }
        let thorough = Result { () throws(EventError) in try EventDraft.parseThoroughly(input, defaults: context) }
        precondition(quick == thorough, "both ways to read an event agree")
        _ = try? RecordFields(scanning: input)
    }

    private static func runJSON(_ input: [UInt8]) {
        let canonical = try? CanonicalJSON.canonicalize(input)
        precondition(CanonicalJSON.isCanonical(input) == (canonical == input), "both readers agree")
    }
}
