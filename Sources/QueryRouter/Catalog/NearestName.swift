/// Finds the name that was probably meant.
enum NearestName {
    private static let comparedBytesMax = 64

    /// The candidate with the fewest letters to change, when that is at most half of them; the first of several.
    static func find(_ name: String, among candidates: [String]) -> String? {
        let wanted = Array(name.lowercased().utf8.prefix(Self.comparedBytesMax))
        var best: (name: String, distance: Int)?
        for candidate in candidates {
            let distance = Self.distance(wanted, Array(candidate.lowercased().utf8.prefix(Self.comparedBytesMax)))
            if distance < best?.distance ?? (wanted.count / 2 + 1) { best = (candidate, distance) }
        }
        return best?.name
    }

    /// Levenshtein's distance by single rows.
    private static func distance(_ left: [UInt8], _ right: [UInt8]) -> Int {
        var row = Array(0...right.count)
        for (line, byte) in left.enumerated() {
            var diagonal = row[0]
            row[0] = line + 1
            for (column, other) in right.enumerated() {
                let substituted = diagonal + (byte == other ? 0 : 1)
                diagonal = row[column + 1]
                row[column + 1] = min(substituted, diagonal + 1, row[column] + 1)
            }
        }
        return row[right.count]
    }
}
