/// Reads texts made of lines, strictly: what is accepted has exactly one spelling.
struct LineReader {
    private let bytes: ArraySlice<UInt8>
    private var next: Int
    /// The number of the line that was read last, from 1.
    private(set) var line = 0

    /// - Throws: ``NoteError`` `.tooLarge` when there are more than `bytesMax` bytes.
    init(_ bytes: ArraySlice<UInt8>, bytesMax: Int) throws(NoteError) {
        guard bytes.count <= bytesMax else { throw NoteError(.tooLarge, "more than \(bytesMax) bytes") }
        self.bytes = bytes
        self.next = bytes.startIndex
    }

    var isAtEnd: Bool { self.next == self.bytes.endIndex }
    var rest: ArraySlice<UInt8> { self.bytes[self.next...] }

    /// The next line without its newline.
    ///
    /// - Throws: ``NoteError`` `.truncated` when there is no complete line left.
    mutating func readLine() throws(NoteError) -> ArraySlice<UInt8> {
        self.line += 1
        guard let end = self.bytes[self.next...].firstIndex(of: UInt8(ascii: "\n")) else {
            throw NoteError(.truncated, "line \(self.line) is missing or not complete")
        }
        defer { self.next = end + 1 }
        return self.bytes[self.next..<end]
    }

    /// The next `count` bytes, whatever they are.
    ///
    /// - Throws: ``NoteError`` `.truncated` when there are fewer.
    mutating func read(count: Int) throws(NoteError) -> ArraySlice<UInt8> {
        guard count >= 0, count <= self.bytes.endIndex - self.next else {
            throw NoteError(.truncated, "fewer than \(count) bytes after line \(self.line)")
        }
        defer { self.next += count }
        return self.bytes[self.next..<self.next + count]
    }
}
