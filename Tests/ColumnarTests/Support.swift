internal import Foundation
internal import Testing

@testable internal import Columnar

/// Runs `body` with threads that are shut down afterwards.
func withThreads<R: Sendable>(_ body: (ColumnarThreads) async throws -> R) async throws -> R {
    let threads = ColumnarThreads()
    do {
        let value = try await body(threads)
        await threads.shutdown()
        return value
    } catch {
        await threads.shutdown()
        throw error
    }
}

/// Runs `body` with a store in memory.
func withStore<R: Sendable>(
    _ configuration: ColumnarConfiguration = .init(),
    _ body: (ColumnarStore) async throws -> R
) async throws -> R {
    try await withThreads { threads in
        let store = try await ColumnarStore.open(.memory, configuration: configuration, threads: threads)
        let value = try await body(store)
        await store.close()
        return value
    }
}

/// Runs `body` with a directory that is removed afterwards.
func withDirectory<R: Sendable>(_ body: (String) async throws -> R) async throws -> R {
    let path = FileManager.default.temporaryDirectory.appendingPathComponent("columnar-" + UUID().uuidString).path
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: path) }
    return try await body(path)
}

/// The code of the error that `body` throws; nil when it throws none.
func code<R>(_ body: () async throws -> R) async -> ColumnarError.Code? {
    do {
        _ = try await body()
        return nil
    } catch let error as ColumnarError {
        return error.code
    } catch {
        Issue.record("an error of another type: \(error)")
        return nil
    }
}

/// All rows of a statement.
func rows(_ store: ColumnarStore, _ sql: String) async throws -> [[ArrowValue]] {
    var rows: [[ArrowValue]] = []
    for batch in try await store.query(sql).collect() {
        for row in 0..<batch.rowCount { rows.append(batch.columns.map { $0.value(row) }) }
    }
    return rows
}

let eventTable = TableSchema(
    name: "events",
    columns: [
        ColumnDefinition("sequence", .uint64, nullable: false), ColumnDefinition("actor", .utf8),
        ColumnDefinition("payload", .json), ColumnDefinition("moment", .timestampMicros), ColumnDefinition("ok", .bool),
        ColumnDefinition("delta", .int64), ColumnDefinition("ratio", .double),
    ]
)

/// `count` rows with sequences from `first`; every third actor is null.
func eventBatch(first: UInt64, count: Int) throws -> ColumnBatch {
    var sequence = ColumnBuilder(.uint64)
    var actor = ColumnBuilder(.utf8)
    var payload = ColumnBuilder(.json)
    var at = ColumnBuilder(.timestampMicros)
    var ok = ColumnBuilder(.bool)
    var delta = ColumnBuilder(.int64)
    var ratio = ColumnBuilder(.double)
    for index in 0..<count {
        let number = first + UInt64(index)
        sequence.append(number)
        if number % 3 == 0 { actor.appendNull() } else { actor.append("actor with a long name \(number)") }
        try payload.append(utf8: Array("{\"n\":\(number)}".utf8))
        at.append(Int64(number) * 1_000_001)
        ok.append(number % 2 == 0)
        delta.append(-Int64(number))
        ratio.append(Double(number) / 4)
    }
    return try ColumnBatch(columns: [sequence, actor, payload, at, ok, delta, ratio])
}

func goldenBytes() throws -> [UInt8] {
    let url = try #require(Bundle.module.url(forResource: "Golden/all_types", withExtension: "arrows"))
    return [UInt8](try Data(contentsOf: url))
}
