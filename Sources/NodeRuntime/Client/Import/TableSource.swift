internal import Columnar
internal import Foundation
internal import NIOPosix
package import Primitives

/// Events out of the rows of an Arrow or Parquet file, in the file's order; see ``EventRows``.
package actor TableSource: ImportSource {
    private enum Rows {
        case arrow(LineSource, ArrowFraming, ArrowStreamDecoder)
        case parquet(ColumnarStore, ColumnarBatches.AsyncIterator)
        case ended
    }

    /// The store's memory for reading a Parquet file.
    private static let memoryBytes = 512 << 20
    /// A large import takes its time; the engine wants a limit.
    private static let timeLimit = Duration.seconds(7 * 86_400)

    package nonisolated let name: String
    package nonisolated let totalBytes: Int? = nil
    private let organization: OrganizationKey?
    private let threads: ColumnarThreads
    private var rows: Rows
    private var events: EventRows?
    private var rowCount = 0

    /// Opens `path`; `-` is standard input, for an Arrow stream.
    /// - Parameter organization: For rows that name none.
    /// - Throws: ``ClientError`` `.localFile`, `.badInput`.
    package static func open(
        path: String,
        format: ImportFormat,
        organization: OrganizationKey?
    ) async throws -> TableSource {
        let threads = ColumnarThreads()
        do {
            switch format {
            case .ndjson: throw ClientError(.badInput, "newline-delimited JSON is no table")
            case .arrow:
                let lines = try LineSource(path: path)
                let framing = try await self.framing(of: path, lines)
                let rows = Rows.arrow(lines, framing, ArrowStreamDecoder())
                return TableSource(lines.name, organization, threads, rows, events: nil)
            case .parquet:
                guard path != "-" else {
                    throw ClientError(
                        .badInput,
                        "a Parquet file cannot be read from standard input: its end is needed first"
                    )
                }
                // Says why, where the file cannot be read at all.
                let file = try LineSource(path: path)
                let (store, batches, schema) = try await self.openParquet(path, threads)
                do {
                    let events = try EventRows(schema, organization: organization)
                    let rows = Rows.parquet(store, batches.makeAsyncIterator())
                    return TableSource(file.name, organization, threads, rows, events: events)
                } catch {
                    await store.close()
                    throw error
                }
            }
        } catch {
            await threads.shutdown()
            throw error
        }
    }

    private init(
        _ name: String,
        _ organization: OrganizationKey?,
        _ threads: ColumnarThreads,
        _ rows: Rows,
        events: EventRows?
    ) {
        self.name = name
        self.organization = organization
        self.threads = threads
        self.rows = rows
        self.events = events
    }

    /// Looks at both ends of a regular file; what comes through a pipe is a stream.
    private static func framing(of path: String, _ lines: LineSource) async throws -> ArrowFraming {
        guard let total = lines.totalBytes, total >= ArrowFraming.tailBytes, path != "-" else { return ArrowFraming() }
        return try await NIOThreadPool.singleton.runIfActive {
            do {
                let handle = try FileHandle(forReadingFrom: URL(fileURLWithPath: path))
                defer { try? handle.close() }
                let head = [UInt8](try handle.read(upToCount: 8) ?? Data())
                try handle.seek(toOffset: UInt64(total - ArrowFraming.tailBytes))
                let tail = [UInt8](try handle.read(upToCount: ArrowFraming.tailBytes) ?? Data())
                return try ArrowFraming(head: head, tail: tail, totalBytes: total)
            } catch let error as ClientError {
                throw error
            } catch {
                throw ClientError(.localFile, "cannot read \(path)", cause: error)
            }
        }
    }

    private static func openParquet(
        _ path: String,
        _ threads: ColumnarThreads
    ) async throws -> (ColumnarStore, ColumnarBatches, ArrowSchema) {
        let store = try await ColumnarStore.open(
            .memory,
            configuration: ColumnarConfiguration(
                access: .trusted,
                memoryLimitBytes: self.memoryBytes,
                timeLimit: self.timeLimit
            ),
            threads: threads
        )
        do {
            // One thread reads in the file's order.
            let result = try await store.query(
                "SELECT * FROM read_parquet(\(quoteLiteral(path)), hive_partitioning = false)",
                origin: .router,
                limits: QueryLimits(rowsMax: .max, bytesMax: .max)
            )
            return (store, result.batches, result.schema)
        } catch {
            await store.close()
            throw ClientError(.badInput, "\(path) cannot be read as Parquet", cause: error)
        }
    }

    /// Ends the threads that read; no call of ``read()`` may follow.
    package func close() async {
        if case .parquet(let store, _) = self.rows { await store.close() }
        self.rows = .ended
        await self.threads.shutdown()
    }

    package func read() async throws -> [UInt8] {
        while true {
            guard let batch = try await self.nextBatch() else { return [] }
            guard batch.rowCount > 0, let events = self.events else { continue }
            let lines: [UInt8]
            do throws(ClientError) { lines = try events.lines(batch, firstRow: self.rowCount + 1) } catch {
                throw ClientError(error.code, "\(self.name): \(error.message)")
            }
            self.rowCount += batch.rowCount
            return lines
        }
    }

    /// Batches that a chunk has completed, first one last.
    private var waiting: [ArrowRecordBatch] = []

    private func nextBatch() async throws -> ArrowRecordBatch? {
        while true {
            if let batch = self.waiting.popLast() { return batch }
            switch self.rows {
            case .ended: return nil
            case .parquet(let store, var iterator):
                do {
                    if let batch = try await iterator.next() { return batch }
                } catch {
                    throw ClientError(.badInput, "\(self.name) cannot be read as Parquet", cause: error)
                }
                await store.close()
                self.rows = .ended
            case .arrow(let lines, var framing, var decoder):
                // Nobody else uses the source between these lines: one reader at a time.
                let chunk = try await lines.read()
                do {
                    self.waiting = try decoder.feed(framing.messages(in: chunk)).reversed()
                    if chunk.isEmpty { try decoder.finish() }
                } catch let error as ColumnarError {
                    let advice = framing.isFile ? "; an Arrow stream, or Parquet, may do" : ""
                    throw ClientError(.badInput, "\(self.name) cannot be read as Arrow\(advice)", cause: error)
                }
                if self.events == nil, let schema = decoder.schema {
                    self.events = try EventRows(schema, organization: self.organization)
                }
                self.rows = chunk.isEmpty ? .ended : .arrow(lines, framing, decoder)
            }
        }
    }
}

