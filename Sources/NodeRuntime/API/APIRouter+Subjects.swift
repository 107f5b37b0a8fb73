internal import AuditLedger
internal import HTTPTypes
internal import Laboratory
internal import NIOCore
internal import Primitives
internal import Shards
internal import Transport

/// Personal data: sealing what is appended, revealing it, data subjects, holds and erasures.
extension APIRouter {
    private static let subjectsDefault = 100
    private static let basisBytesMax = 200

    /// The plan of `/v1/organizations/KEY/subjects/…`.
    func subjectPlan(_ request: APICall, _ segments: [String]) throws(Problem) -> RoutePlan {
        let key = segments[2]
        switch segments.count {
        case 4: return try self.only(.get, request) { request, _ in try await self.listSubjects(request, key) }
        case 5:
            let subject = segments[4]
            return try self.only(.get, request) { request, _ in try await self.readSubject(request, key, subject) }
        case 6 where segments[5] == "erase":
            let subject = segments[4]
            return try self.only(.post, request) { request, body in
                try await self.eraseSubject(request, key, subject, body)
            }
        case 6 where segments[5] == "hold":
            let subject = segments[4]
            return try self.only(.post, request) { request, body in
                try await self.holdSubject(request, key, subject, body)
            }
        default: throw Problem(.notFound, "there is no such route")
        }
    }

    // MARK: Sealing

    /// Seals personal values of an append, each under the key of its data subject.
    /// - Parameter mayReplay: Whether the request may have been done before: then it is answered as it was, also when
    ///   one of its data subjects was erased since.
    func seal(
        _ personal: [(event: Int, value: PersonalValue)],
        in entry: OrganizationEntry,
        mayReplay: Bool
    ) async throws -> [SealedValue] {
        guard !personal.isEmpty else { return [] }
        let subjects = Set(personal.map(\.value.field.subject)).sorted()
        var keys: [String: SubjectKey] = [:]
        do {
            keys = try await self.subjects.sealingKeys(of: subjects, in: entry)
        } catch let problem as Problem where problem.code == .subjectErased && mayReplay {
            // Applying finds the answer that the request got, or refuses it; nothing is ever stored under this key.
            let key = SubjectKey.make()
            for subject in subjects { keys[subject] = key }
        }
        return try personal.map { event, value in
            guard let key = keys[value.field.subject], let name = SubjectKeyName(hex: key.fingerprint) else {
                throw Problem(.internal, "a data subject has no key")
            }
            return SealedValue(
                draft: UInt32(event),
                path: value.field.path,
                subject: value.field.subject,
                key: name,
                bytes: key.seal(value)
            )
        }
    }

    // MARK: Revealing

    /// A record with its personal members opened; that somebody saw them is recorded before they are shown.
    func revealRecord(
        _ bytes: [UInt8],
        _ sequence: SequenceNumber,
        of entry: OrganizationEntry,
        for request: APICall
    ) async throws -> ServerResponse {
        let revealed = try await self.subjects.reveal(sequence, of: entry)
        let seen = Set(revealed.filter { $0.opened != nil }.map(\.subject)).sorted()
        if !seen.isEmpty { try await self.recordReading(of: seen, at: sequence, of: entry, for: request) }
        var json = JSONOutput(capacity: bytes.count + 512)
        json.beginObject()
        json.member("record", raw: bytes)
        json.member("checksum", LedgerHash.leaf(bytes))
        json.beginArray("opened")
        for field in revealed {
            var element = JSONOutput()
            element.beginObject()
            element.member("path", field.path)
            element.member("subject", field.subject)
            if let (value, salt) = field.opened {
                element.member("value", raw: value)
                element.member("salt", Hex.encode(salt))
            } else if let erasedAt = field.erasedAt {
                element.member("erased", "see record \(erasedAt)")
                element.member("erased_sequence", erasedAt.rawValue)
            } else {
                element.member("unavailable", true)
            }
            element.endObject()
            json.element(raw: element.bytes)
        }
        json.endArray()
        json.endObject()
        return Self.json(.ok, json)
    }

    private func recordReading(
        of subjects: [String],
        at sequence: SequenceNumber,
        of entry: OrganizationEntry,
        for request: APICall
    ) async throws {
        let members = [
            JSONMember("action", .text("read_sensitive")), JSONMember("entity_type", .text("record")),
            JSONMember("entity_id", .text("\(sequence)")),
            JSONMember("after", .object([JSONMember("subjects", .array(subjects.map { .text($0) }))])),
        ]
        let draft = try EventDraft.parse(
            CanonicalJSON.encode(.object(members)),
            defaults: self.context(entry, request)
        )
        let command = AppendCommand(organization: entry.id, idempotency: nil, drafts: [draft])
        // Recorded twice does less harm than not at all.
        let result = try await self.gateway.submit(.append(command), to: entry.group, mayRepeat: true)
        if case .refused(let refusal) = result { throw Problem(refusal: refusal) }
    }

    // MARK: Data subjects

    private static func checked(_ subject: String) throws(Problem) -> String {
        guard (1...PersonalLimits.subjectBytesMax).contains(subject.utf8.count) else {
            throw Problem(.invalidParameter, "a data subject has 1 to \(PersonalLimits.subjectBytesMax) bytes")
        }
        return subject
    }

