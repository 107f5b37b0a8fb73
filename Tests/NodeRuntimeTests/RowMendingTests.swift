internal import AuditLedger
internal import Primitives
internal import Storage
internal import Testing

@testable internal import NodeRuntime

/// What a damaged row is replaced by.
@Suite("Rows without a proof")
struct RowMendingTests {
    private static let key: [UInt8] = [0, 0, 0, 7, 1, 2, 3]

    private func answer(_ node: UInt64, _ value: [UInt8]?, at applied: UInt64 = 9) -> RowMending.Answer {
        RowMending.Answer(node: NodeID(node), value: value, applied: applied)
    }

    private func decide(_ answers: [RowMending.Answer], replicas: Int = 3) -> RowMending.Verdict {
        RowMending.decide(.idempotency, Self.key, answers, replicas: replicas)
    }

    @Test func whatMoreThanHalfOfAllReplicasHoldAtOneIndexIsWritten() {
        let both = self.decide([self.answer(2, [1]), self.answer(3, [1])])
        #expect(both == .write([1], applied: 9, source: NodeID(2)))
        #expect(self.decide([self.answer(2, nil), self.answer(3, nil)]) == .write(nil, applied: 9, source: NodeID(2)))
        let five = [self.answer(2, [1]), self.answer(3, [2]), self.answer(4, [1]), self.answer(5, [1])]
        #expect(self.decide(five, replicas: 5) == .write([1], applied: 9, source: NodeID(2)))
    }

    @Test func lessIsNotEnough() {
        #expect(self.decide([]) == .undecided)
        #expect(self.decide([self.answer(2, [1])]) == .undecided, "one of three")
        #expect(self.decide([self.answer(2, [1]), self.answer(3, [2])]) == .undecided, "they disagree")
        #expect(self.decide([self.answer(2, [1]), self.answer(3, [1], at: 10)]) == .undecided, "of two moments")
        let four = [self.answer(2, [1]), self.answer(3, [1]), self.answer(4, [2])]
        #expect(self.decide(four, replicas: 5) == .undecided, "two of five")
    }

    @Test func whoIsAloneIsToldAtOnce() {
        for replicas in [1, 2] {
            let answers = replicas == 1 ? [] : [self.answer(2, [1])]
            guard case .hopeless = self.decide(answers, replicas: replicas) else {
                Issue.record("nobody will ever be a majority")
                continue
            }
        }
    }

    @Test func aRowThatProvesItselfNeedsOneReplicaAndTheFormOfItsKey() {
        let damaged = RowMending.decide(.forks, Self.key, [self.answer(2, [1, 2]), self.answer(3, nil)], replicas: 3)
        guard case .hopeless = damaged else {
            Issue.record("what is no fork proof is not taken: \(damaged)")
            return
        }
        #expect(RowMending.decide(.forks, Self.key, [self.answer(2, nil)], replicas: 3) == .undecided)
        #expect(RowMending.decide(.checkpoints, Self.key, [self.answer(2, [1, 0, 65])], replicas: 3) == .undecided)
    }

    @Test func rowsOfTheNodeAloneAreNotAskedFor() {
        #expect(!RowMending.canMend(.meta, Self.key))
        #expect(!RowMending.canMend(.signedHeads, Self.key))
        #expect(!RowMending.canMend(.groupState, [0, 0, 0, 1, 0]))
        #expect(!RowMending.canMend(.groupState, [0, 0, 0, 1, 12, 5]))
        #expect(RowMending.canMend(.groupState, [0, 0, 0, 1, 14, 5]))
        #expect(RowMending.canMend(.sealedValues, Self.key))
    }
}
