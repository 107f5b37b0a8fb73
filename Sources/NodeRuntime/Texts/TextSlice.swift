internal import Columnar
internal import Primitives

/// How sequences are divided for the index of texts.
///
/// A granule is what a search reads or skips as a whole; a slice has as many as a word has bits and is read at once; a block
/// has eight slices and is stored at once. Each begins at a multiple of its length; sequence 0, which no record has, belongs to
/// the first of each.
struct TextGeometry: Sendable, Hashable {
    /// The binary logarithm of a granule's sequences.
    let granuleShift: UInt64

    static let standard = TextGeometry(granuleShift: 7)

    static let granulesOfSlice = 64
    static let slicesOfBlock = 8
    static let granulesOfBlock = granulesOfSlice * slicesOfBlock

    var sliceShift: UInt64 { self.granuleShift + 6 }
    var blockShift: UInt64 { self.sliceShift + 3 }
    var recordsOfSlice: UInt64 { 1 << self.sliceShift }
    var recordsOfBlock: UInt64 { 1 << self.blockShift }

    /// The last sequence of a block.
    func last(ofBlock block: UInt64) -> SequenceNumber { SequenceNumber((block + 1) << self.blockShift - 1) }
}

/// Which granules of a slice hold which grams.
struct TextSlice: Sendable, Equatable {
    /// In ascending order.
    let keys: [TextKey]
    /// Beside each key the granules, from the lowest bit on.
    let words: [UInt64]
}

/// Collects the grams of one slice's records, in any order.
struct TextSliceBuilder {
    private static let bucketsOfField = 1 << 16

    private let geometry: TextGeometry
    private let first: UInt64
    /// A word for each key.
    private var words: [UInt64]
    /// A bit for each sequence that came.
    private var seen: [UInt64]
    private var count: UInt64 = 0

    init(_ geometry: TextGeometry, slice: UInt64) {
        self.geometry = geometry
        self.first = slice << geometry.sliceShift
        self.words = [UInt64](repeating: 0, count: TextField.allCases.count * Self.bucketsOfField)
        self.seen = [UInt64](repeating: 0, count: Int(max(1, geometry.recordsOfSlice / 64)))
    }

    /// Takes the texts of a record, in the order of ``TextField/sources``; nil for null.
    /// - Throws: ``ColumnarError`` `.damaged` when the record came before, or belongs to another slice.
    mutating func add(_ sequence: UInt64, _ text: (Int) -> [UInt8]?) throws {
        let place = sequence &- self.first
        guard sequence >= self.first, place < self.geometry.recordsOfSlice,
            self.seen[Int(place / 64)] & 1 << (place % 64) == 0
        else { throw ColumnarError(.damaged, "record \(sequence) does not stand once where it belongs") }
        self.seen[Int(place / 64)] |= 1 << (place % 64)
        self.count += 1
        let bit = UInt64(1) << (place >> self.geometry.granuleShift)
        for (column, source) in TextField.sources.enumerated() {
            guard let text = text(column) else { continue }
            switch source.source {
            case .whole(let field): self.words[Int(field.key(TextFolding.bucket(whole: text)))] |= bit
            case .folded(let field, let parts): self.add(text, field, parts, bit)
            }
        }
    }

    private mutating func add(_ text: [UInt8], _ field: TextField, _ parts: TextField?, _ bit: UInt64) {
        let first = Int(field.rawValue) * Self.bucketsOfField
        let firstPart = parts.map { Int($0.rawValue) * Self.bucketsOfField }
        var bytes = TextFolding.Bytes(text)
        var grams = TextFolding.Grams()
        var words = self.words.mutableSpan
        while let byte = bytes.next() {
            let found = grams.take(byte)
            if found.gram >= 0 { words[first + found.gram] |= bit }
            if found.part >= 0, let firstPart { words[firstPart + found.part] |= bit }
        }
    }

    /// - Throws: ``ColumnarError`` `.damaged` when a record is missing.
    func finish() throws -> TextSlice {
        guard self.count == self.geometry.recordsOfSlice - (self.first == 0 ? 1 : 0) else {
            throw ColumnarError(.damaged, "audit_log lacks records between \(self.first) and the next slice of texts")
        }
        var keys: [TextKey] = []
        var words: [UInt64] = []
        for (key, word) in self.words.enumerated() where word != 0 {
            keys.append(TextKey(key))
            words.append(word)
        }
        return TextSlice(keys: keys, words: words)
    }
}
