internal import Columnar

/// The granules of a block that hold a gram, a bit each.
struct GranuleSet: Sendable, Equatable {
    static let wordCount = TextGeometry.granulesOfBlock / 64

    var words = [UInt64](repeating: 0, count: wordCount)

    static let everywhere = GranuleSet(words: [UInt64](repeating: .max, count: wordCount))

    var count: Int { self.words.reduce(0) { $0 + $1.nonzeroBitCount } }
}

/// A stored row of the index: 256 neighbouring buckets of one field in one block.
///
/// The text has an entry for each bucket that a record fell into: how far it lies behind the one before, and its granules.
/// Numbers have five bits a digit, the lowest first; a digit that others follow has 32 more. Granules are `0` (more than half
/// of all: taken as all, which prunes as little), `1` and 86 digits of six bits, or their number and one, and how far each lies
/// behind the one before; of the last two the shorter. A digit is the character that many places behind `0` in ASCII.
struct TextPage: Sendable, Equatable {
    /// The field above the bucket's upper half.
    let number: UInt64
    let text: [UInt8]

    static let bucketsOfPage = 256
    /// More granules than these are taken as all.
    static let granulesMax = TextGeometry.granulesOfBlock / 2

    static func number(of key: TextKey) -> UInt64 { UInt64(key >> 8) }

    /// The pages of a block, in ascending order.
    static func pages(of slices: [TextSlice]) -> [TextPage] {
        precondition(slices.count == TextGeometry.slicesOfBlock, "a block has eight slices")
        var places = [Int](repeating: 0, count: slices.count)
        var pages: [TextPage] = []
        var writer = Writer()
        var page: UInt64?
        var set = GranuleSet()
        while true {
            var key = TextKey.max
            for (slice, place) in zip(slices, places) where place < slice.keys.count {
                key = min(key, slice.keys[place])
            }
            if key == .max { break }
            for index in slices.indices {
                set.words[index] = 0
                guard places[index] < slices[index].keys.count, slices[index].keys[places[index]] == key else {
                    continue
                }
                set.words[index] = slices[index].words[places[index]]
                places[index] += 1
            }
            if let page, page != Self.number(of: key) {
                pages.append(TextPage(number: page, text: writer.take()))
            }
            page = Self.number(of: key)
            writer.write(set, of: UInt8(truncatingIfNeeded: key))
        }
        if let page { pages.append(TextPage(number: page, text: writer.take())) }
        return pages
    }

    private struct Writer {
        private var text: [UInt8] = []
        private var next = 0

        mutating func take() -> [UInt8] {
            defer { self = Writer() }
            return self.text
        }

        mutating func write(_ set: GranuleSet, of bucket: UInt8) {
            self.number(Int(bucket) - self.next)
            self.next = Int(bucket) + 1
            let count = set.count
            if count > TextPage.granulesMax {
                self.number(0)
                return
            }
            let start = self.text.count
            self.number(count + 1)
            var last = -1
            for (index, word) in set.words.enumerated() {
                var rest = word
                while rest != 0 {
                    let granule = index * 64 + rest.trailingZeroBitCount
                    self.number(granule - last - 1)
                    last = granule
                    rest &= rest - 1
                }
            }
            guard self.text.count - start > 1 + TextPage.denseDigits else { return }
            self.text.removeLast(self.text.count - start)
            self.number(1)
            for digit in 0..<TextPage.denseDigits {
                let bit = digit * 6
                var value = set.words[bit / 64] >> UInt64(bit % 64)
                if bit % 64 > 58, bit / 64 + 1 < set.words.count {
                    value |= set.words[bit / 64 + 1] << UInt64(64 - bit % 64)
                }
                self.text.append(TextPage.zero + UInt8(value & 63))
            }
        }

        private mutating func number(_ number: Int) {
            var rest = number
            while rest >= 32 {
                self.text.append(TextPage.zero + 32 + UInt8(rest & 31))
                rest >>= 5
            }
            self.text.append(TextPage.zero + UInt8(rest))
        }
    }

    private static let zero = UInt8(ascii: "0")
    private static let denseDigits = (TextGeometry.granulesOfBlock + 5) / 6

    /// The granules of one bucket; nil when no record fell into it.
    /// - Throws: ``ColumnarError`` `.damaged` for a text that no page has.
    static func granules(of bucket: UInt8, in text: [UInt8]) throws -> GranuleSet? {
        var reader = Reader(text: text)
        var next = 0
        while !reader.isAtEnd {
            let found = next + (try reader.number())
            next = found + 1
            let set = try reader.granules(isWanted: found == Int(bucket))
            if found == Int(bucket) { return set }
            if found > Int(bucket) { return nil }
        }
        return nil
    }

    private struct Reader {
        let text: [UInt8]
        private var index = 0

        init(text: [UInt8]) { self.text = text }

        private static let damage = ColumnarError(.damaged, "a page of the index of texts cannot be read")

        var isAtEnd: Bool { self.index == self.text.count }

        private mutating func digit() throws -> Int {
            guard self.index < self.text.count else { throw Self.damage }
            let digit = Int(self.text[self.index]) - Int(TextPage.zero)
            guard (0..<64).contains(digit) else { throw Self.damage }
            self.index += 1
            return digit
        }

        mutating func number() throws -> Int {
            var number = 0
            for shift in stride(from: 0, to: 15, by: 5) {
                let digit = try self.digit()
                number |= (digit & 31) << shift
                if digit < 32 { return number }
            }
            throw Self.damage
        }

        /// Reads a set, or passes over it.
        mutating func granules(isWanted: Bool) throws -> GranuleSet? {
            let head = try self.number()
            switch head {
            case 0: return isWanted ? .everywhere : nil
            case 1:
                guard isWanted else {
                    self.index += TextPage.denseDigits
                    guard self.index <= self.text.count else { throw Self.damage }
                    return nil
                }
                var set = GranuleSet()
                for place in 0..<TextPage.denseDigits {
                    let (value, bit) = (UInt64(try self.digit()), place * 6)
                    set.words[bit / 64] |= value << UInt64(bit % 64)
                    if bit % 64 > 58, bit / 64 + 1 < set.words.count {
                        set.words[bit / 64 + 1] |= value >> UInt64(64 - bit % 64)
                    }
                }
                return set
            default:
                guard head - 1 <= TextPage.granulesMax else { throw Self.damage }
                var set = GranuleSet()
                var next = 0
                for _ in 0..<(head - 1) {
                    let granule = next + (try self.number())
                    guard granule < TextGeometry.granulesOfBlock else { throw Self.damage }
                    set.words[granule / 64] |= 1 << UInt64(granule % 64)
                    next = granule + 1
                }
                return isWanted ? set : nil
            }
        }
    }
}