/// Where in an Arrow input the stream of messages stands; pure.
///
/// An Arrow file is a stream between a magic word with padding, eight bytes in all, and a footer that repeats what the
/// stream says; the footer is followed by its length and the magic word.
///
/// - Source: Arrow columnar format 1.5, "IPC File Format"
struct ArrowFraming: Equatable {
    private static let magic = Array("ARROW1".utf8)
    private static let headBytes = 8
    static let tailBytes = 10

    /// Whether it is a file; some programs write files that hold no stream, and are read by their footer alone.
    var isFile: Bool { self.left != nil }
    /// Bytes that are still to be skipped.
    private var skipped: Int
    /// Bytes of the stream that are still to come; nil when it is all that comes.
    private var left: Int?

    /// A stream.
    init() {
        self.skipped = 0
        self.left = nil
    }

    /// - Parameters:
    ///   - head: The first eight bytes of the input, or fewer when it has no more.
    ///   - tail: The last ten bytes of the input.
    /// - Throws: ``ClientError`` `.badInput` for a file that was cut off.
    init(head: [UInt8], tail: [UInt8], totalBytes: Int) throws(ClientError) {
        self.init()
        guard head.starts(with: Self.magic) else { return }
        let footer = tail.prefix(4).reversed().reduce(0) { $0 << 8 | Int($1) }
        let stream = totalBytes - Self.headBytes - Self.tailBytes - footer
        guard tail.count == Self.tailBytes, tail.dropFirst(4).elementsEqual(Self.magic), stream >= 0 else {
            throw ClientError(.badInput, "the Arrow file has no end: it was cut off")
        }
        self.skipped = Self.headBytes
        self.left = stream
    }

    /// The part of the next chunk that belongs to the stream.
    mutating func messages(in chunk: [UInt8]) -> ArraySlice<UInt8> {
        var part = chunk.dropFirst(self.skipped)
        self.skipped -= chunk.count - part.count
        if let left = self.left {
            part = part.prefix(left)
            self.left = left - part.count
        }
        return part
    }
}
