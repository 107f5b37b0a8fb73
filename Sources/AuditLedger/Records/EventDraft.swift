package import Primitives

/// A record without what only applying knows: `previous`, `recorded_at` and `sequence`.
///
/// Kept as the canonical text of the record without those three members, and the three places where they go; applying
/// splices bytes and parses nothing. Made from an event by ``parse(_:defaults:)`` and carried in a command; a draft
/// read from a command is a slice of the command's bytes.
package struct EventDraft: Sendable, Hashable {
    /// Canonical JSON of the other members; the places count from its start.
    let text: ArraySlice<UInt8>
    let previousPlace: Int
    let recordedAtPlace: Int
    let sequencePlace: Int

    /// The most bytes that the three members add: digest, time and a sequence of 20 digits, with names and marks.
    static let addedBytesMax = 160

    /// The size of the draft, in bytes.
    package var byteCount: Int { self.text.count }

    init(text: ArraySlice<UInt8>, previousPlace: Int, recordedAtPlace: Int, sequencePlace: Int) {
        self.text = text
        self.previousPlace = previousPlace
        self.recordedAtPlace = recordedAtPlace
        self.sequencePlace = sequencePlace
    }

    /// Reads one event, as clients send it, and completes it from `context`.
    package static func parse(_ line: [UInt8], defaults context: EventContext) throws(EventError) -> EventDraft {
        var parser = EventParser(context: context)
        return try parser.parse(line, range: 0..<line.count)
    }

    /// As ``parse(_:defaults:)`` without its quick way for usual events: what that must agree with.
    package static func parseThoroughly(
        _ line: [UInt8],
        defaults context: EventContext
    ) throws(EventError) -> EventDraft {
        var parser = EventParser(context: context)
        return try parser.parseThoroughly(line, range: 0..<line.count)
    }

    /// As ``parse(_:defaults:)``, for events that may have personal members: those values come out beside the draft.
    package static func parseSealing(
        _ line: [UInt8],
        defaults context: EventContext
    ) throws(EventError) -> (draft: EventDraft, personal: [PersonalValue]) {
        var parser = EventParser(context: context)
        let draft = try parser.parse(line, range: 0..<line.count)
        return (draft, parser.personal.map(\.value))
    }

    /// Writes the draft for a command.
    package func encode(into writer: inout ByteWriter) {
        writer.write(UInt32(self.previousPlace))
        writer.write(UInt32(self.recordedAtPlace))
        writer.write(UInt32(self.sequencePlace))
        writer.write(prefixed: self.text)
    }

    /// Reads what ``encode(into:)`` wrote.
    package static func decode(from reader: inout ByteReader) throws(MalformedBytes) -> EventDraft {
        let offset = reader.offset
        let previousPlace = Int(try reader.read(UInt32.self))
        let recordedAtPlace = Int(try reader.read(UInt32.self))
        let sequencePlace = Int(try reader.read(UInt32.self))
        let text = try reader.readPrefixed()
        guard text.count <= EventLimits.recordBytesMax,
            Self.isComma(text, previousPlace), Self.isComma(text, recordedAtPlace), Self.isComma(text, sequencePlace),
            previousPlace <= recordedAtPlace, recordedAtPlace < sequencePlace
        else { throw MalformedBytes(what: "event draft", offset: offset) }
        return EventDraft(
            text: text,
            previousPlace: previousPlace,
            recordedAtPlace: recordedAtPlace,
            sequencePlace: sequencePlace
        )
    }

    private static func isComma(_ text: ArraySlice<UInt8>, _ place: Int) -> Bool {
        place > 0 && place < text.count && text[text.startIndex + place] == UInt8(ascii: ",")
    }

    private static let previousName: StaticString = ",\"previous\":\""
    private static let recordedAtName: StaticString = "\",\"recorded_at\":\""
    private static let sequenceName: StaticString = "\",\"sequence\":"

    /// The canonical text of the record.
    ///
    /// Written in one go into memory of the right size: this is the hot path of applying.
    /// - Parameter time: ``Timestamp/appendText(to:)`` of the record's time, 27 bytes.
    func record(previous: Digest, recordedAt time: [UInt8], sequence: SequenceNumber) -> [UInt8] {
        [UInt8](unsafeUninitializedCapacity: self.text.count + Self.addedBytesMax) { buffer, count in
            var writer = RecordWriter(buffer: buffer)
            self.text.withUnsafeBufferPointer { text in
                writer.write(text, from: 0, to: self.previousPlace)
                writer.write(Self.previousName)
                writer.writeHex(previous)
                // The closing quote stands at the beginning of the next name, unless members of the draft come between.
                if self.recordedAtPlace > self.previousPlace {
                    writer.write(JSONText.quote)
                    writer.write(text, from: self.previousPlace, to: self.recordedAtPlace)
                    writer.write(Self.recordedAtName, from: 1)
                } else {
                    writer.write(Self.recordedAtName)
                }
                time.withUnsafeBufferPointer { writer.write($0, from: 0, to: $0.count) }
                if self.sequencePlace > self.recordedAtPlace {
                    writer.write(JSONText.quote)
                    writer.write(text, from: self.recordedAtPlace, to: self.sequencePlace)
                    writer.write(Self.sequenceName, from: 1)
                } else {
                    writer.write(Self.sequenceName)
                }
                writer.writeDecimal(sequence.rawValue)
                writer.write(text, from: self.sequencePlace, to: text.count)
            }
            count = writer.count
        }
    }
}

