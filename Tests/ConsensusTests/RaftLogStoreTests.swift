internal import Consensus
internal import Primitives
internal import Storage
internal import Testing

@Suite struct RaftLogStoreTests {
    private let store = InMemoryStore()
    private let group = GroupID(7)

    private func entry(_ index: UInt64, _ term: UInt64, _ text: String = "payload") -> LogEntry {
        LogEntry(index: LogIndex(index), term: Term(term), kind: .commands, payload: Array(text.utf8))
    }

    private func write(
        _ entries: [LogEntry],
        group: GroupID? = nil,
        truncateFrom: UInt64? = nil,
        commit: UInt64 = 0,
        term: UInt64 = 3
    ) throws -> RaftLogStore.Write {
        RaftLogStore.Write(
            group: group ?? self.group,
            hardState: HardState(term: Term(term), vote: NodeID(2)),
            commit: LogIndex(commit),
            truncateFrom: truncateFrom.map { LogIndex($0) },
            entries: entries,
            last: entries.last?.index ?? .zero,
            lastTerm: entries.last?.term ?? .zero
        )
    }

    private func key(_ index: UInt64) -> [UInt8] {
        var writer = ByteWriter()
        writer.write(self.group.rawValue)
        writer.write(index)
        return writer.bytes
    }

    /// The error of `body`, or nil.
    private func failure(_ body: () throws -> Void) -> ConsensusError? {
        do {
            try body()
            return nil
        } catch {
            return error as? ConsensusError
        }
    }

    private func change(_ body: (inout WriteBatch) -> Void) throws {
        var batch = WriteBatch()
        body(&batch)
        try self.store.write(batch)
    }

    @Test func givesBackWhatWasWritten() throws {
        let log = RaftLogStore(self.store)
        try log.write([try self.write([self.entry(1, 1), self.entry(2, 1), self.entry(3, 3)], commit: 2)])
        let restored = try RaftLogStore(self.store).load(self.group)
        #expect(restored.hardState == HardState(term: Term(3), vote: NodeID(2)))
        #expect(restored.commit == LogIndex(2))
        #expect(restored.terms.last == LogIndex(3))
        #expect((0...4).map { restored.terms.term(at: LogIndex($0))?.rawValue } == [0, 1, 1, 3, nil])
        let reader = log.reader(of: self.group)
        let all = try reader.entries(from: LogIndex(1), through: LogIndex(3), bytesMax: 1_000)
        #expect(all == [self.entry(1, 1), self.entry(2, 1), self.entry(3, 3)])
        #expect(try reader.entries(from: LogIndex(2), through: LogIndex(3), bytesMax: 1) == [self.entry(2, 1)])
        #expect(try reader.entries(from: LogIndex(1), through: LogIndex(2), bytesMax: 1_000).count == 2)
    }

    @Test func isEmptyForAGroupThatWasNeverWritten() throws {
        let restored = try RaftLogStore(self.store).load(GroupID(3))
        #expect(restored.hardState == HardState() && restored.terms == TermRuns() && restored.commit == .zero)
    }

    @Test func keepsGroupsApart() throws {
        let log = RaftLogStore(self.store)
        let before = GroupID(self.group.rawValue - 1)
        let after = GroupID(self.group.rawValue + 1)
        let writes = try [before, self.group, after].map { group in
            try self.write([self.entry(1, 1, group.description), self.entry(2, 2, group.description)], group: group)
        }
        try log.write(writes)
        try log.write([try self.write([self.entry(1, 3)], truncateFrom: 1)])
        #expect(try log.load(before).terms.last == LogIndex(2))
        #expect(try log.load(self.group).terms.last == LogIndex(1))
        #expect(try log.load(after).terms.last == LogIndex(2))
        let entries = try log.reader(of: after).entries(from: LogIndex(1), through: LogIndex(2), bytesMax: 100)
        #expect(entries.map(\.payload) == [Array("8".utf8), Array("8".utf8)])
    }

