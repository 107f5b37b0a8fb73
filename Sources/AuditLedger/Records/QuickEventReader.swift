internal import Primitives

/// Turns events as clients usually send them into drafts, or says that it cannot.
///
/// Writes the draft that ``EventParser/parseThoroughly(_:range:)`` writes, byte for byte, in two passes over the event: its values are put in
/// canonical form by ``QuickCanonicalizer``, then copied to their places. Whatever it gives up, faults among them, is read again
/// thoroughly: no error begins here. Keeps its buffers from one event to the next.
struct QuickEventReader {
    /// Places of the members' values in the canonical bytes, in canonical order; empty when absent.
    fileprivate struct Members {
        var action = 0..<0
        var actor = 0..<0
        var after = 0..<0
        var before = 0..<0
        var causation = 0..<0
        var compliance = 0..<0
        var correlation = 0..<0
        var entityID = 0..<0
        var entityType = 0..<0
        var occurredAt = 0..<0
        var organization = 0..<0
        var outcome = 0..<0
        var personal = 0..<0
        var reason = 0..<0
        var session = 0..<0
        var severity = 0..<0
    }

    /// Memory of its own, kept from event to event.
    private final class Buffers {
        private(set) var canonical = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: 0)
        private(set) var scratch = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: 0)
        let members = UnsafeMutableBufferPointer<QuickCanonicalizer.Member>
            .allocate(capacity: QuickCanonicalizer.membersMax)

        deinit {
            self.canonical.deallocate()
            self.scratch.deallocate()
            self.members.deallocate()
        }

        func makeRoom(_ count: Int) {
            guard self.canonical.count < count else { return }
            self.canonical.deallocate()
            self.scratch.deallocate()
            // More than is needed, so that a batch whose events grow makes room seldom.
            self.canonical = .allocate(capacity: 2 * count)
            self.scratch = .allocate(capacity: 2 * count)
        }
    }

    /// Names, marks and standing words that a draft has besides values, the context's texts and `changed`.
    private static let namesBytesMax = 512

    private let context: EventContext
    private let limits: JSONLimits
    private let kinds = EventNames.kinds
    private let severities = EventNames.severities
    private let outcomes = EventNames.outcomes
    private let buffers = Buffers()
    /// The default actor's text, once an event needed it.
    private var standingActor: [UInt8]?
    private var changed = ChangedPlaces()

    init(context: EventContext, limits: JSONLimits) {
        precondition(limits.numbers == .exact, "numbers keep their texts")
        precondition(limits.bytesMax <= limits.valuesMax, "each value has a byte, so that values need not be counted")
        self.context = context
        self.limits = limits
    }

    /// - Returns: The draft, or nil when the event must be read thoroughly.
    mutating func read(_ input: [UInt8], range: Range<Int>) -> EventDraft? {
        guard !range.isEmpty, range.count <= self.limits.bytesMax else { return nil }
        self.buffers.makeRoom(range.count)
        let (limits, format, buffers) = (self.limits, self.context.format, self.buffers)
        let found = input.withUnsafeBufferPointer { input -> (members: Members, count: Int)? in
            var text = QuickCanonicalizer(
                input: input[range],
                output: buffers.canonical,
                scratch: buffers.scratch,
                members: buffers.members,
                depthMax: limits.depthMax
            )
            return Self.readMembers(&text, format).map { ($0, text.place) }
        }
        guard let (members, count) = found else { return nil }
        let bytes = UnsafeBufferPointer(rebasing: buffers.canonical[..<count])
        if self.standingActor == nil, !Self.isPresent(members.actor, bytes) {
            self.standingActor = self.context.defaultActorText
        }
        guard format < .second || self.changed.find(members.before, members.after, in: bytes) else { return nil }
        return self.assemble(members, bytes)
    }

    /// Reads an event: its members may come in any order, for they are put where they belong one by one.
    private static func readMembers(_ text: inout QuickCanonicalizer, _ format: RecordFormat) -> Members? {
        var members = Members()
        text.skipSpace()
        guard text.take(UInt8(ascii: "{")) else { return nil }
        text.skipSpace()
        while true {
            guard text.next < text.end, text.next.pointee == JSONText.quote else { return nil }
            let nameStart = text.place + 1
            guard text.string() else { return nil }
            let name = UnsafeBufferPointer(
                start: UnsafePointer(text.outputStart) + nameStart,
                count: text.place - 1 - nameStart
            )
            // A name with an escape is none of these.
            guard let member = EventMember(name), member.format <= format else { return nil }
            text.skipSpace()
            guard text.take(UInt8(ascii: ":")) else { return nil }
            text.skipSpace()
            let start = text.place
            guard text.value(depth: 1), members.set(member, start..<text.place) else { return nil }
            text.skipSpace()
            if text.take(UInt8(ascii: "}")) { break }
            guard text.take(UInt8(ascii: ",")) else { return nil }
            text.skipSpace()
        }
        text.skipSpace()
        return text.next == text.end ? members : nil
    }

    // MARK: The draft

    private func assemble(_ members: Members, _ bytes: UnsafeBufferPointer<UInt8>) -> EventDraft? {
        var places: (previous: Int, recordedAt: Int, sequence: Int)?
        let roomBytes =
            bytes.count + self.changed.text.count + self.context.requestFragment.count
            + self.context.organizationText.count + (self.standingActor?.count ?? 0) + Self.namesBytesMax
        let text = [UInt8](unsafeUninitializedCapacity: roomBytes) { buffer, count in
            var writer = RecordWriter(buffer: buffer)
            places = self.write(members, bytes, into: &writer)
            count = places == nil ? 0 : writer.count
        }
        guard let places, text.count + EventDraft.addedBytesMax <= EventLimits.recordBytesMax else { return nil }
        return EventDraft(
            text: text[...],
            previousPlace: places.previous,
            recordedAtPlace: places.recordedAt,
            sequencePlace: places.sequence
        )
    }

    /// Writes the draft, member by member in canonical order.
    private func write(
        _ members: Members,
        _ bytes: UnsafeBufferPointer<UInt8>,
        into writer: inout RecordWriter
    ) -> (previous: Int, recordedAt: Int, sequence: Int)? {
        guard !Self.isPresent(members.personal, bytes) else { return nil }
        writer.write("{\"action\":")
        guard Self.write(text: members.action, EventLimits.actionBytesMax, bytes, into: &writer) else { return nil }
        writer.write(",\"actor\":")
        guard self.writeActor(members.actor, bytes, into: &writer) else { return nil }
        writer.write(",\"after\":")
        Self.write(state: members.after, bytes, into: &writer)
        writer.write(",\"before\":")
        Self.write(state: members.before, bytes, into: &writer)
        guard Self.write(link: members.causation, ",\"causation\":", bytes, into: &writer) else { return nil }
        writer.write(self.changed.text)
        if Self.isPresent(members.compliance, bytes) {
            guard bytes[members.compliance.lowerBound] == UInt8(ascii: "{") else { return nil }
            writer.write(",\"compliance\":")
            writer.write(bytes, from: members.compliance.lowerBound, to: members.compliance.upperBound)
        }
        guard Self.write(link: members.correlation, ",\"correlation\":", bytes, into: &writer) else { return nil }
        writer.write(",\"entity_id\":")
        guard Self.write(text: members.entityID, EventLimits.entityIDBytesMax, bytes, into: &writer) else { return nil }
        writer.write(",\"entity_type\":")
        guard Self.write(text: members.entityType, EventLimits.entityTypeBytesMax, bytes, into: &writer) else {
            return nil
        }
        guard Self.write(time: members.occurredAt, bytes, into: &writer) else { return nil }
        writer.write(",\"organization\":")
        if Self.isPresent(members.organization, bytes) {
            guard Self.isSame(members.organization, self.context.organizationText, bytes) else { return nil }
        }
        writer.write(self.context.organizationText)
        writer.write(",\"outcome\":")
        guard Self.write(word: members.outcome, self.outcomes, bytes, into: &writer) else { return nil }
        let previousPlace = writer.count
        if Self.isPresent(members.reason, bytes) {
            writer.write(",\"reason\":")
            guard Self.write(text: members.reason, EventLimits.reasonBytesMax, bytes, into: &writer) else { return nil }
        }
        let recordedAtPlace = writer.count
        writer.write(self.context.requestFragment)
        let sequencePlace = writer.count
        guard Self.write(link: members.session, ",\"session\":", bytes, into: &writer) else { return nil }
        writer.write(",\"severity\":")
        guard Self.write(word: members.severity, self.severities, bytes, into: &writer) else { return nil }
        writer.write(UInt8(ascii: "}"))
        return (previousPlace, recordedAtPlace, sequencePlace)
    }

    private func writeActor(
        _ range: Range<Int>,
        _ bytes: UnsafeBufferPointer<UInt8>,
        into writer: inout RecordWriter
    ) -> Bool {
        guard Self.isPresent(range, bytes) else {
            guard let standing = self.standingActor else { return false }
            writer.write(standing)
            return true
        }
        writer.write("{\"id\":")
        if bytes[range.lowerBound] == JSONText.quote {
            guard Self.write(text: range, EventLimits.actorIDBytesMax, bytes, into: &writer) else { return false }
            writer.write(",\"kind\":\"user\"}")
            return true
        }
        guard bytes[range.lowerBound] == UInt8(ascii: "{") else { return false }
        var (id, kind, name, role, onBehalfOf) = (0..<0, 0..<0, 0..<0, 0..<0, 0..<0)
        var walk = CanonicalMembers(bytes, of: range)
        while let member = walk.next() {
            let key = UnsafeBufferPointer(rebasing: bytes[member.key])
            if key.isText("id") {
                id = member.value
            } else if key.isText("kind") {
                kind = member.value
            } else if key.isText("name") {
                name = member.value
            } else if key.isText("role") {
                role = member.value
            } else if key.isText("on_behalf_of") {
                onBehalfOf = member.value
            } else {
                return false
            }
        }
        guard Self.write(text: id, EventLimits.actorIDBytesMax, bytes, into: &writer) else { return false }
        writer.write(",\"kind\":")
        guard Self.write(word: kind, self.kinds, bytes, into: &writer) else { return false }
        let textBytesMax = EventLimits.actorTextBytesMax
        let isWhole =
            Self.write(optional: name, ",\"name\":", textBytesMax, bytes, into: &writer)
            && Self.write(optional: onBehalfOf, ",\"on_behalf_of\":", textBytesMax, bytes, into: &writer)
            && Self.write(optional: role, ",\"role\":", textBytesMax, bytes, into: &writer)
        writer.write(UInt8(ascii: "}"))
        return isWhole
    }
}

