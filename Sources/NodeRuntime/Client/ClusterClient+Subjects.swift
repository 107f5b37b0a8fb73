internal import Foundation
internal import HTTPTypes
internal import NIOCore

/// A data subject as the API shows it.
package struct SubjectView: Sendable, Decodable, Equatable {
    package var subject: String
    /// `present`, `erasing` or `erased`.
    package var state: String
    package var held: Bool
    package var values: UInt64
    package var keys: [String]
    package var eraseRequested: UInt64?
    package var eraseCompleted: UInt64?
}

/// What a change of a data subject left.
package struct SubjectChangeView: Sendable, Decodable, Equatable {
    package var subject: String
    package var state: String
    /// The record; nil when nothing had to be changed.
    package var sequence: UInt64?
}

/// Data subjects.
extension ClusterClient {
    private struct Page: Decodable {
        var subjects: [SubjectView]
        var next: String?
    }

    /// Between two questions whether an erasure is complete.
    private static let erasedPause = Duration.milliseconds(200)
    private static let subjectsPage = 500

    /// Gives every data subject of an organization, as JSON and decoded.
    package func subjects(
        _ organization: String,
        _ body: (_ json: [UInt8], _ view: SubjectView) throws -> Void
    ) async throws {
        var after: String?
        repeat {
            var parameters = [("limit", String(Self.subjectsPage))]
            if let after { parameters.append(("after", after)) }
            let bytes = try await self.organizationResource(organization, path: ["subjects"], parameters: parameters)
            let page = try Self.decode(Page.self, from: bytes)
            for subject in page.subjects { try body(Self.json(subject), subject) }
            after = page.next
        } while after != nil
    }

    private static func json(_ subject: SubjectView) -> [UInt8] {
        var json = JSONOutput()
        json.beginObject()
        json.member("subject", subject.subject)
        json.member("state", subject.state)
        json.member("held", subject.held)
        json.member("values", subject.values)
        json.beginArray("keys")
        for key in subject.keys { json.element(key) }
        json.endArray()
        json.member("erase_requested", subject.eraseRequested)
        json.member("erase_completed", subject.eraseCompleted)
        json.endObject()
        return json.bytes
    }

    /// One data subject.
    package func subject(_ organization: String, subject: String) async throws -> SubjectView {
        let bytes = try await self.organizationResource(organization, path: ["subjects", subject], parameters: [])
        return try Self.decode(SubjectView.self, from: bytes)
    }

    /// Asks for the erasure of a data subject.
    package func eraseSubject(
        _ organization: String,
        subject: String,
        basis: String,
        reason: String?
    ) async throws -> SubjectChangeView {
        var body = "{\"basis\":\(JSONText.quoted(basis))"
        if let reason { body += ",\"reason\":\(JSONText.quoted(reason))" }
        return try await self.change(organization, subject, "erase", body + "}", mayRepeat: false)
    }

    /// Waits until every replica has destroyed the keys of an erased data subject.
    /// - Returns: The record that says so; nil when it did not come in time.
    package func erased(_ organization: String, subject: String, within limit: Duration) async throws -> UInt64? {
        let deadline = NodeClock.monotonic.now.advanced(by: limit)
        repeat {
            if let done = try await self.subject(organization, subject: subject).eraseCompleted { return done }
            try await Task.sleep(for: Self.erasedPause)
        } while NodeClock.monotonic.now < deadline
        return nil
    }

    /// Sets or lifts a hold on a data subject.
    package func holdSubject(
        _ organization: String,
        subject: String,
        isOn: Bool,
        reason: String?
    ) async throws -> SubjectChangeView {
        var body = "{\"held\":\(isOn)"
        if let reason { body += ",\"reason\":\(JSONText.quoted(reason))" }
        return try await self.change(organization, subject, "hold", body + "}", mayRepeat: true)
    }

    private func change(
        _ organization: String,
        _ subject: String,
        _ verb: String,
        _ body: String,
        mayRepeat: Bool
    ) async throws -> SubjectChangeView {
        let parts = ["", "v1", "organizations", organization, "subjects", subject, verb]
        let target = parts.map { APIRequest.encoded($0) }.joined(separator: "/")
        var request = APIRequest(.post, target, body: ByteBuffer(string: body))
        request.isReadOnly = mayRepeat
        return try Self.decode(SubjectChangeView.self, from: try await self.send(request).bytes)
    }
}
