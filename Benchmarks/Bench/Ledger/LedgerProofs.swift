internal import AuditLedger
internal import Primitives
internal import RocksStorage
internal import Storage

/// Inclusion and consistency proofs from stored tree nodes.
struct LedgerProofSpeed {
    let ledger: LedgerFolder

    private static let warmUp = 20_000
    private static let proofs = 50_000

    func measure(into results: String) throws {
        let reader = try self.ledger.reader()
        let size = try reader.head().size
        let root = try reader.root(at: size)
        var generator = SeededGenerator(seed: size)
        try self.measure("ledger_inclusion_proof", into: results) { isTimed in
            let index = generator.next() % size
            let proof = try isTimed { try InclusionProof.build(index: index, size: size, from: reader) }
            try proof.verify(leaf: try reader.checksum(at: SequenceNumber(index + 1)), root: root)
        }
        try self.measure("ledger_consistency_proof", into: results) { isTimed in
            let old = 1 + generator.next() % size
            let proof = try isTimed { try ConsistencyProof.build(from: old, to: size, nodes: reader) }
            try proof.verify(oldRoot: try reader.root(at: old), newRoot: root)
        }
        print("ledger: proofs in a tree of \(size) records, warm; each was verified")
    }

    private func measure<Proof>(
        _ name: String,
        into results: String,
        _ body: ((() throws -> Proof) throws -> Proof) throws -> Void
    ) throws {
        let clock = ContinuousClock()  // ambient-ok: a benchmark measures time
        var latency = LatencyHistogram()
        for number in 0..<(Self.warmUp + Self.proofs) {
            try body { make in
                let begin = clock.now
                let proof = try make()
                if number >= Self.warmUp {
                    latency.record(microseconds: UInt64((clock.now - begin) / .microseconds(1)))
                }
                return proof
            }
        }
        try Measurement(
            system: "ours",
            name: name,
            milliseconds: latency.value(at: 0.5) / 1000,
            p50Microseconds: latency.value(at: 0.5),
            p99Microseconds: latency.value(at: 0.99)
        ).record(in: results)
    }
}

/// The first difference of two ledgers.
enum LedgerCompareRounds {
    static func measure(_ a: LedgerFolder, _ b: LedgerFolder, into results: String) throws {
        let clock = ContinuousClock()  // ambient-ok: a benchmark measures time
        let begin = clock.now
        let result = MerkleDescent.compare(
            try a.reader(),
            try b.reader(),
            organization: try LedgerFolder.organizationKey(),
            checkpoints: [],
            laterRecordsMax: 0
        )
        let milliseconds = (clock.now - begin) / .milliseconds(1)
        guard result.outcome == .differs, let difference = result.difference else {
            throw BenchError(.unexpectedAnswer, "the two ledgers were not found to differ: \(result.outcome)")
        }
        try Measurement(system: "ours", name: "ledger_compare", milliseconds: milliseconds).record(in: results)
        try Measurement(system: "ours", name: "ledger_compare_round_trips", rate: Double(result.roundTrips))
            .record(in: results)
        print(
            "ledger: record \(difference.sequence) of \(result.sizeA ?? 0) is the first that differs, found in "
                + "\(result.roundTrips) round trips of at most \(result.largestAnswer) digests"
        )
    }
}
