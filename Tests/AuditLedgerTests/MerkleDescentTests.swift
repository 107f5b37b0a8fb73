import AuditLedger
import Primitives
import Storage
import Testing

/// Histories that agree, part, lie and stay silent.
struct MerkleDescentTests {
    typealias Lie = @Sendable (DescentQuestion, DescentAnswer) -> DescentAnswer

    /// A replica whose answers may be changed on the way.
    struct Side: TreeSide {
        let reader: LedgerReader
        var lie: Lie = { $1 }

        init(_ fixture: LedgerFixture, lie: @escaping Lie = { $1 }) throws {
            self.reader = try fixture.reader()
            self.lie = lie
        }

        func answer(_ question: DescentQuestion) throws(LedgerError) -> DescentAnswer {
            do throws(LedgerError) {
                return self.lie(question, try self.reader.answer(question))
            } catch {
                return self.lie(question, .unavailable(error.description))
            }
        }
    }

    /// A history of `size` equal leaves, one of which may be another one; its nodes are made when they are asked for.
    struct VirtualSide: TreeSide {
        let size: UInt64
        let changed: UInt64?

        private func digest(_ position: TreePosition) -> Digest {
            let isChanged = self.changed.map { $0 >> UInt64(position.level) == position.index } ?? false
            guard position.level > 0 else { return isChanged ? LedgerHash.leaf([1]) : LedgerHash.leaf([0]) }
            let left = TreePosition(level: position.level - 1, index: position.index * 2)
            guard isChanged else {
                let digest = self.digest(TreePosition(level: left.level, index: .max >> UInt64(left.level)))
                return LedgerHash.node(digest, digest)
            }
            let right = TreePosition(level: left.level, index: left.index + 1)
            return LedgerHash.node(self.digest(left), self.digest(right))
        }

        func answer(_ question: DescentQuestion) throws(LedgerError) -> DescentAnswer {
            switch question {
            case .head: return .head(size: self.size, peaks: MerkleTree.peaks(size: self.size).map(self.digest))
            case .bounds(let size, let whole):
                let places = MerkleTree.peaks(size: size) + MerkleTree.cover(from: size, to: whole)
                return .digests(places.map(self.digest))
            case .descendants(let position):
                let below = position.rowBelow
                return .digests(
                    (0..<UInt64(below.count)).map {
                        self.digest(TreePosition(level: below.first.level, index: below.first.index + $0))
                    }
                )
            case .contents(_, let records, let block):
                let digests = [Digest](repeating: .zero, count: Int((records + block - 1) / block))
                return .digests(digests)
            case .record(let sequence): return .record([self.changed == sequence.rawValue - 1 ? 1 : 0])
            }
        }
    }

    /// A fixture whose record at `sequence` was rewritten, and the chain after it with it.
    static func rewritten(records: Int, at sequence: Int?) throws -> LedgerFixture {
        guard let sequence else { return try LedgerFixture(records: records) }
        var fixture = try LedgerFixture(records: 0)
        var generator = SeededGenerator(seed: 1)
        for number in 1...records {
            let random = generator.next() >> 20
            try fixture.append(draft: try LedgerFixture.draft(number == sequence ? 999_999_999_999 : random))
        }
        return fixture
    }

    func compare(
        _ a: some TreeSide,
        _ b: some TreeSide,
        checkpoints: [DescentCheckpoint] = []
    ) -> DescentResult {
        MerkleDescent.compare(a, b, organization: LedgerFixture.key, checkpoints: checkpoints)
    }

    func checkpoint(_ fixture: LedgerFixture, _ size: UInt64, isSigned: Bool = true) throws -> DescentCheckpoint {
        DescentCheckpoint(size: size, root: try fixture.reader().root(at: size), isQuorumSigned: isSigned)
    }

    @Test(arguments: [0, 1, 2, 7, 8, 255, 256, 257, 700]) func agreesOnEqualHistories(records: Int) throws {
        let fixture = try LedgerFixture(records: records)
        let result = self.compare(try Side(fixture), try Side(fixture))
        #expect(result.outcome == .equal)
        #expect(result.difference == nil)
        #expect(result.roundTrips == 1)
        #expect(result.sizeA == UInt64(records) && result.sizeB == UInt64(records))
    }