// MARK: Values

extension QuickEventReader {
    /// Null counts as absent for members that may be absent.
    private static func isPresent(_ range: Range<Int>, _ bytes: UnsafeBufferPointer<UInt8>) -> Bool {
        !range.isEmpty && bytes[range.lowerBound] != UInt8(ascii: "n")
    }

    private static func isSame(_ range: Range<Int>, _ text: [UInt8], _ bytes: UnsafeBufferPointer<UInt8>) -> Bool {
        guard range.count == text.count else { return false }
        var offset = 0
        while offset < text.count, bytes[range.lowerBound + offset] == text[offset] { offset += 1 }
        return offset == text.count
    }

    /// Writes a text that must be there and is not empty; one that may be too long is given up.
    private static func write(
        text range: Range<Int>,
        _ bytesMax: Int,
        _ bytes: UnsafeBufferPointer<UInt8>,
        into writer: inout RecordWriter
    ) -> Bool {
        guard range.count > 2, range.count - 2 <= bytesMax, bytes[range.lowerBound] == JSONText.quote else {
            return false
        }
        writer.write(bytes, from: range.lowerBound, to: range.upperBound)
        return true
    }

    private static func write(
        optional range: Range<Int>,
        _ name: StaticString,
        _ bytesMax: Int,
        _ bytes: UnsafeBufferPointer<UInt8>,
        into writer: inout RecordWriter
    ) -> Bool {
        guard self.isPresent(range, bytes) else { return true }
        writer.write(name)
        return self.write(text: range, bytesMax, bytes, into: &writer)
    }

