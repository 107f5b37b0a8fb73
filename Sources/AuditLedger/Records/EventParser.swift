internal import Primitives

/// Turns events into drafts; keeps its buffers from one event to the next.
struct EventParser {
    /// The members of an event, in the canonical order of a record.
    private struct Members {
        var action: Range<Int>?
        var actor: Range<Int>?
        var after: Range<Int>?
        var before: Range<Int>?
        var causation: Range<Int>?
        var compliance: Range<Int>?
        var correlation: Range<Int>?
        var entityID: Range<Int>?
        var entityType: Range<Int>?
        var occurredAt: Range<Int>?
        var organization: Range<Int>?
        var outcome: Range<Int>?
        var personal: Range<Int>?
        var reason: Range<Int>?
        var session: Range<Int>?
        var severity: Range<Int>?
    }

    private let context: EventContext
    private var canonicalizer: JSONCanonicalizer
    private var quick: QuickEventReader
    /// Values taken out of the events so far, with the number of their event.
    private(set) var personal: [(event: Int, value: PersonalValue)] = []
    private var eventCount = 0

    init(context: EventContext) {
        self.context = context
        let limits = JSONLimits(bytesMax: EventLimits.eventBytesMax)
        self.canonicalizer = JSONCanonicalizer(limits: limits)
        self.quick = QuickEventReader(context: context, limits: limits)
    }

    mutating func parse(_ input: [UInt8], range: Range<Int>) throws(EventError) -> EventDraft {
        if let draft = self.quick.read(input, range: range) {
            self.eventCount += 1
            return draft
        }
        return try self.parseThoroughly(input, range: range)
    }

    /// Reads any event, and finds what is wrong with those that are none.
    mutating func parseThoroughly(_ input: [UInt8], range: Range<Int>) throws(EventError) -> EventDraft {
        do {
            try self.canonicalizer.run(input, range: range)
        } catch {
            throw EventError(json: error)
        }
        guard self.canonicalizer.output.first == UInt8(ascii: "{") else {
            throw EventError(.notAnObject, "an event is a JSON object")
        }
        defer { self.eventCount += 1 }
        var members = try self.members()
        if let personal = self.present(members.personal) {
            try self.takePersonal(personal)
            members = try self.members()
        }
        return try self.assemble(members)
    }

    /// Puts commitments in the place of personal values, in the canonical text of the event.
    private mutating func takePersonal(_ range: Range<Int>) throws(EventError) {
        guard let seed = self.context.saltSeed else {
            throw EventError(.unknownMember, "personal members cannot be sealed here", member: "/personal")
        }
        let extractor = PersonalExtractor(organization: self.context.organization, seed: seed)
        do {
            let event = try JSONParser.parse(
                canonical: self.canonicalizer.output,
                range: 0..<self.canonicalizer.output.count
            )
            let (replaced, values) = try extractor.extract(event, number: self.eventCount)
            for value in values { self.personal.append((self.eventCount, value)) }
            let text = CanonicalJSON.encode(replaced)
            try self.canonicalizer.run(text, range: 0..<text.count)
        } catch let error as EventError {
            throw error
        } catch let error as JSONError {
            throw EventError(json: error)
        } catch {
            throw EventError(.malformedJSON, "the event cannot be read again", member: "/personal")
        }
    }

    private func members() throws(EventError) -> Members {
        var members = Members()
        for member in self.canonicalizer.members {
            let name = member.key.lowerBound + 1..<member.key.upperBound - 1
            let known = EventMember(self.canonicalizer.output, name)
            switch known.flatMap({ $0.format <= self.context.format ? $0 : nil }) {
            case .action: members.action = member.value
            case .actor: members.actor = member.value
            case .after: members.after = member.value
            case .before: members.before = member.value
            case .causation: members.causation = member.value
            case .compliance: members.compliance = member.value
            case .correlation: members.correlation = member.value
            case .entityID: members.entityID = member.value
            case .entityType: members.entityType = member.value
            case .occurredAt: members.occurredAt = member.value
            case .organization: members.organization = member.value
            case .outcome: members.outcome = member.value
            case .personal: members.personal = member.value
            case .reason: members.reason = member.value
            case .session: members.session = member.value
            case .severity: members.severity = member.value
            case nil:
                let key = JSONText.unescaped(self.canonicalizer.output, member.key)
                throw EventError(
                    .unknownMember,
                    "an event has no such member",
                    member: JSONPointer.child(of: "", key)
                )
            }
        }
        return members
    }