    @Test(arguments: [(0, 5), (1, 2), (7, 8), (256, 300), (299, 700)]) func namesThePrefix(short: Int, long: Int) throws
    {
        let a = try Side(try LedgerFixture(records: short))
        let b = try Side(try LedgerFixture(records: long))
        #expect(self.compare(a, b).outcome == .prefix(shorter: .a))
        #expect(self.compare(b, a).outcome == .prefix(shorter: .b))
        #expect(self.compare(a, b).roundTrips == 2)
    }

    @Test(arguments: [1, 2, 100, 255, 256, 257, 511, 512, 513, 600]) func findsTheRewrittenRecord(sequence: Int) throws
    {
        let honest = try Self.rewritten(records: 600, at: nil)
        let changed = try Self.rewritten(records: 600, at: sequence)
        #expect(try changed.verify().isSound, "the rewritten history is sound in itself")
        let result = self.compare(
            try Side(honest),
            try Side(changed),
            checkpoints: [try self.checkpoint(honest, 600)]
        )
        let difference = try #require(result.difference)
        #expect(result.outcome == .differs)
        #expect(difference.sequence.rawValue == UInt64(sequence))
        #expect(difference.a.standing == .sound && difference.b.standing == .sound)
        #expect(difference.members.contains("/after") && !difference.members.contains("/previous"))
        #expect(difference.verdict == .supports(.a, checkpointSize: 600))
        // Every later leaf differs, none in more than its link.
        #expect(difference.laterTotal == UInt64(600 - sequence))
        #expect(difference.laterCompared == difference.laterTotal)
        #expect(difference.laterDiffering == 0)
        #expect(result.roundTrips <= 4)
        #expect(result.largestAnswer <= 256)
    }

    @Test func countsLaterRecordsThatDifferInMoreThanTheirLink() throws {
        var a = try LedgerFixture(records: 300)
        var b = try LedgerFixture(records: 300)
        try a.append(400, seed: 5)
        try b.append(400, seed: 6)
        let result = self.compare(try Side(a), try Side(b))
        let difference = try #require(result.difference)
        #expect(difference.sequence.rawValue == 301)
        #expect(difference.laterDiffering == 399)
        #expect(difference.laterCompared == 399)
        #expect(difference.verdict == .undecided)
    }

