import AuditLedger
import Primitives
import Testing

/// Keys that anyone can make again: the seed is one byte, 32 times.
enum NoteFixture {
    static let origin = try! LogOrigin("cluster-a/lab-a")

    static func key(_ name: String, _ type: NoteSignatureType, seed: UInt8) -> NoteSignerKey {
        try! NoteSignerKey(name: NoteKeyName(name), type: type, seed: Array(repeating: seed, count: 32))
    }

    static let log = Self.key("cluster-a/lab-a", .ed25519, seed: 1)
    static let replicas = (1...3).map { Self.key("cluster-a/node-\($0)", .cosignature, seed: 10 + UInt8($0)) }
    static let witnesses = (1...2).map { Self.key("witness.example/w\($0)", .cosignature, seed: 20 + UInt8($0)) }
    static let stranger = Self.key("stranger.example", .cosignature, seed: 99)

    static func policy(replicasNeeded: Int = 2, witnessesNeeded: Int = 1) -> TrustPolicy {
        try! TrustPolicy.cluster(
            logs: [Self.log.verifierKey],
            replicas: Self.replicas.map(\.verifierKey),
            replicasNeeded: replicasNeeded,
            witnesses: Self.witnesses.map(\.verifierKey),
            witnessesNeeded: witnessesNeeded
        )
    }

    static let time = UInt64(1_700_000_000)
    static let nodes = MerkleNodes(leaves: ProofReference.leaves(1000))

    static func checkpoint(size: UInt64, root: Digest? = nil, origin: LogOrigin = Self.origin) throws -> Checkpoint {
        Checkpoint(origin: origin, size: size, root: try root ?? Self.nodes.treeRoot(size: size))
    }

    /// A checkpoint that the log, some replicas and one witness signed.
    static func signed(
        size: UInt64,
        root: Digest? = nil,
        replicas: Int = 2,
        witnesses: Int = 1
    ) throws -> SignedCheckpoint {
        var signed = try SignedCheckpoint(try Self.checkpoint(size: size, root: root))
        try signed.sign(Self.log)
        for key in Self.replicas.prefix(replicas) + Self.witnesses.prefix(witnesses) {
            try signed.cosign(key, timeSeconds: Self.time)
        }
        return signed
    }

    /// Changes one place of a text in a way that depends on the seed.
    static func damage(_ input: [UInt8], _ generator: inout SeededGenerator) -> [UInt8] {
        var input = input
        for _ in 0..<Int.random(in: 1..<4, using: &generator) where !input.isEmpty {
            let place = Int.random(in: 0..<input.count, using: &generator)
            switch UInt8.random(in: 0..<6, using: &generator) {
            case 0: input[place] = UInt8.random(in: 0...255, using: &generator)
            case 1: input.remove(at: place)
            case 2: input.insert(bytes("\n +=—0/9\t\0")[Int.random(in: 0..<12, using: &generator)], at: place)
            case 3: input[place] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
            case 4: input.removeLast(min(input.count, Int.random(in: 1..<40, using: &generator)))
            default:
                let end = min(input.count, place + Int.random(in: 1..<60, using: &generator))
                input.insert(contentsOf: Array(input[place..<end]), at: place)
            }
        }
        return input
    }
}
