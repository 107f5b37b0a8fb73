internal import HTTPTypes

/// Names of header fields that come in nearly every message, so that they need not be validated and allocated again.
enum HeaderNames {
    private struct Entry {
        var bytes: [UInt8]
        var name: HTTPField.Name
    }

    private static let common = [
        "accept", "accept-encoding", "accept-language", "authorization", "cache-control", "content-encoding",
        "content-length", "content-type", "cookie", "date", "etag", "expect", "host", "idempotency-key",
        "if-none-match", "last-modified", "location", "origin", "range", "referer", "retry-after", "server",
        "trailer", "traceparent", "user-agent", "vary", "x-request-id",
    ]
    private static let lengthMax = 24

    /// Common names by their length.
    private static let table: [[Entry]] = {
        var table = [[Entry]](repeating: [], count: lengthMax + 1)
        for text in common {
            guard text.utf8.count <= lengthMax, let name = HTTPField.Name(parsed: text) else { continue }
            table[text.utf8.count].append(Entry(bytes: Array(text.utf8), name: name))
        }
        return table
    }()

    /// The field name that these lowercase bytes spell, nil when they spell none.
    static func name(_ bytes: UnsafeBufferPointer<UInt8>) -> HTTPField.Name? {
        if bytes.count <= Self.lengthMax {
            for entry in Self.table[bytes.count] where unsafe bytes.elementsEqual(entry.bytes) {
                return entry.name
            }
        }
        return unsafe HTTPField.Name(parsed: String(decoding: bytes, as: UTF8.self))
    }
}
