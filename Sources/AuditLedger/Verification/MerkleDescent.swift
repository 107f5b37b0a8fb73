package import Primitives

/// Compares two histories by descending their trees, and finds the first record at which they part.
///
/// A pure state machine: the caller asks what ``next()`` wants of each side, at once or one after the other, gives back
/// each answer, and calls ``next()`` again. Round by round: the sizes and roots of perfect subtrees; the same for the
/// smaller size; then eight levels at a time down the first subtree that differs. Every answer must hash to the node
/// that the side has given before, so that a side that lies or is damaged is caught where it does; only what descends
/// from one root is compared. 10 million records take five round trips, of at most 8 KiB each.
///
/// A side may hold some records only (a filtered package): it answers with higher nodes where it knows nothing below, and
/// the descent ends there if that is where the sides part.
///
/// It finds rewritten history. Bytes that rotted under intact nodes are ``LedgerVerifier``'s to find.
package struct MerkleDescent: Sendable {
    /// What the caller does next.
    package enum Step: Sendable {
        /// Ask these; never empty, at most one a side.
        case ask([DescentSide: DescentQuestion])
        case done(DescentResult)
    }

    /// Later records that are compared unless the caller wants more.
    package static let laterRecordsStandard = UInt64(1) << 20
    /// Checkpoints over a difference that are asked about, smallest first.
    static let evidenceMax = 4
    /// Differing blocks of later records that are looked into.
    static let blocksReadMax = 64

    private enum Phase {
        case heads
        case bounds(size: UInt64)
        /// Both sides have given another digest for this node.
        case descending(TreePosition)
        case records
        /// The first of these is asked about, the others come after.
        case evidence([DescentCheckpoint])
        /// Blocks of later records, from this one on.
        case blocks(SequenceNumber, records: UInt64)
        /// The records of blocks that differ, the last one first.
        case block([SequenceNumber], after: SequenceNumber)
        case done(DescentResult.Outcome)

        var isRecords: Bool {
            if case .records = self { true } else { false }
        }
    }

    /// What is known of a side.
    private struct Known {
        var size: UInt64?
        var peaks: [Digest] = []
        /// The node that is being descended.
        var digest = Digest.zero
    }

    private let organization: OrganizationKey?
    private let checkpoints: [DescentCheckpoint]
    private let laterRecordsMax: UInt64
    private var phase = Phase.heads
    private var known: [DescentSide: Known] = [.a: Known(), .b: Known()]
    private var difference: DescentDifference?
    /// Where the sides part, when one of them does not show it.
    private var gap: (side: DescentSide, gap: DescentGap)?
    private var pending: [DescentSide: DescentQuestion] = [.a: .head, .b: .head]
    private var answers: [DescentSide: DescentAnswer] = [:]
    private var rounds = 1
    private var roundsToDifference: Int?
    private var largestAnswer = 0
    private var common = UInt64(0)
    private var blocksRead = 0

    /// - Parameters:
    ///   - organization: The key that records must carry; nil to take any.
    ///   - checkpoints: Signed roots that are known; those that no quorum signed do not decide.
    ///   - laterRecordsMax: Records after the first difference whose contents are compared; zero for none.
    package init(
        organization: OrganizationKey?,
        checkpoints: [DescentCheckpoint],
        laterRecordsMax: UInt64 = MerkleDescent.laterRecordsStandard
    ) {
        self.organization = organization
        self.checkpoints = checkpoints.filter(\.isQuorumSigned).sorted { $0.size < $1.size }
        self.laterRecordsMax = laterRecordsMax
    }

    /// What to do next; while answers are outstanding, the questions that await them.
    package mutating func next() -> Step {
        while self.pending.isEmpty {
            if case .done(let outcome) = self.phase { return .done(self.result(outcome)) }
            let answers = self.answers
            self.answers = [:]
            self.take(answers)
            if !self.pending.isEmpty { self.rounds += 1 }
        }
        return .ask(self.pending)
    }

    /// Takes the answer of a side to its outstanding question; ignored when there is none.
    package mutating func answer(_ answer: DescentAnswer, from side: DescentSide) {
        guard self.pending.removeValue(forKey: side) != nil else { return }
        switch answer {
        case .head(_, let digests), .digests(let digests): self.largestAnswer = max(self.largestAnswer, digests.count)
        case .cover(let nodes): self.largestAnswer = max(self.largestAnswer, nodes.count)
        case .record, .withheld, .unavailable: break
        }
        self.answers[side] = answer
    }

    /// Compares two sides that answer at once.
    /// - Throws: Nothing of its own: a side that cannot be read is an outcome.
    package static func compare(
        _ a: some TreeSide,
        _ b: some TreeSide,
        organization: OrganizationKey?,
        checkpoints: [DescentCheckpoint],
        laterRecordsMax: UInt64 = MerkleDescent.laterRecordsStandard
    ) -> DescentResult {
        func answer(_ side: some TreeSide, _ question: DescentQuestion) -> DescentAnswer {
            do throws(LedgerError) {
                return try side.answer(question)
            } catch {
                return .unavailable(error.description)
            }
        }
        var descent = MerkleDescent(
            organization: organization,
            checkpoints: checkpoints,
            laterRecordsMax: laterRecordsMax
        )
        while true {
            switch descent.next() {
            case .done(let result): return result
            case .ask(let questions):
                if let question = questions[.a] { descent.answer(answer(a, question), from: .a) }
                if let question = questions[.b] { descent.answer(answer(b, question), from: .b) }
            }
        }
    }

    // MARK: Steps

    private func result(_ outcome: DescentResult.Outcome) -> DescentResult {
        DescentResult(
            outcome: outcome,
            difference: self.difference,
            sizeA: self.known[.a]?.size,
            sizeB: self.known[.b]?.size,
            roundTrips: self.roundsToDifference ?? self.rounds,
            roundTripsInAll: self.rounds,
            largestAnswer: self.largestAnswer
        )
    }

    private mutating func ask(_ question: DescentQuestion, of sides: [DescentSide] = DescentSide.allCases) {
        for side in sides { self.pending[side] = question }
    }

    /// Ends the comparison, or, when a difference is known already, goes on without what the side did not give.
    private mutating func end(_ outcome: DescentResult.Outcome) {
        // A difference that was found stays found, if a side falls silent afterwards.
        if case .unavailable = outcome, self.difference != nil || self.gap != nil {
            self.phase = .done(self.gap.map { .withheld($0.side, $0.gap) } ?? .differs)
        } else {
            self.phase = .done(outcome)
        }
    }

    private mutating func caught(_ side: DescentSide, _ kind: DescentFault.Kind, _ position: TreePosition? = nil) {
        self.end(.caught(side, DescentFault(kind: kind, position: position)))
    }

    private mutating func take(_ answers: [DescentSide: DescentAnswer]) {
        for side in DescentSide.allCases {
            if case .unavailable(let reason) = answers[side] { return self.end(.unavailable(side, reason)) }
            // A record that is not shown has a checksum all the same.
            if case .withheld = answers[side], !self.phase.isRecords {
                return self.end(.unavailable(side, "it holds some records only, and not what tells the sides apart"))
            }
        }
        switch self.phase {
        case .heads: self.takeHeads(answers)
        case .bounds(let size): self.takeBounds(answers, size: size)
        case .descending(let position): self.takeDescendants(answers, of: position)
        case .records: self.takeRecords(answers)
        case .evidence(let checkpoints): self.takeEvidence(answers, checkpoints)
        case .blocks(let first, let records): self.takeBlocks(answers, first: first, records: records)
        case .block(let blocks, let after): self.takeBlock(answers, blocks, after: after)
        case .done: break
        }
    }

    private mutating func takeHeads(_ answers: [DescentSide: DescentAnswer]) {
        for side in DescentSide.allCases {
            guard case .head(let size, let peaks) = answers[side], peaks.count == size.nonzeroBitCount else {
                return self.caught(side, .malformed)
            }
            self.known[side] = Known(size: size, peaks: peaks)
        }
        let sizes = self.sizes
        self.common = min(sizes.a, sizes.b)
        self.phase = .bounds(size: self.common)
        // Equal sizes need no second question; of two, the shorter side has answered it already.
        let longer = sizes.a == sizes.b ? nil : sizes.a > sizes.b ? DescentSide.a : .b
        if let longer { self.ask(.bounds(size: self.common, of: max(sizes.a, sizes.b)), of: [longer]) }
    }

    private var sizes: (a: UInt64, b: UInt64) { (self.known[.a]?.size ?? 0, self.known[.b]?.size ?? 0) }

    /// Whether the digests are the bounds of `size` in the tree that the side has given.
    private func isBounds(_ digests: [Digest], size: UInt64, of side: DescentSide) -> Bool {
        guard let known = self.known[side], let whole = known.size else { return false }
        let places = MerkleTree.peaks(size: size) + MerkleTree.cover(from: size, to: whole)
        guard digests.count == places.count else { return false }
        return MerkleTree.peaks(folding: Array(zip(places, digests))) == known.peaks
    }

    private mutating func takeBounds(_ answers: [DescentSide: DescentAnswer], size: UInt64) {
        var peaks: [DescentSide: [Digest]] = [:]
        for side in DescentSide.allCases {
            let own = self.known[side] ?? Known()
            if own.size == size {
                peaks[side] = own.peaks
                continue
            }
            guard case .digests(let digests) = answers[side] else { return self.caught(side, .malformed) }
            guard self.isBounds(digests, size: size, of: side) else { return self.caught(side, .contradictsItself) }
            peaks[side] = Array(digests.prefix(size.nonzeroBitCount))
        }
        let a = peaks[.a] ?? []
        let b = peaks[.b] ?? []
        for (place, position) in MerkleTree.peaks(size: size).enumerated() where a[place] != b[place] {
            return self.descend(position, a[place], b[place])
        }
        let sizes = self.sizes
        if sizes.a == sizes.b { return self.end(.equal) }
        self.end(.prefix(shorter: sizes.a < sizes.b ? .a : .b))
    }

    private mutating func descend(_ position: TreePosition, _ a: Digest, _ b: Digest) {
        self.known[.a]?.digest = a
        self.known[.b]?.digest = b
        guard position.level == 0 else {
            self.phase = .descending(position)
            return self.ask(.descendants(position))
        }
        let sequence = position.firstSequence
        self.roundsToDifference = self.rounds
        self.difference = DescentDifference(
            sequence: sequence,
            a: DescentLeaf(checksum: a),
            b: DescentLeaf(checksum: b),
            laterTotal: self.common - sequence.rawValue
        )
        self.phase = .records
        self.ask(.record(sequence))
    }

    private mutating func takeDescendants(_ answers: [DescentSide: DescentAnswer], of position: TreePosition) {
        let below = position.rowBelow
        var rows: [DescentSide: [DescentNode]] = [:]
        for side in DescentSide.allCases {
            guard let nodes = answers[side].flatMap({ Self.nodes($0, of: position) }), nodes.count <= below.count,
                nodes.allSatisfy({ $0.position.level >= below.first.level })
            else { return self.caught(side, .malformed, position) }
            guard MerkleTree.root(of: position, folding: nodes) == self.known[side]?.digest else {
                return self.caught(side, .contradictsItself, position)
            }
            rows[side] = nodes
        }
        // Two rows under different nodes differ somewhere.
        guard let (a, b, coarse) = MerkleTree.firstDifference(rows[.a] ?? [], rows[.b] ?? []) else {
            return self.caught(.a, .contradictsItself, position)
        }
        if a.position.level == below.first.level { return self.descend(a.position, a.digest, b.digest) }
        let gap = DescentGap(first: a.position.firstSequence, last: a.position.lastSequence)
        self.gap = (coarse, gap)
        self.weigh(from: gap.last)
    }

    /// The nodes of an answer about descendants; nil when it is none.
    private static func nodes(_ answer: DescentAnswer, of position: TreePosition) -> [DescentNode]? {
        if case .cover(let nodes) = answer { return nodes }
        let below = position.rowBelow
        guard case .digests(let digests) = answer, digests.count == below.count else { return nil }
        return digests.enumerated().map { place, digest in
            let index = below.first.index + UInt64(place)
            return DescentNode(position: TreePosition(level: below.first.level, index: index), digest: digest)
        }
    }

    // MARK: After the difference

    private mutating func takeRecords(_ answers: [DescentSide: DescentAnswer]) {
        guard var difference = self.difference else { return }
        difference.a = self.read(answers[.a], difference.a, at: difference.sequence)
        difference.b = self.read(answers[.b], difference.b, at: difference.sequence)
        if let left = difference.a.bytes, let right = difference.b.bytes {
            difference.members = Self.members(left, right)
        }
        self.difference = difference
        self.weigh(from: difference.sequence)
    }

    /// Asks about the signed checkpoints over a difference, or goes on without.
    private mutating func weigh(from sequence: SequenceNumber) {
        let largest = max(self.sizes.a, self.sizes.b)
        let covering = self.checkpoints.filter { $0.size >= sequence.rawValue && $0.size <= largest }
        self.ask(evidence: Array(covering.prefix(Self.evidenceMax)))
    }

    private mutating func ask(evidence checkpoints: [DescentCheckpoint]) {
        guard let checkpoint = checkpoints.first else {
            if let gap = self.gap { return self.end(.withheld(gap.side, gap.gap)) }
            return self.compareLater(from: (self.difference?.sequence ?? .zero).next)
        }
        self.phase = .evidence(checkpoints)
        for side in DescentSide.allCases {
            guard let size = self.known[side]?.size, size >= checkpoint.size else { continue }
            self.ask(.bounds(size: checkpoint.size, of: size), of: [side])
        }
    }

    private func read(_ answer: DescentAnswer?, _ leaf: DescentLeaf, at sequence: SequenceNumber) -> DescentLeaf {
        var leaf = leaf
        guard case .record(let bytes) = answer else { return leaf }
        guard let bytes else {
            leaf.standing = .missing
            return leaf
        }
        leaf.bytes = bytes
        guard LedgerHash.leaf(bytes) == leaf.checksum else {
            leaf.standing = .modified
            return leaf
        }
        let fields = try? RecordFields(scanning: bytes)
        let isOurs = self.organization.map { fields?.text(.organization) == $0.rawValue } ?? true
        leaf.standing = fields?.sequence == sequence && isOurs ? .sound : .foreign
        return leaf
    }

    private static func members(_ left: [UInt8], _ right: [UInt8]) -> [String] {
        guard let left = try? RecordFields(scanning: left), let right = try? RecordFields(scanning: right) else {
            return []
        }
        return RecordField.allCases.filter { field in
            switch (left.json(field), right.json(field)) {
            case (nil, nil): false
            case (let left?, let right?): !left.elementsEqual(right)
            default: true
            }
        }.map(\.path)
    }

    private mutating func takeEvidence(
        _ answers: [DescentSide: DescentAnswer],
        _ checkpoints: [DescentCheckpoint]
    ) {
        guard let checkpoint = checkpoints.first else { return }
        var supported: DescentSide?
        for side in DescentSide.allCases {
            guard let answer = answers[side] else { continue }
            guard case .digests(let digests) = answer else { return self.caught(side, .malformed) }
            // These nodes and the ones that were descended are of one tree, or the side is caught.
            guard self.isBounds(digests, size: checkpoint.size, of: side) else {
                return self.caught(side, .contradictsItself)
            }
            let peaks = Array(digests.prefix(checkpoint.size.nonzeroBitCount))
            // Both cannot have it: their trees differ below this size.
            if MerkleTree.root(ofPeaks: peaks) == checkpoint.root { supported = side }
        }
        let before = self.difference?.verdict ?? self.gap?.gap.verdict ?? .undecided
        let verdict = before.joined(with: supported, checkpointSize: checkpoint.size)
        self.difference?.verdict = verdict
        self.gap?.gap.verdict = verdict
        self.ask(evidence: Array(checkpoints.dropFirst()))
    }

    /// Compares the contents of later records, or ends.
    private mutating func compareLater(from first: SequenceNumber) {
        guard let difference = self.difference else { return }
        let last = min(self.common, difference.sequence.rawValue &+ self.laterRecordsMax)
        guard first.rawValue <= last else { return self.end(.differs) }
        let records = min(last - first.rawValue + 1, DescentContents.questionRecordsMax)
        self.phase = .blocks(first, records: records)
        self.ask(.contents(first: first, records: records, blockRecords: DescentContents.blockRecordsMax))
    }

    /// The two rows of digests, or nil when the comparison has ended over them.
    private mutating func rows(_ answers: [DescentSide: DescentAnswer], count: UInt64) -> ([Digest], [Digest])? {
        var rows: [[Digest]] = []
        for side in DescentSide.allCases {
            guard case .digests(let digests) = answers[side], digests.count == Int(count) else {
                self.caught(side, .malformed)
                return nil
            }
            rows.append(digests)
        }
        return (rows[0], rows[1])
    }

    private mutating func takeBlocks(
        _ answers: [DescentSide: DescentAnswer],
        first: SequenceNumber,
        records: UInt64
    ) {
        let size = DescentContents.blockRecordsMax
        guard let (a, b) = self.rows(answers, count: (records + size - 1) / size) else { return }
        let differing = a.indices.filter { a[$0] != b[$0] }.map {
            SequenceNumber(first.rawValue + UInt64($0) * size)
        }
        self.askBlock(differing.reversed(), after: SequenceNumber(first.rawValue + records))
    }

    /// Looks into the last of `blocks`, or goes on with the records from `after` on when there is none.
    private mutating func askBlock(_ blocks: [SequenceNumber], after: SequenceNumber) {
        guard let sequence = self.difference?.sequence.rawValue else { return }
        guard let block = blocks.last else {
            self.difference?.laterCompared = after.rawValue - 1 - sequence
            return self.compareLater(from: after)
        }
        self.difference?.laterCompared = block.rawValue - 1 - sequence
        guard self.blocksRead < Self.blocksReadMax else { return self.end(.differs) }
        self.blocksRead += 1
        self.phase = .block(blocks, after: after)
        self.ask(.contents(first: block, records: self.blockRecords(block), blockRecords: 1))
    }

    private func blockRecords(_ first: SequenceNumber) -> UInt64 {
        let last = min(self.common, (self.difference?.sequence.rawValue ?? 0) &+ self.laterRecordsMax)
        return min(DescentContents.blockRecordsMax, last - first.rawValue + 1)
    }

    private mutating func takeBlock(
        _ answers: [DescentSide: DescentAnswer],
        _ blocks: [SequenceNumber],
        after: SequenceNumber
    ) {
        guard let block = blocks.last, let (a, b) = self.rows(answers, count: self.blockRecords(block)) else { return }
        self.difference?.laterDiffering += UInt64(a.indices.count { a[$0] != b[$0] })
        self.askBlock(Array(blocks.dropLast()), after: after)
    }
}
