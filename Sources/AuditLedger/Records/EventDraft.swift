package import Primitives

/// A record without what only applying knows: `previous`, `recorded_at` and `sequence`.
///
/// Kept as the canonical text of the record without those three members, and the three places where they go; applying
/// splices bytes and parses nothing. Made from an event by ``parse(_:defaults:)`` and carried in a command.
package struct EventDraft: Sendable, Hashable {
    /// Canonical JSON of the other members.
    let text: [UInt8]
    let previousPlace: Int
    let recordedAtPlace: Int
    let sequencePlace: Int

    /// The most bytes that the three members add: digest, time and a sequence of 20 digits, with names and marks.
    static let addedBytesMax = 160

    /// The size of the draft, in bytes.
    package var byteCount: Int { self.text.count }

    init(text: [UInt8], previousPlace: Int, recordedAtPlace: Int, sequencePlace: Int) {
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
        let text = Array(try reader.readPrefixed())
        let places = [previousPlace, recordedAtPlace, sequencePlace]
        let comma = UInt8(ascii: ",")
        guard text.count <= EventLimits.recordBytesMax,
            places.allSatisfy({ $0 > 0 && $0 < text.count && text[$0] == comma }),
            previousPlace <= recordedAtPlace, recordedAtPlace < sequencePlace
        else { throw MalformedBytes(what: "event draft", offset: offset) }
        return EventDraft(
            text: text,
            previousPlace: previousPlace,
            recordedAtPlace: recordedAtPlace,
            sequencePlace: sequencePlace
        )
    }

    private static let previousName = Array(",\"previous\":\"".utf8)
    private static let recordedAtName = Array(",\"recorded_at\":\"".utf8)
    private static let sequenceName = Array(",\"sequence\":".utf8)

    /// The canonical text of the record.
    func record(previous: Digest, recordedAt: Timestamp, sequence: SequenceNumber) -> [UInt8] {
        let quote = JSONText.quote
        var bytes: [UInt8] = []
        bytes.reserveCapacity(self.text.count + Self.addedBytesMax)
        bytes.append(contentsOf: self.text[..<self.previousPlace])
        bytes.append(contentsOf: Self.previousName)
        previous.appendHex(to: &bytes)
        bytes.append(quote)
        bytes.append(contentsOf: self.text[self.previousPlace..<self.recordedAtPlace])
        bytes.append(contentsOf: Self.recordedAtName)
        recordedAt.appendText(to: &bytes)
        bytes.append(quote)
        bytes.append(contentsOf: self.text[self.recordedAtPlace..<self.sequencePlace])
        bytes.append(contentsOf: Self.sequenceName)
        var digits: [UInt8] = []
        var rest = sequence.rawValue
        repeat {
            digits.append(0x30 + UInt8(truncatingIfNeeded: rest % 10))
            rest /= 10
        } while rest > 0
        bytes.append(contentsOf: digits.reversed())
        bytes.append(contentsOf: self.text[self.sequencePlace...])
        return bytes
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
            let end = body[start...].firstIndex(of: 0x0A) ?? body.count
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
        return drafts
    }
}
