internal import Columnar
internal import QueryRouter

/// Which keys the granules must have in which a search can find something. Pure.
indirect enum TextNeed: Sendable, Equatable {
    /// Nothing is known: any granule may have it.
    case anything
    /// All of these keys; never empty.
    case keys(Set<TextKey>)
    case all([TextNeed])
    case any([TextNeed])

    /// Most grams of one text that are looked up; of a longer one those that lie evenly in it.
    static let gramsMax = 12
    /// Most keys of a search; what would need more says nothing.
    static let keysMax = 256

    init(_ condition: TextSearch.Condition) {
        self = Self.need(condition)
        if self.allKeys.count > Self.keysMax { self = .anything }
    }

    private static func need(_ condition: TextSearch.Condition) -> TextNeed {
        switch condition {
        case .anything: return .anything
        case .contains(let column, let text): return self.contained(Array(text.utf8), in: column)
        case .equals(let column, let text): return self.equal(Array(text.utf8), to: column)
        case .all(let parts):
            let needs = parts.map(self.need).filter { $0 != .anything }
            return needs.isEmpty ? .anything : needs.count == 1 ? needs[0] : .all(needs)
        case .any(let parts):
            let needs = parts.map(self.need)
            return needs.contains(.anything) ? .anything : .any(needs)
        }
    }

    /// A text that contains `text`, both folded, has all grams of it, and all parts that stand between two of its quotation
    /// marks.
    private static func contained(_ text: [UInt8], in column: TextSearch.Column) -> TextNeed {
        guard case .folded(let field, let partsField) = TextField.source(of: column) else { return .anything }
        var bytes = TextFolding.Bytes(text)
        var reader = TextFolding.Grams()
        var (grams, parts): ([UInt16], [UInt16]) = ([], [])
        while let byte = bytes.next() {
            let found = reader.take(byte)
            if found.gram >= 0 { grams.append(UInt16(found.gram)) }
            if found.part >= 0 { parts.append(UInt16(found.part)) }
        }
        var keys: Set<TextKey> = []
        if let partsField { keys.formUnion(parts.prefix(Self.gramsMax).map(partsField.key)) }
        // Where parts are the whole text, its grams say nothing more.
        let isWhole = !keys.isEmpty && text.first == TextFolding.quote && text.last == TextFolding.quote
        if !isWhole { keys.formUnion(self.spread(grams).map(field.key)) }
        return keys.isEmpty ? .anything : .keys(keys)
    }

    /// At most ``gramsMax``, with the first and the last.
    private static func spread(_ grams: [UInt16]) -> [UInt16] {
        guard grams.count > Self.gramsMax else { return grams }
        return (0..<Self.gramsMax).map { grams[$0 * (grams.count - 1) / (Self.gramsMax - 1)] }
    }

    private static func equal(_ text: [UInt8], to column: TextSearch.Column) -> TextNeed {
        switch TextField.source(of: column) {
        case .whole(let field): .keys([field.key(TextFolding.bucket(whole: text))])
        case .folded: self.contained(text, in: column)
        }
    }

    /// All keys that are looked up.
    var allKeys: Set<TextKey> {
        switch self {
        case .anything: []
        case .keys(let keys): keys
        case .all(let parts), .any(let parts): parts.reduce(into: []) { $0.formUnion($1.allKeys) }
        }
    }

    /// The granules in which something can be found, a bit each; nil: any.
    /// - Parameter granules: The granules of each key.
    func granules(_ granules: [TextKey: [UInt64]], count: Int) -> [UInt64]? {
        switch self {
        case .anything: return nil
        case .keys(let keys):
            var all = [UInt64](repeating: .max, count: count)
            for key in keys {
                let some = granules[key] ?? [UInt64](repeating: 0, count: count)
                for index in all.indices { all[index] &= some[index] }
            }
            return all
        case .all(let parts):
            var all = [UInt64](repeating: .max, count: count)
            for part in parts {
                guard let some = part.granules(granules, count: count) else { continue }
                for index in all.indices { all[index] &= some[index] }
            }
            return all
        case .any(let parts):
            var all = [UInt64](repeating: 0, count: count)
            for part in parts {
                guard let some = part.granules(granules, count: count) else { return nil }
                for index in all.indices { all[index] |= some[index] }
            }
            return all
        }
    }
}