/// Fills a buffer that the caller made large enough; what applying adds to a draft never takes more than
/// ``EventDraft/addedBytesMax``.
struct RecordWriter {
    let buffer: UnsafeMutableBufferPointer<UInt8>
    private(set) var count = 0

    init(buffer: UnsafeMutableBufferPointer<UInt8>) { self.buffer = buffer }

    mutating func write(_ byte: UInt8) {
        self.buffer[self.count] = byte
        self.count += 1
    }

    mutating func write(_ bytes: UnsafeBufferPointer<UInt8>, from start: Int, to end: Int) {
        let length = end - start
        precondition(start >= 0 && length >= 0 && end <= bytes.count && self.count + length <= self.buffer.count)
        guard length > 0, let source = bytes.baseAddress, let target = self.buffer.baseAddress else { return }
        (target + self.count).update(from: source + start, count: length)
        self.count += length
    }

    mutating func write(_ text: StaticString, from start: Int = 0) {
        text.withUTF8Buffer { self.write($0, from: start, to: $0.count) }
    }

    mutating func write(_ bytes: [UInt8]) {
        bytes.withUnsafeBufferPointer { self.write($0, from: 0, to: $0.count) }
    }

    mutating func writeHex(_ digest: Digest) {
        self.writeHex(digest.words.0)
        self.writeHex(digest.words.1)
        self.writeHex(digest.words.2)
        self.writeHex(digest.words.3)
    }

    private mutating func writeHex(_ word: UInt64) {
        var shift = UInt64(64)
        while shift > 0 {
            shift -= 4
            let digit = UInt8(truncatingIfNeeded: word >> shift) & 0x0F
            self.write(digit < 10 ? 0x30 + digit : 0x57 + digit)
        }
    }

    mutating func writeDecimal(_ value: UInt64) {
        var divisor = UInt64(1)
        while value / divisor >= 10 { divisor *= 10 }
        while divisor > 0 {
            self.write(0x30 + UInt8(truncatingIfNeeded: value / divisor % 10))
            divisor /= 10
        }
    }
}

/// The events of one request body of newline-delimited JSON.
package enum EventBatch {
    /// Bounds on a batch.
    package struct Limits: Sendable, Hashable {
        package var recordsMax: Int
        package var bytesMax: Int

        package init(
            recordsMax: Int = EventLimits.batchRecordsMax,
            bytesMax: Int = EventLimits.batchBytesMax
        ) {
            self.recordsMax = recordsMax
            self.bytesMax = bytesMax
        }
    }

    /// Reads one event per line; either all are drafts or none.
    ///
    /// Lines end with LF or CRLF; the last one may lack it. Blank lines are allowed at the end only.
    /// - Throws: The first fault, with its line.
    package static func parse(
        _ body: [UInt8],
        limits: Limits = Limits(),
        defaults context: EventContext
    ) throws(EventError) -> [EventDraft] {
        try self.parseSealing(body, limits: limits, defaults: context).drafts
    }

    /// As ``parse(_:limits:defaults:)``, for events that may have personal members.
    /// - Returns: Also the values that were taken out, each with the number of its draft.
    package static func parseSealing(
        _ body: [UInt8],
        limits: Limits = Limits(),
        defaults context: EventContext
    ) throws(EventError) -> (drafts: [EventDraft], personal: [(event: Int, value: PersonalValue)]) {
        guard body.count <= limits.bytesMax else {
            throw EventError(.batchTooLarge, "the batch is longer than \(limits.bytesMax) bytes")
        }
        var parser = EventParser(context: context)
        var drafts: [EventDraft] = []
        var line = 0
        var blankLine: Int?
        var start = 0
        while start < body.count {
            line += 1
            let end = JSONText.lineEnd(body, from: start)
            defer { start = end + 1 }
            if body[start..<end].allSatisfy({ $0 == 0x20 || $0 == 0x0D || $0 == 0x09 }) {
                blankLine = blankLine ?? line
                continue
            }
            if let blankLine {
                throw EventError(.malformedJSON, "a blank line stands between events", line: blankLine)
            }
            guard drafts.count < limits.recordsMax else {
                throw EventError(.batchTooLarge, "the batch has more than \(limits.recordsMax) events", line: line)
            }
            do {
                drafts.append(try parser.parse(body, range: start..<end))
            } catch {
                throw error.at(line: line)
            }
        }
        guard !drafts.isEmpty else { throw EventError(.emptyBatch, "the batch has no event") }
        return (drafts, parser.personal)
    }
}
