internal import Laboratory
internal import Primitives
internal import Testing

@testable internal import NodeRuntime

@Suite("Rebuilding, judged")
struct HistoryRebuildTests {
    private let sound = RebuildCheck.Result(
        size: 9,
        entities: 2,
        root: Digest(words: (1, 0, 0, 0)),
        storedRoot: Digest(words: (1, 0, 0, 0)),
        ledgerState: Digest(words: (2, 0, 0, 0)),
        columnarState: Digest(words: (2, 0, 0, 0)),
        entitiesState: Digest(words: (2, 0, 0, 0)),
        ledgerHistory: Digest(words: (4, 0, 0, 0)),
        columnarHistory: Digest(words: (4, 0, 0, 0))
    )

    private func isGood(_ results: RebuildCheck.Result...) -> Bool {
        RebuildReport.isGood(results.enumerated().map { (NodeID(UInt64($0.offset + 1)), .success($0.element)) })
    }

    @Test func passesOnlyWhatIsEqualEverywhere() {
        #expect(self.isGood(self.sound, self.sound))
        #expect(!self.isGood())
        var other = self.sound
        other.columnarState = Digest(words: (3, 0, 0, 0))
        #expect(!self.isGood(self.sound, other), "rows that fold to another state")
        other = self.sound
        other.entitiesState = Digest(words: (3, 0, 0, 0))
        #expect(!self.isGood(self.sound, other), "other rows of entities")
        other = self.sound
        other.columnarHistory = Digest(words: (3, 0, 0, 0))
        #expect(!self.isGood(self.sound, other), "other rows of entity_history")
        other = self.sound
        other.storedRoot = Digest(words: (3, 0, 0, 0))
        #expect(!self.isGood(self.sound, other), "another stored root")
        other = self.sound
        other.ledgerState = Digest(words: (3, 0, 0, 0))
        other.columnarState = other.ledgerState
        other.entitiesState = other.ledgerState
        #expect(!self.isGood(self.sound, other), "sound in itself, but another history")
        let lost = PeerError(code: .interrupted, peer: NodeID(2), message: "gone", cause: nil)
        #expect(!RebuildReport.isGood([(NodeID(1), .success(self.sound)), (NodeID(2), .failure(lost))]))
    }

    @Test func anAnswerThatEndsEarlyIsNotGood() throws {
        let good = #"{"organization":"lab-a","status":"ok","replicas":[{"node":1,"status":"ok"}]}"#
        func summary(_ lines: String...) throws -> RebuildSummary {
            var summary = RebuildSummary()
            for line in lines { summary.add(try ClusterClient.decode(RebuildView.self, from: line.utf8)) }
            return summary
        }
        #expect(try summary(good, #"{"summary":{"organizations":1}}"#).isGood)
        #expect(try !summary(good).isGood)
        #expect(try !summary(good, #"{"summary":{"organizations":2}}"#).isGood)
        #expect(try !summary().isGood)
    }
}
