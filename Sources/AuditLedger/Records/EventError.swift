/// Why an event is not accepted as a record, naming the member.
package struct EventError: Error, Sendable, Hashable, CustomStringConvertible {
    /// The kind of fault; the raw value is a stable name for API errors.
    package enum Code: String, Sendable, CaseIterable {
        /// Not strict JSON; see ``EventError/json``.
        case malformedJSON = "malformed_json"
        /// The text is not a JSON object.
        case notAnObject = "not_an_object"
        case unknownMember = "unknown_member"
        case missingMember = "missing_member"
        case wrongType = "wrong_type"
        /// Text that must not be empty.
        case emptyText = "empty_text"
        /// Text longer than its limit, in UTF-8 bytes.
        case textTooLong = "text_too_long"
        /// A value outside a closed set, or a time that RFC 3339 does not know.
        case valueNotAllowed = "value_not_allowed"
        /// The event names another organization than the one it is sent to.
        case organizationMismatch = "organization_mismatch"
        /// The record would have more than ``EventLimits/recordBytesMax`` bytes.
        case recordTooLarge = "record_too_large"
        /// A batch without an event.
        case emptyBatch = "empty_batch"
        /// More events or bytes than a batch may have.
        case batchTooLarge = "batch_too_large"
    }

    package let code: Code
    /// One sentence for people; names no values.
    package let message: String
    /// JSON Pointer to the member within the event; empty for the whole event.
    package let member: String
    /// The fault of the text, when `code` is ``Code/malformedJSON``.
    package let json: JSONError?
    /// Line of the batch, from 1; nil outside a batch or when the whole batch is meant.
    package let line: Int?

    package init(_ code: Code, _ message: String, member: String = "", json: JSONError? = nil, line: Int? = nil) {
        self.code = code
        self.message = message
        self.member = member
        self.json = json
        self.line = line
    }

    init(json: JSONError) {
        self.init(.malformedJSON, json.message, member: json.path, json: json)
    }

    /// The same error at a line of a batch.
    package func at(line: Int) -> EventError {
        EventError(self.code, self.message, member: self.member, json: self.json, line: line)
    }

    package var description: String {
        var text = self.line.map { "line \($0): " } ?? ""
        if !self.member.isEmpty { text += "\(self.member): " }
        text += self.message
        if let json = self.json, json.column > 0 { text += " (column \(json.column))" }
        return text
    }
}

/// Bounds on one event and on a batch; texts are counted in UTF-8 bytes.
package enum EventLimits {
    package static let actionBytesMax = 128
    package static let entityTypeBytesMax = 128
    package static let entityIDBytesMax = 512
    package static let actorIDBytesMax = 256
    /// Of an actor's `name`, `role` and `on_behalf_of`.
    package static let actorTextBytesMax = 256
    package static let reasonBytesMax = 4096
    /// Of a request's `id`, `ip` and `authentication`.
    package static let requestTextBytesMax = 128
    package static let userAgentBytesMax = 256
    /// Of an event's `causation`, `correlation` and `session`.
    package static let linkBytesMax = 200
    /// Places in a record's `changed`; when more differ, only members of the first level are named.
    package static let changedMax = 64
    /// The longest record: below the 65,535 bytes that C2SP tiles can hold of an entry.
    package static let recordBytesMax = 60_000
    /// The longest line of an event, before it is put in canonical form.
    package static let eventBytesMax = 128 << 10
    package static let batchRecordsMax = 1_000
    package static let batchBytesMax = 4 << 20
}
