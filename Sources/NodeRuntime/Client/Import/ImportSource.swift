/// Where the events of an import come from: newline-delimited JSON, piece by piece.
package protocol ImportSource: Sendable {
    /// What the input is called in messages.
    var name: String { get }
    /// Bytes of the whole input, where known.
    var totalBytes: Int? { get }
    /// The next bytes; empty at the end. One reader at a time.
    /// - Throws: ``ClientError`` `.localFile`, `.badInput`.
    func read() async throws -> [UInt8]
}

extension LineSource: ImportSource {}

/// The forms that an import takes.
package enum ImportFormat: String, CaseIterable, Sendable {
    /// One event a line.
    case ndjson
    /// Arrow IPC, stream or file.
    case arrow
    case parquet

    /// The form that a file's name stands for; what is no table is newline-delimited JSON.
    package init(path: String) {
        let suffix = path.split(separator: "/").last?.split(separator: ".").last?.lowercased() ?? ""
        self =
            switch suffix {
            case "parquet", "pq": .parquet
            case "arrow", "arrows", "feather", "ipc": .arrow
            default: .ndjson
            }
    }
}