    /// Writes the draft, member by member in canonical order.
    private func assemble(_ members: Members) throws(EventError) -> EventDraft {
        let bytes = self.canonicalizer.output
        var text: [UInt8] = []
        text.reserveCapacity(bytes.count + self.context.requestFragment.count + EventDraft.addedBytesMax)
        text.append(contentsOf: EventNames.openAction)
        text.append(contentsOf: bytes[try self.text(members.action, "action", EventLimits.actionBytesMax)])
        text.append(contentsOf: EventNames.putActor)
        try self.appendActor(members.actor, to: &text)
        text.append(contentsOf: EventNames.putAfter)
        self.append(members.after, to: &text)
        text.append(contentsOf: EventNames.putBefore)
        self.append(members.before, to: &text)
        try self.append(link: members.causation, "causation", EventNames.putCausation, to: &text)
        if self.context.format >= .second { self.appendChanged(members, to: &text) }
        if let compliance = self.present(members.compliance) {
            guard bytes[compliance.lowerBound] == UInt8(ascii: "{") else {
                throw EventError(.wrongType, "an object is wanted here", member: "/compliance")
            }
            text.append(contentsOf: EventNames.putCompliance)
            text.append(contentsOf: bytes[compliance])
        }
        try self.append(link: members.correlation, "correlation", EventNames.putCorrelation, to: &text)
        text.append(contentsOf: EventNames.putEntityID)
        text.append(contentsOf: bytes[try self.text(members.entityID, "entity_id", EventLimits.entityIDBytesMax)])
        text.append(contentsOf: EventNames.putEntityType)
        text.append(contentsOf: bytes[try self.text(members.entityType, "entity_type", EventLimits.entityTypeBytesMax)])
        if let occurredAt = self.present(members.occurredAt) {
            text.append(contentsOf: EventNames.putOccurredAt)
            try self.appendTime(occurredAt, to: &text)
        }
        text.append(contentsOf: EventNames.putOrganization)
        if let organization = self.present(members.organization) {
            guard bytes[organization].elementsEqual(self.context.organizationText) else {
                throw EventError(
                    .organizationMismatch,
                    "the event names another organization than the one it is sent to",
                    member: "/organization"
                )
            }
        }
        text.append(contentsOf: self.context.organizationText)
        text.append(contentsOf: EventNames.putOutcome)
        text.append(contentsOf: try self.word(members.outcome, "outcome", EventNames.outcomes))
        if let personal = self.present(members.personal) {
            text.append(contentsOf: EventNames.putPersonal)
            text.append(contentsOf: bytes[personal])
        }
        let previousPlace = text.count
        if let reason = self.present(members.reason) {
            _ = try self.text(reason, "reason", EventLimits.reasonBytesMax)
            text.append(contentsOf: EventNames.putReason)
            text.append(contentsOf: bytes[reason])
        }
        let recordedAtPlace = text.count
        text.append(contentsOf: self.context.requestFragment)
        let sequencePlace = text.count
        try self.append(link: members.session, "session", EventNames.putSession, to: &text)
        text.append(contentsOf: EventNames.putSeverity)
        text.append(contentsOf: try self.word(members.severity, "severity", EventNames.severities))
        text.append(UInt8(ascii: "}"))
        guard text.count + EventDraft.addedBytesMax <= EventLimits.recordBytesMax else {
            throw EventError(.recordTooLarge, "the record would be longer than \(EventLimits.recordBytesMax) bytes")
        }
        return EventDraft(
            text: text[...],
            previousPlace: previousPlace,
            recordedAtPlace: recordedAtPlace,
            sequencePlace: sequencePlace
        )
    }

    /// Null counts as absent for members that may be absent.
    private func present(_ range: Range<Int>?) -> Range<Int>? {
        guard let range, self.canonicalizer.output[range.lowerBound] != UInt8(ascii: "n") else { return nil }
        return range
    }

    private func append(_ range: Range<Int>?, to text: inout [UInt8]) {
        if let range {
            text.append(contentsOf: self.canonicalizer.output[range])
        } else {
            text.append(contentsOf: EventNames.null)
        }
    }

    /// Appends a text that connects records, if the event has it.
    private func append(
        link range: Range<Int>?,
        _ member: String,
        _ name: [UInt8],
        to text: inout [UInt8]
    ) throws(EventError) {
        guard let range = self.present(range) else { return }
        let value = try self.text(range, member, EventLimits.linkBytesMax)
        text.append(contentsOf: name)
        text.append(contentsOf: self.canonicalizer.output[value])
    }