    @Test func cutsAndReplacesTheTailInOneStep() throws {
        let log = RaftLogStore(self.store)
        try log.write([try self.write((1...5).map { self.entry($0, 1) })])
        try log.write([try self.write([self.entry(3, 2, "new")], truncateFrom: 3)])
        let restored = try log.load(self.group)
        #expect(restored.terms.last == LogIndex(3))
        #expect(restored.terms.term(at: LogIndex(3)) == Term(2))
    }

    @Test func reportsAHole() throws {
        let log = RaftLogStore(self.store)
        try log.write([try self.write((1...5).map { self.entry($0, 1) })])
        try self.change { $0.delete(.raftLog, key: self.key(3)) }
        let error = self.failure { _ = try log.load(self.group) }
        #expect(error?.code == .hole)
        #expect(error?.group == self.group)
        #expect(error?.index == LogIndex(3))
        let reading = self.failure {
            _ = try log.reader(of: self.group).entries(from: LogIndex(1), through: LogIndex(5), bytesMax: 999)
        }
        #expect(reading?.code == .hole)
        #expect(reading?.index == LogIndex(3))
    }

    @Test func reportsALostTailAndAnEntryBeyondTheEnd() throws {
        let log = RaftLogStore(self.store)
        try log.write([try self.write((1...5).map { self.entry($0, 1) })])
        try self.change { $0.delete(.raftLog, key: self.key(5)) }
        let lost = self.failure { _ = try log.load(self.group) }
        #expect(lost?.code == .logLost)
        #expect(lost?.index == LogIndex(5))
        let value = try self.store.get(self.key(4), in: .raftLog)!
        try self.change { $0.put(.raftLog, key: self.key(9), value: value) }
        #expect(self.failure { _ = try log.load(self.group) } != nil)
    }

    @Test func reportsATailLostAfterTheStateWasWritten() throws {
        let log = RaftLogStore(self.store)
        try log.write([try self.write([self.entry(1, 1)])])
        try log.write([try self.write([self.entry(2, 1), self.entry(3, 1)])])
        try self.change { $0.delete(.raftLog, key: self.key(3)) }
        // Whoever applied entry 3 must find it missing: the store cannot know of it any more.
        #expect(try log.load(self.group).terms.last == LogIndex(2))
        try self.change { $0.delete(.raftLog, key: self.key(2)) }
        try self.change { $0.delete(.raftLog, key: self.key(1)) }
        #expect(self.failure { _ = try log.load(self.group) }?.code == .logLost)
    }

    @Test func reportsEveryFlippedByte() throws {
        let log = RaftLogStore(self.store)
        try log.write([try self.write((1...3).map { self.entry($0, 1) })])
        let value = try self.store.get(self.key(2), in: .raftLog)!
        for place in value.indices {
            var damaged = value
            damaged[place] ^= 0x10
            try self.change { $0.put(.raftLog, key: self.key(2), value: damaged) }
            let error = self.failure { _ = try log.load(self.group) }
            #expect(error?.code == .corruption, "byte \(place)")
            #expect(error?.index == LogIndex(2))
        }
        try self.change { $0.put(.raftLog, key: self.key(2), value: []) }
        #expect(self.failure { _ = try log.load(self.group) }?.code == .corruption)
    }

    @Test func reportsAnEntryUnderAnotherIndex() throws {
        let log = RaftLogStore(self.store)
        try log.write([try self.write((1...3).map { self.entry($0, 1) })])
        let value = try self.store.get(self.key(1), in: .raftLog)!
        try self.change { $0.put(.raftLog, key: self.key(2), value: value) }
        #expect(self.failure { _ = try log.load(self.group) }?.code == .corruption)
    }