    private static func write(
        link range: Range<Int>,
        _ name: StaticString,
        _ bytes: UnsafeBufferPointer<UInt8>,
        into writer: inout RecordWriter
    ) -> Bool {
        self.write(optional: range, name, EventLimits.linkBytesMax, bytes, into: &writer)
    }

    private static func write(
        state range: Range<Int>,
        _ bytes: UnsafeBufferPointer<UInt8>,
        into writer: inout RecordWriter
    ) {
        if range.isEmpty {
            writer.write("null")
        } else {
            writer.write(bytes, from: range.lowerBound, to: range.upperBound)
        }
    }

    /// Writes one of a few quoted words; the first of them when the member is absent.
    private static func write(
        word range: Range<Int>,
        _ words: [[UInt8]],
        _ bytes: UnsafeBufferPointer<UInt8>,
        into writer: inout RecordWriter
    ) -> Bool {
        guard self.isPresent(range, bytes) else {
            writer.write(words[0])
            return true
        }
        guard words.contains(where: { self.isSame(range, $0, bytes) }) else { return false }
        writer.write(bytes, from: range.lowerBound, to: range.upperBound)
        return true
    }

    /// Writes the time of the act, if the event tells it; other forms than records' own go the long way.
    private static func write(
        time range: Range<Int>,
        _ bytes: UnsafeBufferPointer<UInt8>,
        into writer: inout RecordWriter
    ) -> Bool {
        guard self.isPresent(range, bytes) else { return true }
        guard range.count > 2, bytes[range.lowerBound] == JSONText.quote,
            let time = RecordTime.parse(bytes, range.lowerBound + 1..<range.upperBound - 1)
        else { return false }
        writer.write(",\"occurred_at\":\"")
        var text: [UInt8] = []
        time.appendText(to: &text)
        writer.write(text)
        writer.write(JSONText.quote)
        return true
    }
}

extension QuickEventReader.Members {
    /// - Returns: False when the event has the member twice.
    fileprivate mutating func set(_ member: EventMember, _ range: Range<Int>) -> Bool {
        switch member {
        case .action: Self.set(&self.action, range)
        case .actor: Self.set(&self.actor, range)
        case .after: Self.set(&self.after, range)
        case .before: Self.set(&self.before, range)
        case .causation: Self.set(&self.causation, range)
        case .compliance: Self.set(&self.compliance, range)
        case .correlation: Self.set(&self.correlation, range)
        case .entityID: Self.set(&self.entityID, range)
        case .entityType: Self.set(&self.entityType, range)
        case .occurredAt: Self.set(&self.occurredAt, range)
        case .organization: Self.set(&self.organization, range)
        case .outcome: Self.set(&self.outcome, range)
        case .personal: Self.set(&self.personal, range)
        case .reason: Self.set(&self.reason, range)
        case .session: Self.set(&self.session, range)
        case .severity: Self.set(&self.severity, range)
        }
    }

    private static func set(_ member: inout Range<Int>, _ range: Range<Int>) -> Bool {
        guard member.isEmpty else { return false }
        member = range
        return true
    }
}