    // MARK: What changed

    /// Appends the places at which `before` and `after` differ, when both are objects and any does.
    private func appendChanged(_ members: Members, to text: inout [UInt8]) {
        guard let before = members.before, let after = members.after else { return }
        let bytes = self.canonicalizer.output
        guard bytes[before.lowerBound] == UInt8(ascii: "{"), bytes[after.lowerBound] == UInt8(ascii: "{") else {
            return
        }
        for depth in [Self.changedDepthMax, 1] {
            var places: [[UInt8]] = []
            self.compare(before, after, path: [], depth: depth, into: &places)
            if places.isEmpty { return }
            guard places.count <= EventLimits.changedMax else { continue }
            text.append(contentsOf: EventNames.putChanged)
            for (offset, place) in places.enumerated() {
                if offset > 0 { text.append(UInt8(ascii: ",")) }
                JSONText.appendQuoted(place[...], to: &text)
            }
            text.append(UInt8(ascii: "]"))
            return
        }
    }

    /// Objects within objects are looked into this deep.
    private static let changedDepthMax = 8

    /// Adds the JSON Pointers at which two objects differ, in canonical order.
    private func compare(
        _ before: Range<Int>,
        _ after: Range<Int>,
        path: [UInt8],
        depth: Int,
        into places: inout [[UInt8]]
    ) {
        let bytes = self.canonicalizer.output
        if bytes[before].elementsEqual(bytes[after]) { return }
        var left = self.members(of: before)[...]
        var right = self.members(of: after)[...]
        while places.count <= EventLimits.changedMax {
            guard let first = left.first ?? right.first else { return }
            var order = 0
            if let old = left.first, let new = right.first, bytes[old.key].elementsEqual(bytes[new.key]) {
                // Canonical texts are equal when what they mean is.
                if bytes[old.value].elementsEqual(bytes[new.value]) {
                    left.removeFirst()
                    right.removeFirst()
                    continue
                }
            } else if let old = left.first, let new = right.first {
                let (oldKey, newKey) = (JSONText.unescaped(bytes, old.key), JSONText.unescaped(bytes, new.key))
                order = JSONText.compareUTF16(oldKey, 0..<oldKey.count, newKey, 0..<newKey.count)
            } else {
                order = left.isEmpty ? 1 : -1
            }
            let key = order > 0 ? right.first?.key ?? first.key : left.first?.key ?? first.key
            var place = path
            place.append(UInt8(ascii: "/"))
            JSONPointer.append(JSONText.unescaped(bytes, key), to: &place)
            if order == 0, let old = left.popFirst(), let new = right.popFirst() {
                let isNested =
                    depth > 1 && bytes[old.value.lowerBound] == UInt8(ascii: "{")
                    && bytes[new.value.lowerBound] == UInt8(ascii: "{")
                if isNested {
                    self.compare(old.value, new.value, path: place, depth: depth - 1, into: &places)
                } else if !bytes[old.value].elementsEqual(bytes[new.value]) {
                    places.append(place)
                }
            } else {
                if order > 0 { right.removeFirst() } else { left.removeFirst() }
                places.append(place)
            }
        }
    }

    /// Checks that a member is there and is a text within its limit.
    private func text(_ range: Range<Int>?, _ member: String, _ bytesMax: Int) throws(EventError) -> Range<Int> {
        guard let range else { throw EventError(.missingMember, "this member is needed", member: "/\(member)") }
        guard self.canonicalizer.output[range.lowerBound] == JSONText.quote else {
            throw EventError(.wrongType, "a string is wanted here", member: "/\(member)")
        }
        guard range.count > 2 else { throw EventError(.emptyText, "this text must not be empty", member: "/\(member)") }
        if range.count - 2 > bytesMax {
            guard JSONText.unescapedCount(self.canonicalizer.output, range) <= bytesMax else {
                throw EventError(.textTooLong, "the text is longer than \(bytesMax) bytes", member: "/\(member)")
            }
        }
        return range
    }

    /// The quoted word of a member that takes one of a few; the first of `words` when it is absent.
    private func word(_ range: Range<Int>?, _ member: String, _ words: [[UInt8]]) throws(EventError) -> [UInt8] {
        guard let range = self.present(range) else { return words[0] }
        let given = self.canonicalizer.output[range]
        for word in words where given.elementsEqual(word) { return word }
        guard given.first == JSONText.quote else {
            throw EventError(.wrongType, "a string is wanted here", member: "/\(member)")
        }
        let known = words.map { String(decoding: $0.dropFirst().dropLast(), as: UTF8.self) }.joined(separator: ", ")
        throw EventError(.valueNotAllowed, "this is none of: \(known)", member: "/\(member)")
    }