    @Test func reportsDamagedHardState() throws {
        let log = RaftLogStore(self.store)
        try log.write([try self.write([self.entry(1, 1)])])
        var key = ByteWriter()
        key.write(self.group.rawValue)
        let value = try self.store.get(key.bytes, in: .raftState)!
        for place in value.indices {
            var damaged = value
            damaged[place] ^= 1
            try self.change { $0.put(.raftState, key: key.bytes, value: damaged) }
            let expected: ConsensusError.Code = place == 0 ? .incompatible : .corruption
            #expect(self.failure { _ = try log.load(self.group) }?.code == expected, "byte \(place)")
        }
        try self.change { $0.put(.raftState, key: key.bytes, value: Array(value.dropLast())) }
        #expect(self.failure { _ = try log.load(self.group) }?.code == .corruption)
        try self.change { $0.delete(.raftState, key: key.bytes) }
        #expect(self.failure { _ = try log.load(self.group) }?.code == .corruption)
    }

    @Test func reportsAFailedWrite() throws {
        let log = RaftLogStore(self.store)
        self.store.poison(StorageError(code: .io, message: "full"))
        let error = self.failure { try log.write([try self.write([self.entry(1, 1)])]) }
        #expect(error?.code == .store)
        #expect(error?.cause is StorageError)
    }
}

@Suite struct LogPartsTests {
    @Test func keepsTermsAsRuns() {
        var terms = TermRuns()
        for term in [1, 1, 1, 4, 4, 9] as [UInt64] { terms.append(Term(term)) }
        #expect((0...7).map { terms.term(at: LogIndex($0))?.rawValue } == [0, 1, 1, 1, 4, 4, 9, nil])
        #expect(terms.lastIndex(atOrBefore: LogIndex(9), termAtMost: Term(8)) == LogIndex(5))
        #expect(terms.lastIndex(atOrBefore: LogIndex(4), termAtMost: Term(3)) == LogIndex(3))
        #expect(terms.lastIndex(atOrBefore: LogIndex(6), termAtMost: Term(0)) == .zero)
        terms.truncate(from: LogIndex(5))
        #expect(terms.last == LogIndex(4) && terms.lastTerm == Term(4))
        terms.truncate(from: LogIndex(1))
        #expect(terms.last == .zero && terms.lastTerm == .zero)
    }

    @Test func agreesWithAPlainArrayOfTerms() {
        for seed in 1...50 as ClosedRange<UInt64> {
            var generator = SeededGenerator(seed: seed)
            var runs = TermRuns()
            var plain: [Term] = []
            for _ in 0..<80 {
                if generator.next() % 5 == 0, !plain.isEmpty {
                    let from = 1 + Int(generator.next() % UInt64(plain.count))
                    runs.truncate(from: LogIndex(UInt64(from)))
                    plain.removeSubrange((from - 1)...)
                } else {
                    let term = Term((plain.last?.rawValue ?? 1) + (generator.next() % 4 == 0 ? 1 : 0))
                    runs.append(term)
                    plain.append(term)
                }
                for (offset, term) in plain.enumerated() {
                    #expect(runs.term(at: LogIndex(UInt64(offset) + 1)) == term, "seed \(seed)")
                }
                let index = Int(generator.next() % 90)
                let bound = Term(generator.next() % 10)
                let expected = plain.prefix(index).lastIndex { $0 <= bound }.map { $0 + 1 } ?? 0
                let found = runs.lastIndex(atOrBefore: LogIndex(UInt64(index)), termAtMost: bound)
                #expect(found == LogIndex(UInt64(expected)), "seed \(seed)")
            }
        }
    }

    @Test func carriesCommandsInOneEntry() throws {
        let batches: [[[UInt8]]] = [[], [[]], [[1]], [[1, 2, 3], [], [4]], [Array(repeating: 7, count: 5_000), [1]]]
        for batch in batches {
            #expect(try CommandBatch.decode(CommandBatch.encode(batch)).map { Array($0) } == batch)
        }
    }

    @Test func refusesMalformedBatches() {
        let whole = CommandBatch.encode([[1, 2, 3], [4]])
        for count in 0..<whole.count {
            #expect(throws: MalformedBytes.self) { try CommandBatch.decode(Array(whole.prefix(count))) }
        }
        #expect(throws: MalformedBytes.self) { try CommandBatch.decode(whole + [0]) }
        #expect(throws: MalformedBytes.self) { try CommandBatch.decode([255, 255, 255, 255, 0, 0, 0, 0]) }
    }
}
