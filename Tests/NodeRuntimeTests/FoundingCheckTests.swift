internal import Consensus
internal import Logging
internal import Primitives
internal import Storage
internal import Synchronization
internal import Testing

@testable internal import NodeRuntime

@Suite("Whether a node with an empty data directory may take part")
struct FoundingCheckTests {
    private static let own = NodeID(9)

    private static func verdict(_ answers: [FoundingCheck.Answer]) -> FoundingCheck.Verdict {
        var numbered: [NodeID: FoundingCheck.Answer] = [:]
        for (place, answer) in answers.enumerated() { numbered[NodeID(UInt64(place + 1))] = answer }
        return FoundingCheck.verdict(numbered, node: self.own)
    }

    private static func isRefused(_ answers: [FoundingCheck.Answer]) -> Bool {
        if case .refuse = self.verdict(answers) { true } else { false }
    }

    @Test func aSingleNodeAsksNobody() {
        #expect(Self.verdict([]) == .enter)
    }

    @Test func aFreshMajorityBegins() {
        #expect(Self.verdict([.isFresh, .isSilent]) == .enter)
        #expect(Self.verdict([.isFresh, .isSilent, .isSilent, .isSilent]) == .wait)
        #expect(Self.verdict([.isFresh, .isFresh, .isSilent, .isSilent]) == .enter)
        #expect(Self.verdict([.isSilent]) == .wait)
        #expect(Self.verdict([.isFresh]) == .enter)
    }

    @Test func aFoundingNodeThatComesLateIsLetIn() {
        #expect(Self.verdict([.hasNotMet, .hasNotMet]) == .enter)
        #expect(Self.verdict([.hasNotMet, .isSilent]) == .wait, "the silent one may have met it")
        #expect(Self.verdict([.hasNotMet, .hasNotMet, .hasNotMet, .isSilent]) == .enter)
        #expect(Self.verdict([.hasNotMet, .hasNotMet, .isSilent, .isSilent]) == .wait)
    }

    @Test func whoWasMetIsRefusedWhateverOthersSay() {
        #expect(Self.isRefused([.isFresh, .hasMet]))
        #expect(Self.isRefused([.hasMet, .isSilent]))
        #expect(Self.isRefused([.hasNotMet, .hasNotMet, .hasNotMet, .hasMet]))
        guard case .refuse(let reason) = Self.verdict([.hasMet, .isFresh]) else { return }
        #expect(reason.contains("replace-node 9"))
    }

    @Test func whoWasRemovedIsRefused() {
        #expect(Self.isRefused([.isFresh, .refuses("node 9 was removed")]))
    }

    /// Every way in which a cluster of n can have acknowledged something with this node's help, and lost its data: when all
    /// others answer but fewer than half, it never enters.
    @Test(arguments: 2...7)
    func whatWasAcknowledgedWithItIsNeverVotedAway(members: Int) {
        let others = members - 1
        for met in 0..<(1 << others) where met.nonzeroBitCount + 1 > members / 2 {
            for silent in 0..<(1 << others) {
                let answers = (0..<others).map { place -> FoundingCheck.Answer in
                    if silent >> place & 1 == 1 { return .isSilent }
                    return met >> place & 1 == 1 ? .hasMet : .hasNotMet
                }
                #expect(Self.verdict(answers) != .enter, "\(answers)")
            }
        }
    }

    @Test func theCheckIsDemandedUntilItIsPassed() throws {
        let store = InMemoryStore()
        #expect(try !FoundingCheck.isDemanded(in: store))
        var batch = WriteBatch()
        FoundingCheck.demand(in: &batch)
        try store.write(batch)
        #expect(try FoundingCheck.isDemanded(in: store))
        try FoundingCheck.pass(in: store)
        #expect(try !FoundingCheck.isDemanded(in: store))
    }

    // MARK: Asking

    /// Members whose answers change from round to round; the last one stays.
    private final class Members: Sendable {
        private let answers: Mutex<[NodeID: [FoundingCheck.Answer]]>

        init(_ answers: [UInt64: [FoundingCheck.Answer]]) {
            self.answers = Mutex(Dictionary(uniqueKeysWithValues: answers.map { (NodeID($0.key), $0.value) }))
        }

        func answer(_ member: NodeID) throws -> WireStatusResponse {
            let answer = self.answers.withLock { answers -> FoundingCheck.Answer in
                guard let list = answers[member], let first = list.first else { return .isSilent }
                if list.count > 1 { answers[member]?.removeFirst() }
                return first
            }
            var status = WireStatusResponse()
            switch answer {
            case .hasMet: status.askerMet = true
            case .isFresh: status.isFresh = true
            case .hasNotMet: break
            case .isSilent: throw PeerError(code: .unreachable, peer: member, message: "down", cause: nil)
            case .refuses(let reason):
                let refusal = PeerRefusal(.removedNode, reason)
                throw PeerError(code: .refused, peer: member, message: "status", cause: refusal)
            }
            return status
        }

        func ask(_ clock: SkippingClock) async throws {
            let members = self.answers.withLock { $0.keys.sorted() }
            let inquiry = FoundingInquiry(
                node: NodeID(9),
                members: members,
                logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
            ) { try self.answer($0) }
            try await inquiry.run(clock: clock)
        }
    }

    @Test(.timeLimit(.minutes(10)))
    func itAsksUntilEnoughHaveAnswered() async throws {
        let clock = SkippingClock()
        try await Members([1: [.isSilent, .isSilent, .hasNotMet], 2: [.isSilent, .hasNotMet]]).ask(clock)
        #expect(clock.sleeps == [FoundingInquiry.pauseMin, FoundingInquiry.pauseMin * 2])
    }

    @Test(.timeLimit(.minutes(10)))
    func aMemberThatHasMetItEndsTheStart() async throws {
        let error = await #expect(throws: NodeError.self) {
            try await Members([1: [.isSilent, .hasMet], 2: [.isSilent]]).ask(SkippingClock())
        }
        #expect(error?.code == .join)
        await #expect(throws: NodeError.self) {
            try await Members([1: [.refuses("gone")], 2: [.isSilent]]).ask(SkippingClock())
        }
    }
}

@Suite("Whom a node has met")
struct MetPeersTests {
    @Test(.timeLimit(.minutes(10)))
    func aMeetingIsRememberedOverARestart() async throws {
        let store = InMemoryStore()
        let threads = try StoreThreads(name: "test", count: 1, queuedMax: 10)
        defer { threads.shutdown() }
        let met = try MetPeers(store: store, threads: threads)
        #expect(!met.contains(NodeID(300)))
        try await met.note(NodeID(300))
        try await met.note(NodeID(300))
        #expect(met.contains(NodeID(300)))
        let again = try MetPeers(store: store, threads: threads)
        #expect(again.contains(NodeID(300)))
        #expect(!again.contains(NodeID(3)))
    }
}
