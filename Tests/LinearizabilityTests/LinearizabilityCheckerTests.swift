internal import Linearizability
internal import Primitives
import Testing

/// A register: the classical object of such checkers.
private enum RegisterModel: SequentialModel {
    enum Input {
        case write(Int)
        case read
    }

    static let initial = 0

    static func step(_ state: Int, _ input: Input, _ output: Int?) -> Int? {
        switch input {
        case .write(let value): value
        case .read: output == nil || output == state ? state : nil
        }
    }
}

@Suite("The linearizability checker")
struct LinearizabilityCheckerTests {
    private func write(_ value: Int, _ call: UInt64, _ end: UInt64, client: Int = 0) -> ClientOperation<RegisterModel> {
        ClientOperation(client: client, input: .write(value), output: 0, calledAt: call, returnedAt: end)
    }

    private func read(_ value: Int, _ call: UInt64, _ end: UInt64, client: Int = 1) -> ClientOperation<RegisterModel> {
        ClientOperation(client: client, input: .read, output: value, calledAt: call, returnedAt: end)
    }

    @Test func acceptsWhatOneClientAfterAnotherSees() {
        let history = [self.write(1, 0, 1), self.read(1, 2, 3), self.write(2, 4, 5), self.read(2, 6, 7)]
        #expect(LinearizabilityChecker.check(history, of: RegisterModel.self) == .linearizable)
    }

    @Test func acceptsEitherOrderOfOverlappingOperations() {
        for seen in [0, 1] {
            let history = [self.write(1, 0, 10), self.read(seen, 2, 3)]
            #expect(LinearizabilityChecker.check(history, of: RegisterModel.self) == .linearizable)
        }
    }

    @Test func findsAStaleRead() {
        let history = [self.write(1, 0, 1), self.write(2, 2, 3), self.read(1, 4, 5)]
        guard case .violation(let prefix, let stuckAt) = LinearizabilityChecker.check(history, of: RegisterModel.self)
        else {
            Issue.record("a stale read passed")
            return
        }
        #expect(prefix == 2)
        #expect(stuckAt == [2])
    }

    @Test func findsReadsThatGoBack() {
        // Both reads overlap the write, but one after the other they see it, then not.
        let history = [self.write(1, 0, 10), self.read(1, 1, 2), self.read(0, 3, 4)]
        #expect(LinearizabilityChecker.check(history, of: RegisterModel.self) != .linearizable)
    }

    @Test func lettingAnUnknownWriteHappenLateOrNever() {
        func history(_ later: [ClientOperation<RegisterModel>]) -> [ClientOperation<RegisterModel>] {
            [ClientOperation(client: 0, input: .write(9), output: nil, calledAt: 0, returnedAt: 0)] + later
        }
        for seen in [[0, 0], [0, 9], [9, 9]] {
            let reads = [self.read(seen[0], 5, 6), self.read(seen[1], 7, 8)]
            #expect(LinearizabilityChecker.check(history(reads), of: RegisterModel.self) == .linearizable)
        }
        let back = [self.read(9, 5, 6), self.read(0, 7, 8)]
        #expect(LinearizabilityChecker.check(history(back), of: RegisterModel.self) != .linearizable)
    }

    @Test func saysSoWhenItGivesUp() {
        let history = (0..<20).map { self.write($0, 0, 100, client: $0) } + [self.read(-1, 50, 60)]
        let verdict = LinearizabilityChecker.check(history, of: RegisterModel.self, stepsMax: 1000)
        #expect(verdict == .undecided(steps: 1001))
    }

    // MARK: the ledger

    private func append(
        _ marker: UInt64,
        _ sequence: UInt64?,
        _ call: UInt64,
        _ end: UInt64
    ) -> ClientOperation<LedgerModel> {
        ClientOperation(
            client: Int(marker),
            input: .append(marker: marker),
            output: sequence.map { .appended(sequence: $0) },
            calledAt: call,
            returnedAt: end
        )
    }

    private func look(_ size: UInt64, _ last: UInt64, _ call: UInt64, _ end: UInt64) -> ClientOperation<LedgerModel> {
        ClientOperation(client: 0, input: .read, output: .read(size: size, last: last), calledAt: call, returnedAt: end)
    }

    @Test func findsALostAppend() {
        let history = [self.append(7, 1, 0, 1), self.append(8, 1, 2, 3)]
        #expect(LinearizabilityChecker.check(history, of: LedgerModel.self) != .linearizable)
    }

    @Test func findsARecordAppendedTwice() {
        // Sequence 2 came from nowhere.
        let history = [self.append(7, 1, 0, 1), self.append(8, 3, 2, 3)]
        #expect(LinearizabilityChecker.check(history, of: LedgerModel.self) != .linearizable)
        let explained = history + [self.append(9, nil, 0, 0)]
        #expect(LinearizabilityChecker.check(explained, of: LedgerModel.self) == .linearizable)
    }

    @Test func findsAReadBehindAnAcknowledgedAppend() {
        let history = [self.append(7, 1, 0, 1), self.append(8, 2, 2, 3), self.look(1, 7, 4, 5)]
        #expect(LinearizabilityChecker.check(history, of: LedgerModel.self) != .linearizable)
        let fresh = [self.append(7, 1, 0, 1), self.append(8, 2, 2, 3), self.look(2, 8, 4, 5)]
        #expect(LinearizabilityChecker.check(fresh, of: LedgerModel.self) == .linearizable)
    }

    /// Histories made by running clients on a real ledger; then one answer is falsified.
    @Test(arguments: [UInt64(1), 2, 3, 4, 5, 6, 7, 8])
    func judgesRandomHistories(seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        var history: [ClientOperation<LedgerModel>] = []
        var (size, last, time) = (UInt64(0), UInt64(0), UInt64(0))
        var freeAt = Array(repeating: UInt64(0), count: 5)
        for marker in 1...400 as ClosedRange<UInt64> {
            let client = Int(generator.next() % 5)
            // The operation takes effect at `time`, somewhere between its call and its return.
            time = max(time, freeAt[client]) + 1 + generator.next() % 3
            let call = max(freeAt[client], time - min(time, generator.next() % 20))
            let end = time + generator.next() % 20
            freeAt[client] = end + 1
            if generator.next() % 3 == 0 {
                history.append(self.look(size, last, call, end))
            } else {
                (size, last) = (size + 1, marker)
                history.append(self.append(marker, size, call, end))
            }
        }
        #expect(LinearizabilityChecker.check(history, of: LedgerModel.self) == .linearizable, "seed \(seed)")
        let reads = history.indices.filter { if case .read = history[$0].input { true } else { false } }
        let place = reads[Int(generator.next() % UInt64(reads.count))]
        guard case .read(let seen, let marker) = history[place].output else { return }
        history[place].output = .read(size: seen, last: marker + 1)
        #expect(LinearizabilityChecker.check(history, of: LedgerModel.self) != .linearizable, "seed \(seed)")
    }
}
