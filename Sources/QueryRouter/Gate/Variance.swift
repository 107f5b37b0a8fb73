extension QueryRouter {
    /// Whether a statement may give another answer over the same records, because it names a function of time or chance or takes a sample.
    ///
    /// Looks at the words of the text only and errs on that side: a column of such a name counts too.
    package static func mayVary(_ sql: String) -> Bool {
        let words = sql.utf8.split { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"), 0x80...:
                false
            default: true
            }
        }
        return words.contains { word in
            let name = String(decoding: Array(word), as: UTF8.self).lowercased()
            return AllowedFunctions.volatile.contains(name) || Self.varyingWords.contains(name)
        }
    }

    /// Words of the grammar whose answers vary, and a measure that tells of the moment.
    private static let varyingWords: Set<String> = [
        "age", "analyze", "bernoulli", "current_time", "current_timestamp", "localtime", "localtimestamp", "reservoir",
        "sample", "setseed", "system", "tablesample", "tomorrow", "yesterday",
    ]
}
