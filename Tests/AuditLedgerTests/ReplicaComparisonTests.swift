import AuditLedger
import Primitives
import Testing

/// Replicas that agree, lag, fork and stay silent.
struct ReplicaComparisonTests {
    /// A history: all its roots by size.
    struct History {
        var roots: [Digest] = [MerkleTree().root]

        /// Records 1 to `size`; those from `forkedAt` on are other ones.
        init(size: Int, forkedAt: Int = .max, other: UInt64 = 1) {
            var tree = MerkleTree()
            for number in 0..<size {
                tree.push(Digest(words: (number + 1 >= forkedAt ? other : 0, UInt64(number), 0, 0)))
                self.roots.append(tree.root)
            }
        }

        var size: Int { self.roots.count - 1 }
    }

    /// Compares; nil is a node that does not answer.
    func compare(
        _ histories: [History?],
        silentAfter: [UInt64: Int] = [:]
    ) -> (statuses: [ReplicaStatus], result: ReplicaComparisonResult, rounds: Int) {
        var comparison = ReplicaComparison(nodes: (1...histories.count).map { NodeID(UInt64($0)) })
        var answers: [UInt64: Int] = [:]
        for round in 0..<1000 {
            switch comparison.next() {
            case .done(let result): return (result.replicas.map(\.status), result, round)
            case .ask(let questions):
                #expect(!questions.isEmpty)
                for question in questions.reversed() {
                    let id = question.node.rawValue
                    answers[id, default: 0] += 1
                    guard let history = histories[Int(id) - 1], answers[id, default: 0] <= silentAfter[id] ?? .max
                    else {
                        comparison.answer(.unavailable("silent"), from: question.node)
                        continue
                    }
                    switch question.kind {
                    case .head:
                        let root = history.roots[history.size]
                        comparison.answer(.head(size: UInt64(history.size), root: root), from: question.node)
                    case .roots(let sizes):
                        #expect(sizes.count <= ReplicaComparison.roundSizesMax)
                        comparison.answer(.roots(sizes.map { history.roots[Int($0)] }), from: question.node)
                    }
                }
            }
        }
        Issue.record("no end")
        return ([], ReplicaComparisonResult.none, 0)
    }

    func fork(_ sequence: UInt64, _ side: ReplicaStatus.Side = .minority) -> ReplicaStatus {
        .diverged(firstSequence: SequenceNumber(sequence), side: side)
    }

    @Test func equalReplicasAgree() {
        let (statuses, result, rounds) = self.compare([History(size: 70), History(size: 70), History(size: 70)])
        #expect(statuses == [.agrees(size: 70), .agrees(size: 70), .agrees(size: 70)])
        #expect(result.isConsistent)
        #expect(result.size == 70)
        #expect(result.root == History(size: 70).roots[70])
        #expect(rounds == 1)
        #expect(self.compare([History(size: 0), History(size: 0)]).statuses == [.agrees(size: 0), .agrees(size: 0)])
        #expect(self.compare([History(size: 3)]).statuses == [.agrees(size: 3)])
    }

    @Test func laggingReplicasAreBehind() {
        let (statuses, result, _) = self.compare([History(size: 70), History(size: 0), History(size: 41)])
        #expect(statuses == [.agrees(size: 70), .behind(size: 0), .behind(size: 41)])
        #expect(result.isConsistent)
        #expect(result.size == 70)
    }

    @Test(arguments: [1, 2, 63, 64, 65, 66, 128, 129, 700, 999, 1000]) func findsTheFirstForkedRecord(sequence: Int) {
        let good = History(size: 1000)
        let bad = History(size: 1000, forkedAt: sequence)
        let (statuses, result, rounds) = self.compare([good, bad, good])
        #expect(statuses == [.agrees(size: 1000), self.fork(UInt64(sequence)), .agrees(size: 1000)])
        #expect(!result.isConsistent)
        #expect(result.root == good.roots[1000])
        #expect(rounds <= 3)
        #expect(self.compare([bad, good, good]).statuses[0] == self.fork(UInt64(sequence)))
    }