    private func listSubjects(_ request: APICall, _ key: String) async throws -> ServerResponse {
        let entry = try await self.organization(key, for: request, .readSensitive)
        try request.requireOnly(parameters: ["limit", "after"])
        let limit =
            try RecordSearch.number("limit", request, 1...UInt64(SubjectState.pageMax)).map { Int($0) }
            ?? Self.subjectsDefault
        let after = try request.parameter("after").map { (text) throws(Problem) in
            SubjectEntry.digest(of: try Self.checked(text))
        }
        let found = try await self.subjects.subjects(of: entry, after: after, limit: limit + 1)
        self.access.read(.subjects, of: entry.key, by: request)
        var json = JSONOutput(capacity: 4096)
        json.beginObject()
        json.beginArray("subjects")
        for subject in found.prefix(limit) {
            var element = JSONOutput()
            Self.write(subject, to: &element)
            json.element(raw: element.bytes)
        }
        json.endArray()
        json.member("next", found.count > limit ? found[limit - 1].subject : nil)
        json.endObject()
        return Self.json(.ok, json)
    }

    private func readSubject(_ request: APICall, _ key: String, _ subject: String) async throws -> ServerResponse {
        let entry = try await self.organization(key, for: request, .readSensitive)
        try request.requireOnly(parameters: [])
        let digest = SubjectEntry.digest(of: try Self.checked(subject))
        guard let found = try await self.subjects.subjects(of: entry, only: digest, limit: 1).first else {
            throw Problem(refusal: .subjectUnknown)
        }
        self.access.read(.subjects, of: entry.key, by: request)
        var json = JSONOutput()
        Self.write(found, to: &json)
        return Self.json(.ok, json)
    }

    private static func write(_ subject: SubjectState, to json: inout JSONOutput) {
        json.beginObject()
        json.member("subject", subject.subject)
        json.member("state", subject.completedAt != nil ? "erased" : subject.erasedAt != nil ? "erasing" : "present")
        json.member("held", subject.isHeld)
        json.member("values", subject.values)
        json.beginArray("keys")
        for key in subject.keys { json.element(key.description) }
        json.endArray()
        json.member("erase_requested", subject.erasedAt)
        json.member("erase_completed", subject.completedAt)
        json.endObject()
    }

    private func eraseSubject(
        _ request: APICall,
        _ key: String,
        _ subject: String,
        _ body: ByteBuffer
    ) async throws -> ServerResponse {
        let entry = try await self.organization(key, for: request, .manageSubjects)
        try request.requireOnly(parameters: [])
        let object = try self.object(body, of: request, keys: ["basis", "reason"])
        let basis = try object.string("basis")
        guard (1...Self.basisBytesMax).contains(basis.utf8.count) else {
            throw Problem(
                .invalidField,
                "basis has 1 to \(Self.basisBytesMax) bytes: on what right the erasure stands",
                members: [.text("pointer", "/basis")]
            )
        }
        let command = EraseSubjectCommand(
            organization: entry.id,
            organizationKey: entry.key,
            subject: try Self.checked(subject),
            basis: basis,
            reason: try Self.reason(object)
        )
        let receipt = try await self.change(.eraseSubject(command), of: entry, mayRepeat: false, for: request)
        return Self.response(subject, "erasing", receipt)
    }

    private func holdSubject(
        _ request: APICall,
        _ key: String,
        _ subject: String,
        _ body: ByteBuffer
    ) async throws -> ServerResponse {
        let entry = try await self.organization(key, for: request, .manageSubjects)
        try request.requireOnly(parameters: [])
        let object = try self.object(body, of: request, keys: ["held", "reason"])
        let isOn = try object.bool("held")
        let command = HoldSubjectCommand(
            organization: entry.id,
            organizationKey: entry.key,
            subject: try Self.checked(subject),
            isOn: isOn,
            reason: try Self.reason(object)
        )
        let receipt = try await self.change(.holdSubject(command), of: entry, mayRepeat: true, for: request)
        return Self.response(subject, isOn ? "held" : "released", receipt)
    }

    private static func reason(_ object: JSONPlace) throws -> String? {
        guard let reason = try object.optionalString("reason") else { return nil }
        guard (1...EventLimits.reasonBytesMax).contains(reason.utf8.count) else {
            throw Problem(
                .invalidField,
                "a reason has 1 to \(EventLimits.reasonBytesMax) bytes",
                members: [.text("pointer", "/reason")]
            )
        }
        return reason
    }

    /// Has a command about a data subject applied.
    /// - Returns: Where its record stands; nil when nothing had to be changed.
    private func change(
        _ command: Command,
        of entry: OrganizationEntry,
        mayRepeat: Bool,
        for request: APICall
    ) async throws -> AppendReceipt? {
        let result = try await self.gateway.submit(
            command,
            to: entry.group,
            mayRepeat: mayRepeat,
            origin: request.origin
        )
        switch result {
        case .appended(let receipt): return receipt
        case .done: return nil
        case .refused(let refusal): throw Problem(refusal: refusal)
        default: throw Problem(refusal: .malformed)
        }
    }

    private static func response(_ subject: String, _ state: String, _ receipt: AppendReceipt?) -> ServerResponse {
        var json = JSONOutput()
        json.beginObject()
        json.member("subject", subject)
        json.member("state", state)
        json.member("sequence", receipt?.firstSequence.rawValue)
        json.endObject()
        return self.json(.accepted, json)
    }
}
