internal import Foundation
internal import Synchronization

/// Makes Parquet files of results, in an engine instance of its own that sees no user text.
package struct ParquetExporter: Sendable {
    private let threads: ColumnarThreads
    private let directory: String
    private let memoryLimitBytes: Int

    /// Creates an exporter.
    /// - Parameter temporaryDirectory: An existing directory for spilled data and finished files.
    package init(threads: ColumnarThreads, temporaryDirectory: String, memoryLimitBytes: Int = 256 << 20) {
        self.threads = threads
        self.directory = temporaryDirectory
        self.memoryLimitBytes = memoryLimitBytes
    }

    /// Writes all batches into one file.
    /// - Returns: The file, which is removed with the last use of the returned object.
    /// - Throws: ``ColumnarError``, or what `batches` throws.
    package func export<Batches: AsyncSequence & Sendable>(
        schema: ArrowSchema,
        batches: Batches
    ) async throws -> ParquetFile where Batches.Element == ArrowRecordBatch {
        let name = UUID().uuidString  // ambient-ok: a file name that nobody else has
        let spill = self.directory + "/parquet-" + name + ".spill"
        let file = ParquetFile(path: self.directory + "/parquet-" + name + ".parquet", threads: self.threads)
        defer { try? FileManager.default.removeItem(atPath: spill) }
        let store = try await ColumnarStore.open(
            .memory,
            configuration: ColumnarConfiguration(
                access: .trusted,
                memoryLimitBytes: self.memoryLimitBytes,
                temporaryDirectory: spill
            ),
            threads: self.threads
        )
        do {
            try await self.fill(store, schema: schema, batches: batches)
            try await store.execute(
                "COPY result TO \(quoteLiteral(file.path)) (FORMAT parquet, COMPRESSION zstd)"
            )
        } catch {
            await store.close()
            throw error
        }
        await store.close()
        try file.measure()
        return file
    }

    private func fill<Batches: AsyncSequence & Sendable>(
        _ store: ColumnarStore,
        schema: ArrowSchema,
        batches: Batches
    ) async throws where Batches.Element == ArrowRecordBatch {
        let columns = zip(uniqueNames(schema), schema.fields).map { name, field in
            "\(quoteIdentifier(name)) \(field.isJSON ? "JSON" : field.type.sqlName)"
        }
        guard !columns.isEmpty else { throw ColumnarError(.unsupported, "a result without columns") }
        try await store.execute("CREATE TABLE result (\(columns.joined(separator: ", ")))")
        for try await batch in batches { try await store.append(batch, to: "result") }
    }
}

/// A finished Parquet file. Removed when the last reference goes.
package final class ParquetFile: Sendable {
    /// Where the file is while this object lives.
    package let path: String
    private let size = Mutex(0)
    private let threads: ColumnarThreads

    init(path: String, threads: ColumnarThreads) {
        self.path = path
        self.threads = threads
    }

    deinit { try? FileManager.default.removeItem(atPath: self.path) }

    /// Length of the file.
    package var byteCount: Int { self.size.withLock { $0 } }

    fileprivate func measure() throws {
        let attributes = try FileManager.default.attributesOfItem(atPath: self.path)
        let bytes = (attributes[.size] as? NSNumber)?.intValue ?? 0
        self.size.withLock { $0 = bytes }
    }

    /// Reads a part of the file, on the module's threads.
    /// - Returns: Fewer bytes than asked for only at the end of the file.
    /// - Throws: ``ColumnarError`` `.io`.
    package func read(from offset: Int, count: Int) async throws -> [UInt8] {
        let path = self.path
        return try await self.threads.run(on: .query) {
            do {
                let handle = try FileHandle(forReadingFrom: URL(fileURLWithPath: path))
                defer { try? handle.close() }
                try handle.seek(toOffset: UInt64(max(0, offset)))
                return [UInt8](try handle.read(upToCount: max(0, count)) ?? Data())
            } catch {
                throw ColumnarError(.io, "cannot read the Parquet file", cause: error)
            }
        }
    }
}
