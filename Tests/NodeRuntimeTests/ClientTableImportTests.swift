internal import Columnar
internal import Foundation
internal import Primitives
internal import Testing

@testable internal import NodeRuntime

@Suite("Importing tables")
struct ClientTableImportTests {
    private static let organization = OrganizationKey("lab-a")!
    private static let schema = ArrowSchema(fields: [
        ArrowField("organization", .utf8), ArrowField("action", .utf8), ArrowField("entity_type", .utf8),
        ArrowField("entity_id", .utf8), ArrowField("occurred_at", .timestamp(.microsecond, timezone: "UTC")),
        ArrowField("actor_kind", .utf8), ArrowField("actor_id", .utf8), ArrowField("after", .utf8),
        ArrowField("before", .structure([ArrowField("volume", .int64), ArrowField("unit", .utf8)])),
    ])

    private static let lines = [
        #"{"organization":"lab-b","action":"create","entity_type":"sample","entity_id":"s-1","#
            + #""occurred_at":"2026-11-21T00:00:00Z","after":{"a":[1,"x"]},"#
            + #""before":{"volume":5,"unit":"ml"},"actor":{"kind":"user","id":"u-1"}}"#,
        #"{"organization":"lab-a","action":"del\"ete","entity_type":"sample","entity_id":"s-2"}"#,
    ]

    private func batch(after: ArrowValue = .string(#"{"a":[1,"x"]}"#)) throws -> ArrowRecordBatch {
        try ArrowRecordBatch.make(
            schema: Self.schema,
            columns: [
                [.string("lab-b"), .null], [.string("create"), .string("del\"ete")],
                [.string("sample"), .string("sample")], [.string("s-1"), .string("s-2")],
                [.timestamp(1_795_219_200_000_000, .microsecond, timezone: "UTC"), .null], [.string("user"), .null],
                [.string("u-1"), .null], [after, .null],
                [
                    .structure([ArrowNamedValue("volume", .int(5)), ArrowNamedValue("unit", .string("ml"))]), .null,
                ],
            ]
        )
    }

    private func withFile(_ name: String, _ bytes: [UInt8], _ body: (String) async throws -> Void) async throws {
        let folder = FileManager.default.temporaryDirectory.path + "/flasktrack-import-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let path = folder + "/" + name
        try Data(bytes).write(to: URL(fileURLWithPath: path))
        try await body(path)
    }

    private func lines(_ path: String, organization: OrganizationKey? = organization) async throws -> [String] {
        let source = try await TableSource.open(
            path: path,
            format: ImportFormat(path: path),
            organization: organization
        )
        do {
            var bytes: [UInt8] = []
            while true {
                let chunk = try await source.read()
                if chunk.isEmpty { break }
                bytes += chunk
            }
            await source.close()
            return String(decoding: bytes, as: UTF8.self).split(separator: "\n").map(String.init)
        } catch {
            await source.close()
            throw error
        }
    }

    private func stream(_ batches: [ArrowRecordBatch]) throws -> [UInt8] {
        let encoder = ArrowStreamEncoder(schema: Self.schema)
        return try encoder.schemaMessage() + batches.flatMap { try encoder.message(for: $0) } + encoder.endOfStream()
    }

    @Test func makesOneEventOfARow() throws {
        let events = try EventRows(Self.schema, organization: Self.organization)
        let text = String(decoding: try events.lines(self.batch(), firstRow: 1), as: UTF8.self)
        #expect(text.split(separator: "\n").map(String.init) == Self.lines)
    }

    @Test(arguments: ["{\"a\":1", "1},\"x\":{", "{\"a\":1},\"reason\":\"x\"", ""])
    func refusesTextThatIsNotOneJSONValue(text: String) throws {
        let events = try EventRows(Self.schema, organization: Self.organization)
        let error = #expect(throws: ClientError.self) {
            try events.lines(self.batch(after: .string(text)), firstRow: 41)
        }
        #expect(error?.message.hasPrefix("row 41: after is not JSON") == true)
    }

    @Test(
        arguments: [
            ["action", "entity_type"], ["action", "entity_type", "entity_id", "sequence"],
            ["action", "entity_type", "entity_id", "actor", "actor_id"],
            ["action", "entity_type", "entity_id", "action"],
        ]
    )
    func refusesColumnsThatEventsDoNotHave(names: [String]) {
        let schema = ArrowSchema(fields: names.map { ArrowField($0, .utf8) })
        let error = #expect(throws: ClientError.self) { try EventRows(schema, organization: Self.organization) }
        #expect(error?.code == .badInput)
    }

    @Test func wantsAnOrganizationForEachRow() throws {
        let plain = ArrowSchema(fields: Array(Self.schema.fields.dropFirst()))
        #expect(throws: ClientError.self) { try EventRows(plain, organization: nil) }
        let events = try EventRows(Self.schema, organization: nil)
        let error = #expect(throws: ClientError.self) { try events.lines(self.batch(), firstRow: 1) }
        #expect(error?.message == "row 2 names no organization")
    }

    @Test func knowsAFormByItsName() {
        #expect(ImportFormat(path: "/a.b/x.parquet") == .parquet && ImportFormat(path: "x.ARROW") == .arrow)
        #expect(ImportFormat(path: "x.feather") == .arrow && ImportFormat(path: "-") == .ndjson)
        #expect(ImportFormat(path: "/a.parquet/events") == .ndjson && ImportFormat(path: "x.ndjson") == .ndjson)
    }

    @Test(.timeLimit(.minutes(10)))
    func readsArrowStreamsAndFiles() async throws {
        let stream = try self.stream([self.batch(), self.batch()])
        try await self.withFile("events.arrows", stream) { path in
            let lines = try await self.lines(path)
            #expect(lines == Self.lines + Self.lines)
        }
        let footer: [UInt8] = Array(repeating: 7, count: 300)
        let length = withUnsafeBytes(of: Int32(footer.count).littleEndian) { Array($0) }
        let file = Array("ARROW1\0\0".utf8) + stream + footer + length + Array("ARROW1".utf8)
        try await self.withFile("events.arrow", file) { path in
            let lines = try await self.lines(path)
            #expect(lines == Self.lines + Self.lines)
        }
        for cut in [stream.count / 2, file.count - 1, 20] {
            try await self.withFile("events.arrow", Array(file.prefix(cut))) { path in
                await #expect(throws: ClientError.self) { try await self.lines(path) }
            }
        }
    }

    @Test(.timeLimit(.minutes(10)))
    func readsParquetInItsOrder() async throws {
        let threads = ColumnarThreads()
        let exporter = ParquetExporter(
            threads: threads,
            temporaryDirectory: FileManager.default.temporaryDirectory.path
        )
        let batch = try self.batch()
        let batches = AsyncStream<ArrowRecordBatch>(bufferingPolicy: .bufferingOldest(1000)) { continuation in
            for _ in 0..<1000 { continuation.yield(batch) }
            continuation.finish()
        }
        let made = try await exporter.export(schema: Self.schema, batches: batches)
        let bytes = try await made.read(from: 0, count: made.byteCount)
        await threads.shutdown()
        try await self.withFile("it's.parquet", bytes) { path in
            let lines = try await self.lines(path)
            #expect(lines == (0..<1000).flatMap { _ in Self.lines })
        }
        try await self.withFile("cut.parquet", Array(bytes.dropLast(5))) { path in
            let error = await #expect(throws: ClientError.self) { try await self.lines(path) }
            #expect(error?.code == .badInput)
        }
    }
}
