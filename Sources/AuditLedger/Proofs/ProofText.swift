internal import Primitives

extension ConsistencyProof {
    private static let header = Array("flasktrack/consistency-proof@v1".utf8)
    private static let oldLead = Array("old ".utf8)
    private static let newLead = Array("new ".utf8)
    private static let bytesMax = 8 << 10

    /// The proof as a text: header, `old` and `new` size, one hash a line.
    package var encoded: [UInt8] {
        var text = Self.header + [UInt8(ascii: "\n")]
        text.appendLine(Self.oldLead, self.oldSize)
        text.appendLine(Self.newLead, self.newSize)
        for digest in self.path { StrictText.appendLine(digest, to: &text) }
        return text
    }

    /// Reads a proof; says nothing about whether it holds.
    ///
    /// - Throws: ``NoteError`` `.tooLarge`, `.truncated`, `.malformedLine`, `.malformedNumber`, `.numberTooLarge`,
    ///   `.nonCanonicalBase64`, `.malformedHash`.
    package init(parsing bytes: some Collection<UInt8>) throws(NoteError) {
        let bytes = Array(bytes)
        var reader = try LineReader(bytes[...], bytesMax: Self.bytesMax)
        try reader.readHeader(Self.header)
        let oldSize = try reader.readNumber(after: Self.oldLead)
        let newSize = try reader.readNumber(after: Self.newLead)
        self.init(oldSize: oldSize, newSize: newSize, path: try reader.readDigests(max: Self.pathMax))
    }
}

extension SelectionProof {
    private static let header = Array("flasktrack/selection-proof@v1".utf8)
    private static let sizeLead = Array("size ".utf8)
    private static let rangeLead = Array("records ".utf8)
    /// The text of a proof has at most this many bytes.
    package static let textBytesMax = 1 << 30

    /// The proof as a text: header, `size`, one line `records FIRST LAST` of sequences for each range, a blank line, one
    /// hash a line.
    package var encoded: [UInt8] {
        var text = Self.header + [UInt8(ascii: "\n")]
        text.appendLine(Self.sizeLead, self.size)
        for range in self.ranges {
            text += Self.rangeLead
            StrictText.append(range.lowerBound + 1, to: &text)
            text.append(UInt8(ascii: " "))
            StrictText.append(range.upperBound, to: &text)
            text.append(UInt8(ascii: "\n"))
        }
        text.append(UInt8(ascii: "\n"))
        for digest in self.hashes { StrictText.appendLine(digest, to: &text) }
        return text
    }

    /// Reads a proof; says nothing about whether it holds.
    ///
    /// - Throws: ``NoteError`` `.tooLarge`, `.truncated`, `.malformedLine`, `.malformedNumber`, `.numberTooLarge`,
    ///   `.nonCanonicalBase64`, `.malformedHash`.
    package init(parsing bytes: some Collection<UInt8>) throws(NoteError) {
        let bytes = Array(bytes)
        var reader = try LineReader(bytes[...], bytesMax: Self.textBytesMax)
        try reader.readHeader(Self.header)
        let size = try reader.readNumber(after: Self.sizeLead)
        var ranges: [Range<UInt64>] = []
        while true {
            let line = try reader.readLine()
            if line.isEmpty { break }
            let numbers = line.dropFirst(Self.rangeLead.count)
                .split(separator: UInt8(ascii: " "), omittingEmptySubsequences: false)
            guard line.starts(with: Self.rangeLead), numbers.count == 2 else {
                throw NoteError(.malformedLine, "line \(reader.line): expected the first and last record of a range")
            }
            let first = try StrictText.number(numbers[0], line: reader.line)
            let last = try StrictText.number(numbers[1], line: reader.line)
            guard first >= 1, first <= last else {
                throw NoteError(.malformedLine, "line \(reader.line): a range is empty or begins before record 1")
            }
            guard ranges.count < Self.rangesMax else {
                throw NoteError(.tooLarge, "more than \(Self.rangesMax) ranges")
            }
            ranges.append((first - 1)..<last)
        }
        self.init(size: size, ranges: ranges, hashes: try reader.readDigests(max: Int.max))
    }
}

extension LineReader {
    fileprivate mutating func readHeader(_ header: [UInt8]) throws(NoteError) {
        guard try self.readLine() == header[...] else { throw NoteError(.malformedLine, "line 1: another header") }
    }

    fileprivate mutating func readNumber(after lead: [UInt8]) throws(NoteError) -> UInt64 {
        let line = try self.readLine()
        guard line.starts(with: lead) else {
            throw NoteError(.malformedLine, "line \(self.line): expected a size")
        }
        return try StrictText.number(line.dropFirst(lead.count), line: self.line)
    }

    fileprivate mutating func readDigests(max: Int) throws(NoteError) -> [Digest] {
        var digests: [Digest] = []
        while !self.isAtEnd {
            guard digests.count < max else { throw NoteError(.tooLarge, "more than \(max) hashes") }
            digests.append(try StrictText.digest(try self.readLine(), line: self.line))
        }
        return digests
    }
}

extension [UInt8] {
    fileprivate mutating func appendLine(_ lead: [UInt8], _ number: UInt64) {
        self += lead
        StrictText.append(number, to: &self)
        self.append(UInt8(ascii: "\n"))
    }
}
