import Laboratory
import Primitives
import Synchronization
import Testing

@testable import NodeRuntime

/// A peer's questions about organizations that this node may not have heard of.
@Suite("News of organizations", .timeLimit(.minutes(10)))
struct OrganizationNewsTests {
    private struct Away: Error {}

    /// A node that learns of `later` when it catches up.
    private final class Node: Sendable {
        private let state: Mutex<(known: [OrganizationKey: OrganizationID], rounds: Int)>
        private let later: [OrganizationKey: OrganizationID]?

        init(knows known: [OrganizationKey: OrganizationID], learns later: [OrganizationKey: OrganizationID]?) {
            self.state = Mutex((known, 0))
            self.later = later
        }

        var rounds: Int { self.state.withLock { $0.rounds } }

        func id(_ key: OrganizationKey) -> OrganizationID? { self.state.withLock { $0.known[key] } }

        var news: OrganizationNews {
            OrganizationNews(
                known: { self.id($0) },
                catchUp: {
                    try self.state.withLock { state in
                        state.rounds += 1
                        guard let later = self.later else { throw Away() }
                        state.known.merge(later) { _, new in new }
                    }
                }
            )
        }
    }

    private static func question(_ key: String, _ id: UInt32) -> WireMakeSubjectKeysRequest {
        var question = WireMakeSubjectKeysRequest()
        question.key = key
        question.organization = id
        return question
    }

    @Test func anOrganizationCreatedAMomentAgoIsKnownBeforeTheAnswer() async throws {
        let key = try #require(OrganizationKey("clinic"))
        let node = Node(knows: [:], learns: [key: OrganizationID(7)])
        await node.news.hear(Self.question("clinic", 7))
        #expect(node.id(key) == OrganizationID(7))
        #expect(node.rounds == 1)
    }

    @Test func oneOfAnotherIdIsLookedUpAgain() async throws {
        let key = try #require(OrganizationKey("clinic"))
        let node = Node(knows: [key: OrganizationID(3)], learns: [key: OrganizationID(7)])
        await node.news.hear(Self.question("clinic", 7))
        #expect(node.id(key) == OrganizationID(7))
    }

    @Test func knownOnesAndKeysThatAreNoneCostNoRound() async throws {
        let key = try #require(OrganizationKey("clinic"))
        let node = Node(knows: [key: OrganizationID(7)], learns: [:])
        await node.news.hear(Self.question("clinic", 7))
        await node.news.hear(Self.question("No Key!", 7))
        #expect(node.rounds == 0)
    }

    @Test func withoutAMajorityTheQuestionIsLeftToItsOwnAnswer() async throws {
        let key = try #require(OrganizationKey("clinic"))
        let node = Node(knows: [:], learns: nil)
        await node.news.hear(Self.question("clinic", 7))
        #expect(node.rounds == 1 && node.id(key) == nil)
    }
}
