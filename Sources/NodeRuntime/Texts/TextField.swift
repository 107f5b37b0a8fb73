internal import QueryRouter

/// What the index of texts keeps of one column of `audit_log`. The numbers are stored.
enum TextField: UInt8, CaseIterable, Sendable {
    /// Every three consecutive bytes of the folded text.
    case reason = 0
    case compliance = 1
    case before = 2
    case after = 3
    /// What stands between a quotation mark and the next one in the folded text, as a whole.
    case complianceParts = 4
    case beforeParts = 5
    case afterParts = 6
    /// The text as a whole, as it is.
    case entityID = 7
    case entityType = 8
    case action = 9

    /// A column as it is read, and what is kept of it.
    enum Source: Sendable {
        /// Three bytes each, and the parts between quotation marks when there is a field for them.
        case folded(TextField, parts: TextField?)
        case whole(TextField)
    }

    /// The columns of `audit_log` in the order in which they are read.
    static let sources: [(column: String, source: Source)] = [
        ("reason", .folded(.reason, parts: nil)),
        ("compliance", .folded(.compliance, parts: .complianceParts)),
        ("before", .folded(.before, parts: .beforeParts)),
        ("after", .folded(.after, parts: .afterParts)),
        ("entity_id", .whole(.entityID)),
        ("entity_type", .whole(.entityType)),
        ("action", .whole(.action)),
    ]

    /// What is kept of the column that a search names.
    static func source(of column: TextSearch.Column) -> Source {
        switch column {
        case .reason: .folded(.reason, parts: nil)
        case .compliance: .folded(.compliance, parts: .complianceParts)
        case .before: .folded(.before, parts: .beforeParts)
        case .after: .folded(.after, parts: .afterParts)
        case .entityID: .whole(.entityID)
        case .entityType: .whole(.entityType)
        case .action: .whole(.action)
        }
    }

    /// The key of a gram: the field above the gram's bucket.
    func key(_ bucket: UInt16) -> TextKey { TextKey(self.rawValue) << 16 | TextKey(bucket) }
}

/// A field and one of its 65,536 buckets, into which grams are scattered.
typealias TextKey = UInt32

/// How texts become grams: the same for what is indexed and for what is looked for. Pure.
///
/// The engine's `lower()` maps one character to one. Only where its result is ASCII is it known here: letters of ASCII, and
/// two characters beyond it. A gram is made of such bytes alone, so that it stands in the engine's folded text exactly when
/// it stands in ours; all other characters end a gram.
enum TextFolding {
    /// Bytes of a gram.
    static let gramBytes = 3
    static let quote = UInt8(ascii: "\"")

    /// The folded bytes of a text.
    struct Bytes {
        private let text: [UInt8]
        private var index = 0

        init(_ text: [UInt8]) { self.text = text }

        /// The next one; -1 for a character whose folded form is not ASCII, nil at the end.
        @inline(__always)
        mutating func next() -> Int? {
            guard self.index < self.text.count else { return nil }
            let byte = self.text[self.index]
            self.index += 1
            if byte < 0x80 { return Int(byte &- UInt8(ascii: "A") < 26 ? byte | 0x20 : byte) }
            return self.beyondASCII(byte)
        }

        private mutating func beyondASCII(_ byte: UInt8) -> Int {
            // The bytes that follow the first of a character.
            let start = self.index
            while self.index < self.text.count, self.text[self.index] & 0xC0 == 0x80 { self.index += 1 }
            switch (byte, self.index - start) {
            case (0xC4, 1) where self.text[start] == 0xB0: return Int(UInt8(ascii: "i"))  // U+0130
            case (0xE2, 2) where self.text[start] == 0x84 && self.text[start + 1] == 0xAA:
                return Int(UInt8(ascii: "k"))  // U+212A
            default: return -1
            }
        }
    }

    /// The bucket of three bytes.
    @inline(__always)
    static func bucket(gram: UInt32) -> UInt16 { UInt16(truncatingIfNeeded: (gram &* 0x9E37_79B1) >> 16) }

    /// A text as a whole, while it is read.
    struct Whole {
        private var hash: UInt64 = 0xCBF2_9CE4_8422_2325

        @inline(__always)
        mutating func add(_ byte: UInt8) { self.hash = (self.hash ^ UInt64(byte)) &* 0x0000_0100_0000_01B3 }

        @inline(__always)
        var bucket: UInt16 {
            UInt16(truncatingIfNeeded: ((self.hash ^ self.hash >> 32) &* 0x9E37_79B9_7F4A_7C15) >> 48)
        }
    }

    /// Finds the grams of a folded text, and its parts between quotation marks.
    struct Grams {
        private var window: UInt32 = 0
        private var run = 0
        private var whole = Whole()
        /// Whether a quotation mark has come, and only known bytes since.
        private var isPart = false

        /// Takes the next of ``Bytes``.
        /// - Returns: The buckets of the gram and of the part that end with it; -1 for none.
        @inline(__always)
        mutating func take(_ byte: Int) -> (gram: Int, part: Int) {
            guard byte >= 0 else {
                self.run = 0
                self.isPart = false
                return (-1, -1)
            }
            self.window = (self.window << 8 | UInt32(byte)) & 0xFF_FFFF
            self.run += 1
            let gram = self.run >= TextFolding.gramBytes ? Int(TextFolding.bucket(gram: self.window)) : -1
            guard byte == Int(TextFolding.quote) else {
                self.whole.add(UInt8(byte))
                return (gram, -1)
            }
            let part = self.isPart ? Int(self.whole.bucket) : -1
            self.whole = Whole()
            self.isPart = true
            return (gram, part)
        }
    }

    /// The bucket of a text as a whole, as it is.
    static func bucket(whole text: [UInt8]) -> UInt16 {
        var whole = Whole()
        for byte in text { whole.add(byte) }
        return whole.bucket
    }
}
