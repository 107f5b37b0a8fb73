internal import Foundation

/// How a name in the data becomes a name in SQL that needs no quotes. Pure.
///
/// Letters in lower case and in composed form (NFC), digits and underscores stay; every run of anything else becomes one
/// underscore; underscores at both ends are cut off. What would begin with a digit, or is nothing, gets a word in front;
/// a word of SQL, and a name that is used for something else, an underscore behind it.
enum SQLName {
    /// Longest name, in bytes, before a number is put behind it.
    static let bytesMax = 60

    /// - Parameters:
    ///   - bytes: UTF-8, as it stands in a record.
    ///   - word: What a name gets that has no letter at its beginning.
    static func make(_ bytes: some Sequence<UInt8>, word: String) -> String {
        let text = String(decoding: Array(bytes), as: UTF8.self).lowercased().precomposedStringWithCanonicalMapping
        var name = ""
        var isCut = false
        for character in text {
            guard character.unicodeScalars.allSatisfy(Self.stays) else {
                isCut = !name.isEmpty
                continue
            }
            let gap = isCut ? "_" : ""
            guard name.utf8.count + gap.utf8.count + String(character).utf8.count <= Self.bytesMax else { break }
            name += gap
            name.append(character)
            isCut = false
        }
        // An underscore at an end says that the name is ours.
        while name.hasPrefix("_") { name.removeFirst() }
        while name.hasSuffix("_") { name.removeLast() }
        guard let first = name.unicodeScalars.first else { return word }
        if ("0"..."9").contains(first) { name = "\(word)_\(name)" }
        return Self.isTaken(name) ? name + "_" : name
    }

    /// The beginning of `name` that is not too long, without an underscore at its end.
    static func cut(_ name: String) -> String {
        var cut = name
        while cut.utf8.count > Self.bytesMax || (cut.utf8.count < name.utf8.count && cut.hasSuffix("_")) {
            cut.removeLast()
        }
        return cut
    }

    /// `name`, or it with the smallest number behind it with which it is not in `names`.
    static func free(_ name: String, among names: Set<String>) -> String {
        guard names.contains(name) else { return name }
        var number = 2
        while names.contains("\(name)__\(number)") { number += 1 }
        return "\(name)__\(number)"
    }

    private static func stays(_ scalar: Unicode.Scalar) -> Bool {
        scalar == "_" || scalar.properties.isAlphabetic || scalar.properties.numericType != nil
            || scalar.properties.generalCategory == .nonspacingMark
    }

    /// Words that cannot stand for a table or column without quotes, and prefixes that tables must not have.
    private static func isTaken(_ name: String) -> Bool {
        self.words.contains(name) || self.prefixes.contains { name.hasPrefix($0) }
    }

    private static let prefixes = ["duckdb_", "pragma_", "pg_", "sqlite_"]

    /// DuckDB 2.0's reserved words and those of types and functions, and words that the router keeps for itself.
    private static let words: Set<String> = Set(
        """
        all analyse analyze and any array as asc asymmetric both case cast check collate column constraint create default
        deferrable desc describe distinct do else end except false fetch for foreign from group having in initially
        intersect into lambda lateral leading limit not null offset on only or order pivot pivot_longer pivot_wider placing
        primary qualify references returning select show some summarize symmetric table then to trailing true union unique
        unpivot using variadic when where window with
        anti asof at authorization binary by collation columns concurrently cross freeze full generated glob ilike inner is
        isnull join left like map natural notnull outer overlaps positional right semi similar struct tablesample try_cast
        tuple unpack verbose
        rowid current_catalog current_database current_date current_time current_timestamp current_user current_role
        current_schema session_user user localtime localtimestamp values
        """.split(whereSeparator: \.isWhitespace).map(String.init)
    )
}
