internal import Foundation

/// What the API says when it refuses (RFC 9457).
package struct ProblemDetails: Sendable, Equatable, Decodable, CustomStringConvertible {
    /// The largest problem that is read, in bytes.
    static let bytesMax = 64 * 1024

    package var status: Int
    package var code: String
    package var detail: String?
    package var title: String?
    package var requestID: String?
    package var line: Int?

    private enum CodingKeys: String, CodingKey {
        case status, code, detail, title, line
        case requestID = "request_id"
    }

    /// Reads the body of an answer with `status`; anything that is no problem document becomes one that says so.
    package init(status: Int, body: some Collection<UInt8>, requestID: String?) {
        if let decoded = try? JSONDecoder().decode(ProblemDetails.self, from: Data(body)) {
            self = decoded
        } else {
            self.status = status
            self.code = "http_\(status)"
            self.detail = "the answer has status \(status) and is no problem document"
        }
        self.requestID = self.requestID ?? requestID
    }

    /// `code: detail (request_id …)`, safe for a terminal.
    package var description: String {
        let text = "\(self.code): \(self.detail ?? self.title ?? "no detail")"
        return TextTable.printable(text) + (self.requestID.map { " (request_id \(TextTable.printable($0)))" } ?? "")
    }
}
