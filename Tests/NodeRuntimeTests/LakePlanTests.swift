internal import Foundation
internal import Primitives
internal import Testing

@testable internal import NodeRuntime

@Suite("What a lake's log says")
struct LakePlanTests {
    private static let organization = OrganizationKey("lab-a")!

    private func commit(_ range: ClosedRange<UInt64>) -> LakePlan.Commit {
        let file = LakePlan.File(
            piece: LakePiece(organization: Self.organization, month: "2026-11", range: range),
            sha256: String(repeating: "ab", count: 32),
            sizeBytes: 9,
            exportRecord: 3,
            completionRecord: 4
        )
        return LakePlan.Commit(
            cluster: "test",
            organization: Self.organization,
            range: range,
            files: [file],
            tableID: "id",
            nowMS: 1
        )
    }

    @Test(
        arguments: [
            (0, 4, 5, false, nil), (0, 5, 5, false, 1...5), (5, 9, 5, false, nil), (5, 9, 5, true, 6...9),
            (9, 9, 5, true, nil), (7, 30, 5, false, 8...10), (10, 30, 8, true, 11...16), (0, 0, 1, true, nil),
        ] as [(UInt64, UInt64, UInt64, Bool, ClosedRange<UInt64>?)]
    )
    func endsRangesAtMultiples(
        exported: UInt64,
        size: UInt64,
        rows: UInt64,
        takesRest: Bool,
        range: ClosedRange<UInt64>?
    ) {
        #expect(LakePlan.next(after: exported, size: size, rows: rows, takesRest: takesRest) == range)
    }

    @Test func namesFilesAfterWhatTheyHold() throws {
        let path = self.commit(1...65_536).files[0].path
        #expect(
            path == "organization=lab-a/month=2026-11/part-000000000001-000000065536-abababababababab.parquet"
        )
        #expect(LakePiece.lastSequence(ofFile: path) == 65_536)
        for foreign in ["part-00000-0a1b-c000.snappy.parquet", "part-1-2-abababababababab.parquet", "x.parquet", ""] {
            #expect(LakePiece.lastSequence(ofFile: foreign) == nil, "\(foreign)")
        }
    }

    @Test func beginsATableAndReadsItBack() throws {
        var state = LakeState()
        let bytes = try DeltaCommit.encode(try self.commit(1...5).actions(on: state))
        let text = String(decoding: bytes, as: UTF8.self)
        #expect(text.contains("{\"protocol\":{\"minReaderVersion\":1,\"minWriterVersion\":2}}\n"))
        #expect(text.contains("\"partitionColumns\":[\"organization\",\"month\"]"))
        #expect(text.contains("{\"txn\":{\"appId\":\"flasktrack:lab-a\",\"lastUpdated\":1,\"version\":5}}\n"))
        try state.apply(DeltaCommit.decode(bytes, version: 0), version: 0)
        #expect(state.exported(Self.organization) == 5 && state.version == 0 && state.named.count == 1)
        try state.requireCluster("test")
        let next = try self.commit(6...10).actions(on: state)
        #expect(!next.contains { $0.metaData != nil || $0.protocol != nil })
    }

    @Test func addsColumnsAtTheEndAndNothingElse() throws {
        let old = try LakeColumns.schemaString([.init("sequence", "long"), .init("action", "string")])
        let same: [LakeColumns.Column] = [.init("action", "string"), .init("sequence", "long")]
        #expect(try LakeColumns.evolved(old, for: same) == nil)
        let wider = try #require(try LakeColumns.evolved(old, for: same + [.init("place", "string")]))
        #expect(
            wider
                == (try LakeColumns.schemaString([
                    .init("sequence", "long"), .init("action", "string"), .init("place", "string"),
                ]))
        )
        #expect(throws: ClientError.self) { try LakeColumns.evolved(old, for: [.init("sequence", "long")]) }
        #expect(throws: ClientError.self) {
            try LakeColumns.evolved(old, for: [.init("sequence", "string"), .init("action", "string")])
        }
    }

    @Test func putsTheWiderSchemaIntoTheCommitOfTheFirstFilesThatNeedIt() throws {
        var state = LakeState()
        var narrow = self.commit(1...5)
        narrow.columns = Array(LakeColumns.files.dropLast())
        try state.apply(try narrow.actions(on: state), version: 0)
        let actions = try self.commit(6...10).actions(on: state)
        let metadata = try #require(actions.compactMap(\.metaData).first)
        #expect(try LakeColumns.evolved(metadata.schemaString, for: LakeColumns.files) == nil)
        #expect(metadata.id == "id" && metadata.configuration == [LakeState.clusterKey: "test"])
    }

    @Test(
        arguments: [
            "{\"protocol\":{\"minReaderVersion\":3,\"minWriterVersion\":7}}",
            "{\"protocol\":{\"minReaderVersion\":1,\"minWriterVersion\":4}}",
            "{\"add\":{}}", "nonsense",
            "{\"metaData\":{\"id\":\"x\",\"format\":{\"provider\":\"parquet\",\"options\":{}},\"schemaString\":\"\","
                + "\"partitionColumns\":[\"month\"],\"configuration\":{}}}",
        ]
    )
    func refusesALogThatItDoesNotUnderstand(line: String) {
        var state = LakeState()
        #expect(throws: ClientError.self) {
            try state.apply(DeltaCommit.decode(Array(line.utf8), version: 0), version: 0)
        }
    }

    @Test func skipsActionsThatItHasNoUseFor() throws {
        let line = "{\"domainMetadata\":{\"domain\":\"x\"}}\n{\"remove\":{\"path\":\"a%20b\",\"dataChange\":false}}\n"
        let actions = try DeltaCommit.decode(Array(line.utf8), version: 0)
        #expect(actions.count == 2 && actions[0] == DeltaAction())
    }

    @Test func countsCommitsInTwentyDigits() {
        #expect(DeltaCommit.fileName(7) == "00000000000000000007.json")
        #expect(DeltaCommit.version(ofFile: "00000000000000000007.json") == 7)
        for other in [
            "00000000000000000007.checkpoint.parquet", "7.json", "_last_checkpoint", "0000000000000000000x.json",
        ] {
            #expect(DeltaCommit.version(ofFile: other) == nil)
        }
    }
}