    @Test func findsAForkInAReplicaThatIsBehind() {
        let good = History(size: 500)
        #expect(
            self.compare([good, History(size: 300, forkedAt: 300), good]).statuses
                == [.agrees(size: 500), self.fork(300), .agrees(size: 500)]
        )
        #expect(
            self.compare([good, History(size: 700, forkedAt: 450), good]).statuses
                == [.agrees(size: 500), self.fork(450), .agrees(size: 500)]
        )
    }

    @Test func doesNotDecideWithoutAMajority() {
        let good = History(size: 100)
        #expect(
            self.compare([good, History(size: 100, forkedAt: 50)]).statuses
                == [self.fork(50, .undecided), self.fork(50, .undecided)]
        )
        let three = self.compare([good, History(size: 100, forkedAt: 50), History(size: 100, forkedAt: 60, other: 2)])
        #expect(three.statuses == [self.fork(60, .undecided), self.fork(50, .undecided), self.fork(60, .undecided)])
        let five = self.compare([
            History(size: 100, forkedAt: 20, other: 2), good, good, History(size: 100, forkedAt: 50), good,
        ])
        #expect(
            five.statuses
                == [self.fork(20), .agrees(size: 100), .agrees(size: 100), self.fork(50), .agrees(size: 100)]
        )
    }

    @Test func goesOnWithoutSilentNodes() {
        let good = History(size: 200)
        let bad = History(size: 200, forkedAt: 90)
        #expect(
            self.compare([good, nil, good]).statuses == [
                .agrees(size: 200), .unavailable("silent"), .agrees(size: 200),
            ]
        )
        #expect(self.compare([nil, nil]).statuses == [.unavailable("silent"), .unavailable("silent")])
        // Node 1 falls silent during the search: node 3 takes its place.
        let (statuses, _, _) = self.compare([good, bad, good], silentAfter: [1: 1])
        #expect(statuses == [.unavailable("silent"), self.fork(90, .undecided), self.fork(90, .undecided)])
    }

    @Test(arguments: UInt64(1)...50) func findsRandomForks(seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        let size = Int.random(in: 1...6000, using: &generator)
        let fork = Int.random(in: 1...size, using: &generator)
        let good = History(size: size)
        let (statuses, _, _) = self.compare([good, good, History(size: size, forkedAt: fork)])
        #expect(statuses[2] == self.fork(UInt64(fork)), "seed \(seed), size \(size)")
    }

    @Test func takesAnAnswerOfAnotherKindAsNone() {
        var comparison = ReplicaComparison(nodes: [NodeID(1), NodeID(2)])
        comparison.answer(.roots([.zero]), from: NodeID(1))
        comparison.answer(.head(size: 0, root: .zero), from: NodeID(9))
        comparison.answer(.head(size: 0, root: MerkleTree().root), from: NodeID(2))
        guard case .done(let result) = comparison.next() else {
            Issue.record("not done")
            return
        }
        #expect(!result.isConsistent)
    }

    @Test func tellsALedgerWhoseWholeHistoryWasRewritten() throws {
        let good = try LedgerFixture(records: 50)
        var bad = try LedgerFixture(records: 30)
        // From record 31 on the chain is recomputed over other records.
        try bad.append(20, seed: 77)
        #expect(try bad.verify().isSound, "one replica alone cannot tell")
        var comparison = ReplicaComparison(nodes: [NodeID(1), NodeID(2), NodeID(3)])
        let readers = try [good.reader(), bad.reader(), good.reader()]
        while case .ask(let questions) = comparison.next() {
            for question in questions {
                let reader = readers[Int(question.node.rawValue) - 1]
                switch question.kind {
                case .head:
                    let head = try reader.head()
                    comparison.answer(.head(size: head.size, root: head.root), from: question.node)
                case .roots(let sizes): comparison.answer(.roots(try reader.roots(at: sizes)), from: question.node)
                }
            }
        }
        guard case .done(let result) = comparison.next() else { return }
        #expect(result.replicas[1].status == self.fork(31))
        #expect(result.replicas[0].status == .agrees(size: 50))
    }
}

extension ReplicaComparisonResult {
    /// A result of nothing, for a test that already failed.
    fileprivate static var none: ReplicaComparisonResult {
        var comparison = ReplicaComparison(nodes: [])
        guard case .done(let result) = comparison.next() else { preconditionFailure("no node, no question") }
        return result
    }
}
