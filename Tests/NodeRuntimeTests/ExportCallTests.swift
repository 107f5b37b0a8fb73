internal import AuditLedger
internal import AuditPackage
internal import Laboratory
internal import NIOCore
internal import Primitives
internal import SwiftProtobuf
internal import Testing

@testable internal import NodeRuntime
@testable internal import Shards

@Suite("What an export is asked for")
struct ExportCallTests {
    private func call(_ parameters: [(name: String, value: String)]) throws -> ExportCall {
        try ExportCall(Fixture.call(parameters))
    }

    @Test func isAWholePackageUnlessSaidOtherwise() throws {
        let call = try self.call([])
        #expect(call.format == .package)
        #expect(call.isWhole)
        #expect(try call.range(size: 9) == 1...9)
    }

    @Test func keepsFiltersInTheWordsOfTheRequest() throws {
        let call = try self.call([("entity_type", "batch"), ("first", "3"), ("format", "csv"), ("reason", "é")])
        #expect(call.filters == [JSONMember("entity_type", .text("batch")), JSONMember("reason", .text("é"))])
        #expect(!call.isWhole)
        #expect(call.format == .csv)
    }

    @Test func opensPersonalValuesOnlyWhenAsked() throws {
        #expect(try !self.call([]).opensPersonal)
        let call = try self.call([("personal", "reveal")])
        #expect(call.opensPersonal && call.isWhole && call.filters.isEmpty)
    }

    @Test func endsAtTheCheckpoint() throws {
        #expect(try self.call([("first", "3"), ("last", "900")]).range(size: 9) == 3...9)
    }

    @Test(
        arguments: [
            [("limit", "5")], [("cursor", "5")], [("order", "desc")], [("consistency", "eventual")],
            [("format", "zip")],
            [("first", "0")], [("first", "9"), ("last", "8")], [("size", "-1")], [("since", "x")],
            [("severity", "loud")],
            [("from", "2026-02-01T00:00:00Z"), ("to", "2026-01-01T00:00:00Z")], [("nonsense", "1")],
            [("columns", "sequence")], [("columns", "nonsense"), ("format", "csv")],
            [("columns", ""), ("format", "csv")],
            [("columns", "action,action"), ("format", "csv")], [("profile", "lake")],
            [("profile", "lake"), ("format", "csv")], [("profile", "x"), ("format", "parquet")],
            [("personal", "all")], [("personal", "reveal"), ("format", "csv")],
        ] as [[(name: String, value: String)]]
    )
    func refusesWhatMakesNoSense(parameters: [(name: String, value: String)]) {
        let problem = #expect(throws: Problem.self) { try self.call(parameters) }
        #expect(problem?.code == .invalidParameter)
    }

    @Test func selectsTheColumnsThatWereAskedForInTheirOrder() throws {
        #expect(try self.call([("format", "csv")]).selection == "*")
        let chosen = try self.call([("format", "csv"), ("columns", "action,sequence")])
        #expect(chosen.selection == "\"action\", \"sequence\"" && chosen.filters.isEmpty)
        let lake = try self.call([
            ("format", "parquet"), ("profile", "lake"), ("columns", "sequence,recorded_at,after"),
        ])
        #expect(
            lake.selection
                == "CAST(\"sequence\" AS BIGINT) AS \"sequence\", CAST(\"recorded_at\" AS TIMESTAMP WITH TIME ZONE) AS "
                + "\"recorded_at\", CAST(\"after\" AS VARCHAR) AS \"after\""
        )
    }

    @Test func refusesARangeBehindTheCheckpoint() throws {
        let call = try self.call([("first", "10")])
        let problem = #expect(throws: Problem.self) { try call.range(size: 9) }
        #expect(problem?.code == .recordNotFound)
    }

    @Test func readsRangesAFewRecordsAtATime() {
        var pages = SequencePages(ranges: [1...1, 4...9, 12...12])
        var all: [[UInt64]] = []
        while let page = pages.next(count: 3) { all.append(page.map(\.rawValue)) }
        #expect(all == [[1, 4, 5], [6, 7, 8], [9, 12]])
        var none = SequencePages(ranges: [])
        #expect(none.next(count: 3) == nil)
    }

    @Test func makesAFewExportsAtATime() throws {
        let slots = ExportSlots()
        var taken: [ExportSlots.Slot] = []
        for _ in 0..<ExportSlots.countMax { taken.append(try slots.take()) }
        let problem = #expect(throws: Problem.self) { try slots.take() }
        #expect(problem?.code == .overloaded)
        taken[0].giveBack()
        taken[0].giveBack()
        let again = try slots.take()
        #expect(throws: Problem.self) { try slots.take() }
        again.giveBack()
        taken.removeAll()
        for _ in 0..<ExportSlots.countMax { taken.append(try slots.take()) }
    }

    @Test func anOrderToAnotherNodeKeepsEverything() throws {
        let key = try Fixture.key("lab-a")
        let entry = OrganizationEntry(
            id: OrganizationID(4),
            key: key,
            name: "Lab A",
            group: GroupID(1),
            createdAt: Timestamp(microseconds: 0)
        )
        var state = SystemState()
        state.organizations = [key: entry]
        let seed = [UInt8](repeating: 7, count: 32)
        let origin = try LogOrigin(cluster: "c", organization: key)
        let log = try NoteSignerKey(name: origin.keyName, type: .ed25519, seed: seed)
        let node = try NoteSignerKey(name: NoteKeyName("c/node-1"), type: .cosignature, seed: seed)
        var signed = try SignedCheckpoint(Checkpoint(origin: origin, size: 9, root: Digest(words: (1, 2, 3, 4))))
        try signed.sign(log)
        try signed.cosign(node, timeSeconds: 5)
        var request = PackageRequest(
            cluster: "c",
            organization: key,
            checkpoint: signed,
            policy: try TrustPolicy.cluster(
                logs: [log.verifierKey],
                replicas: [node.verifierKey],
                replicasNeeded: 1
            ),
            keys: [PackageKey(key: node.verifierKey, validFrom: Timestamp(microseconds: 3_000_000))],
            exportedBy: Actor(kind: .apiKey, id: "t-1", name: "scanner", role: "auditor"),
            exportedAt: Timestamp(microseconds: 1_700_000_000_000_000),
            node: "node-1"
        )
        request.selection = .ranges([2...3, 7...7])
        request.range = 1...9
        request.filters = [JSONMember("reason", .text("«é»"))]
        request.earlier = signed
        request.record = PackageManifest.ExportRecord(
            sequence: SequenceNumber(10),
            checksum: Digest(words: (5, 6, 7, 8))
        )
        let body = ByteBuffer(bytes: try PackageOrder(request, of: entry).message.serializedBytes() as [UInt8])
        let (read, found) = try PackageOrder.read(body, directory: ShardDirectory(state: state))
        #expect(found == entry)
        #expect(read.checkpoint == signed && read.earlier == signed && read.policy == request.policy)
        #expect(read.keys == request.keys && read.exportedBy == request.exportedBy)
        #expect(read.exportedAt == request.exportedAt && read.range == 1...9 && read.record == request.record)
        #expect(read.filters == request.filters)
        guard case .ranges(let ranges) = read.selection else {
            Issue.record("the selection is lost")
            return
        }
        #expect(ranges == [2...3, 7...7])
    }
}