    @Test func decidesBySignedCheckpointsAlone() throws {
        let honest = try Self.rewritten(records: 64, at: nil)
        let changed = try Self.rewritten(records: 64, at: 20)
        func verdict(_ checkpoints: [DescentCheckpoint]) throws -> DescentVerdict? {
            self.compare(try Side(honest), try Side(changed), checkpoints: checkpoints).difference?.verdict
        }
        #expect(try verdict([try self.checkpoint(changed, 33)]) == .supports(.b, checkpointSize: 33))
        #expect(try verdict([try self.checkpoint(honest, 20)]) == .supports(.a, checkpointSize: 20))
        // One over the records before the difference speaks for neither.
        #expect(try verdict([try self.checkpoint(honest, 19)]) == .undecided)
        #expect(try verdict([try self.checkpoint(honest, 64, isSigned: false)]) == .undecided)
        let other = DescentCheckpoint(size: 40, root: LedgerHash.leaf([9]), isQuorumSigned: true)
        #expect(try verdict([other]) == .supportsNeither(checkpointSize: 40))
        #expect(
            try verdict([other, try self.checkpoint(honest, 64), try self.checkpoint(honest, 21)])
                == .supports(.a, checkpointSize: 21)
        )
    }

    @Test func aCheckpointThatOnlyOneSideReachesDecides() throws {
        let short = try Self.rewritten(records: 30, at: 20)
        let long = try Self.rewritten(records: 50, at: nil)
        let result = self.compare(try Side(short), try Side(long), checkpoints: [try self.checkpoint(long, 45)])
        #expect(result.difference?.sequence.rawValue == 20)
        #expect(result.difference?.verdict == .supports(.b, checkpointSize: 45))
    }

    @Test(arguments: [(UInt64(10_000_000), 5), (16_777_216, 5), (1_000_000_000, 6)])
    func takesFewRoundTrips(size: UInt64, most: Int) throws {
        for changed in [0, 1, size / 2, size - 2, size - 1] {
            let honest = VirtualSide(size: size + 777, changed: nil)
            let result = self.compare(VirtualSide(size: size, changed: changed), honest)
            #expect(result.difference?.sequence.rawValue == changed + 1)
            #expect(result.roundTrips <= most, "record \(changed + 1): \(result.roundTrips)")
            #expect(result.largestAnswer <= 256)
            let equal = self.compare(VirtualSide(size: size, changed: changed), VirtualSide(size: size, changed: nil))
            #expect(equal.roundTrips <= most - 1)
        }
    }

    // MARK: Liars

    func caught(_ fixture: LedgerFixture, _ lie: @escaping Lie) throws -> (DescentFault.Kind, TreePosition?)? {
        let honest = try Self.rewritten(records: 600, at: 100)
        let checkpoints = [try self.checkpoint(honest, 590)]
        let result = self.compare(try Side(honest), try Side(fixture, lie: lie), checkpoints: checkpoints)
        guard case .caught(.b, let fault) = result.outcome else {
            Issue.record("not caught: \(result.outcome)")
            return nil
        }
        let other = self.compare(try Side(fixture, lie: lie), try Side(honest), checkpoints: checkpoints)
        #expect(other.outcome == .caught(.a, fault))
        return (fault.kind, fault.position)
    }

    /// Changes the n-th digest of answers to questions that match.
    func altering(_ place: Int, where matches: @escaping @Sendable (DescentQuestion) -> Bool) -> Lie {
        { question, answer in
            guard matches(question), case .digests(var digests) = answer, place < digests.count else { return answer }
            digests[place] = LedgerHash.leaf([7])
            return .digests(digests)
        }
    }

    @Test func catchesDescendantsThatDoNotHashToTheirNode() throws {
        let fixture = try LedgerFixture(records: 600)
        for place in [0, 1] {
            let found = try self.caught(
                fixture,
                self.altering(place) { if case .descendants(let node) = $0 { node.level == 9 } else { false } }
            )
            #expect(found?.0 == .contradictsItself)
            #expect(found?.1 == TreePosition(level: 9, index: 0))
        }
        for place in [0, 99, 255] {
            let found = try self.caught(
                fixture,
                self.altering(place) { if case .descendants(let node) = $0 { node.level == 8 } else { false } }
            )
            #expect(found?.1 == TreePosition(level: 8, index: 0))
        }
    }

    @Test func catchesBoundsOfAnotherTree() throws {
        // Longer than the other side, so that it must show what the common records are.
        let fixture = try LedgerFixture(records: 700)
        for place in 0..<4 {
            let found = try self.caught(
                fixture,
                self.altering(place) { if case .bounds(600, _) = $0 { true } else { false } }
            )
            #expect(found?.0 == .contradictsItself)
        }
        // The tree of the other side in the place of one's own.
        let mine = try Self.rewritten(records: 600, at: 100).reader().answer(.bounds(size: 600, of: 600))
        let found = try self.caught(fixture) { question, answer in
            guard case .bounds(600, 700) = question, case .digests(let own) = answer, case .digests(let other) = mine
            else {
                return answer
            }
            return .digests(other + own[other.count...])
        }
        #expect(found?.0 == .contradictsItself)
    }

    @Test func catchesBorrowedEvidence() throws {
        let honest = try Self.rewritten(records: 600, at: 100)
        let evidence = try honest.reader().answer(.bounds(size: 590, of: 600))
        let fixture = try LedgerFixture(records: 600)
        let found = try self.caught(fixture) { question, answer in
            if case .bounds(590, _) = question { evidence } else { answer }
        }
        #expect(found?.0 == .contradictsItself)
    }

    @Test func catchesAnswersOfAnotherForm() throws {
        let fixture = try LedgerFixture(records: 600)
        let longer = try LedgerFixture(records: 700)
        #expect(try self.caught(fixture) { _, _ in .digests([]) }?.0 == .malformed)
        #expect(try self.caught(fixture) { _, _ in .head(size: 3, peaks: []) }?.0 == .malformed)
        #expect(try self.caught(fixture) { _, _ in .record(nil) }?.0 == .malformed)
        #expect(
            try self.caught(fixture) { question, answer in
                guard case .descendants = question, case .digests(let digests) = answer else { return answer }
                return .digests(Array(digests.dropLast()))
            }?.0 == .malformed
        )
        #expect(
            try self.caught(longer) { question, answer in
                if case .bounds = question { .digests([]) } else { answer }
            }?.0 == .contradictsItself
        )
        // More records than there can be.
        let peaks = [Digest](repeating: .zero, count: 64)
        let huge = self.compare(
            try Side(fixture),
            try Side(fixture) { question, answer in
                if case .head = question { .head(size: .max, peaks: peaks) } else { .digests(peaks) }
            }
        )
        #expect(huge.outcome == .caught(.b, DescentFault(kind: .contradictsItself, position: nil)))
    }

    @Test func namesWhatTheRecordIs() throws {
        let honest = try Self.rewritten(records: 50, at: nil)
        let changed = try Self.rewritten(records: 50, at: 20)
        func standing(_ record: [UInt8]?) throws -> DescentLeaf.Standing? {
            self.compare(
                try Side(honest),
                try Side(changed) { question, answer in
                    if case .record = question { .record(record) } else { answer }
                }
            ).difference?.b.standing
        }
        #expect(try standing(changed.appended[19].bytes) == .sound)
        #expect(try standing(honest.appended[19].bytes) == .modified)
        #expect(try standing(nil) == .missing)
    }

    @Test func namesAnotherOrganizationsTree() throws {
        let fixture = try LedgerFixture(records: 50)
        let result = MerkleDescent.compare(
            try Side(fixture),
            try Side(try Self.rewritten(records: 50, at: 1)),
            organization: OrganizationKey("lab-b")!,
            checkpoints: []
        )
        #expect(result.difference?.sequence.rawValue == 1)
        #expect(result.difference?.a.standing == .foreign && result.difference?.b.standing == .foreign)
    }

    @Test func aSilentSideIsUnavailableAndKeepsWhatWasFound() throws {
        let honest = try Side(try Self.rewritten(records: 600, at: nil))
        let fixture = try Self.rewritten(records: 600, at: 30)
        let silent = try Side(fixture) { _, _ in .unavailable("down") }
        #expect(self.compare(honest, silent).outcome == .unavailable(.b, "down"))
        let later = try Side(fixture) { question, answer in
            if case .record = question { .unavailable("down") } else { answer }
        }
        let result = self.compare(honest, later)
        #expect(result.outcome == .differs)
        #expect(result.difference?.sequence.rawValue == 30)
        #expect(result.difference?.b.standing == .unread)
    }

    @Test func refusesQuestionsBeyondTheTree() throws {
        let reader = try LedgerFixture(records: 20).reader()
        let first = SequenceNumber(1)
        for question: DescentQuestion in [
            .bounds(size: 5, of: 21), .bounds(size: 6, of: 5), .descendants(TreePosition(level: 5, index: 0)),
            .descendants(TreePosition(level: 200, index: 0)), .descendants(TreePosition(level: 0, index: 20)),
            .contents(first: first, records: 21, blockRecords: 1),
            .contents(first: SequenceNumber(.max), records: 1, blockRecords: 1),
            .contents(first: first, records: 20, blockRecords: 0),
            .contents(first: first, records: 20, blockRecords: 257),
            .contents(first: .zero, records: 20, blockRecords: 20),
        ] {
            #expect(throws: LedgerError.self, "\(question)") { try reader.answer(question) }
        }
        #expect(try reader.answer(.record(SequenceNumber(21))) == .record(nil))
    }

    @Test(arguments: [UInt64(0), 1, 2, 3, 5, 8, 31, 64, 100]) func coversFoldToTheWhole(size: UInt64) {
        var trees = [MerkleTree()]
        var nodes: [TreePosition: Digest] = [:]
        for number in 0..<size {
            var tree = trees[trees.count - 1]
            tree.push(LedgerHash.leaf([UInt8(number)])) { nodes[$0] = $1 }
            trees.append(tree)
        }
        for from in 0...size {
            let places = MerkleTree.peaks(size: from) + MerkleTree.cover(from: from, to: size)
            let folded = MerkleTree.peaks(folding: places.map { ($0, nodes[$0] ?? .zero) })
            #expect(folded == trees[Int(size)].frontier, "\(from)")
        }
    }
}