    private func appendTime(_ range: Range<Int>, to text: inout [UInt8]) throws(EventError) {
        guard self.canonicalizer.output[range.lowerBound] == JSONText.quote else {
            throw EventError(.wrongType, "a string is wanted here", member: "/occurred_at")
        }
        let inner = range.lowerBound + 1..<range.upperBound - 1
        guard inner.count <= EventNames.timeBytesMax,
            let time = RecordTime.parse(self.canonicalizer.output, inner) ?? Timestamp(self.canonicalizer.output[inner])
        else {
            throw EventError(.valueNotAllowed, "this is not a date and time of RFC 3339", member: "/occurred_at")
        }
        text.append(JSONText.quote)
        time.appendText(to: &text)
        text.append(JSONText.quote)
    }

    // MARK: Actor

    private func appendActor(_ range: Range<Int>?, to text: inout [UInt8]) throws(EventError) {
        guard let range = self.present(range) else {
            guard let standing = self.context.defaultActorText else {
                throw EventError(.missingMember, "this member is needed", member: "/actor")
            }
            text.append(contentsOf: standing)
            return
        }
        let bytes = self.canonicalizer.output
        switch bytes[range.lowerBound] {
        case JSONText.quote:
            text.append(contentsOf: EventNames.openID)
            text.append(contentsOf: bytes[try self.text(range, "actor", EventLimits.actorIDBytesMax)])
            text.append(contentsOf: EventNames.putUserKind)
        case UInt8(ascii: "{"): try self.appendActor(object: range, to: &text)
        default: throw EventError(.wrongType, "a string or an object is wanted here", member: "/actor")
        }
    }

    private func appendActor(object range: Range<Int>, to text: inout [UInt8]) throws(EventError) {
        let bytes = self.canonicalizer.output
        var id: Range<Int>?
        var kind: Range<Int>?
        var rest: [(name: [UInt8], value: Range<Int>)] = []
        for (key, value) in self.members(of: range) {
            switch bytes[key.lowerBound + 1..<key.upperBound - 1] {
            case EventNames.id: id = value
            case EventNames.kind: kind = value
            case EventNames.name: rest.append((EventNames.putName, try self.actorText(value, "name")))
            case EventNames.onBehalfOf:
                rest.append((EventNames.putOnBehalfOf, try self.actorText(value, "on_behalf_of")))
            case EventNames.role: rest.append((EventNames.putRole, try self.actorText(value, "role")))
            default:
                throw EventError(
                    .unknownMember,
                    "an actor has no such member",
                    member: JSONPointer.child(of: "/actor", JSONText.unescaped(bytes, key))
                )
            }
        }
        text.append(contentsOf: EventNames.openID)
        text.append(contentsOf: bytes[try self.text(id, "actor/id", EventLimits.actorIDBytesMax)])
        text.append(contentsOf: EventNames.putKind)
        text.append(contentsOf: try self.word(kind, "actor/kind", EventNames.kinds))
        for (name, value) in rest where self.present(value) != nil {
            text.append(contentsOf: name)
            text.append(contentsOf: bytes[value])
        }
        text.append(UInt8(ascii: "}"))
    }

    private func actorText(_ range: Range<Int>, _ member: String) throws(EventError) -> Range<Int> {
        guard self.present(range) != nil else { return range }
        return try self.text(range, "actor/\(member)", EventLimits.actorTextBytesMax)
    }

    /// The members of an object in the canonical text, in its order.
    private func members(of range: Range<Int>) -> [(key: Range<Int>, value: Range<Int>)] {
        var found: [(key: Range<Int>, value: Range<Int>)] = []
        var scanner = CanonicalScanner(self.canonicalizer.output, range: range)
        guard scanner.take(UInt8(ascii: "{")), !scanner.take(UInt8(ascii: "}")) else { return found }
        repeat {
            let keyStart = scanner.next
            guard (try? scanner.string()) != nil else { return found }
            let key = keyStart..<scanner.next
            guard scanner.take(UInt8(ascii: ":")) else { return found }
            let valueStart = scanner.next
            guard (try? scanner.value()) != nil else { return found }
            found.append((key, valueStart..<scanner.next))
        } while scanner.take(UInt8(ascii: ","))
        return found
    }
}
