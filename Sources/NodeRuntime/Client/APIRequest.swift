package import HTTPTypes
package import NIOCore

/// One request to the API, before an address is chosen for it.
package struct APIRequest: Sendable {
    package var method: HTTPRequest.Method
    /// Path and query, already encoded.
    package var path: String
    package var body: ByteBuffer?
    package var contentType = "application/json"
    package var idempotencyKey: String?
    /// True when acting twice does no harm although there is no idempotency key: queries, verifications.
    package var isReadOnly = false
    /// For one try, the response's body included; nil for none.
    package var timeout: Duration? = .seconds(30)
    /// Tries begin within this time of the first.
    package var budget: Duration = .seconds(5)

    package init(_ method: HTTPRequest.Method, _ path: String, body: ByteBuffer? = nil) {
        self.method = method
        self.path = path
        self.body = body
    }

    var mayRepeat: Bool {
        self.isReadOnly || self.idempotencyKey != nil || self.method == .get || self.method == .delete
    }

    /// `path` and `items` as a request target; values are percent-encoded (RFC 3986).
    package static func target(_ path: String, _ items: [(String, String)]) -> String {
        guard !items.isEmpty else { return path }
        return path + "?" + items.map { "\($0.0)=\(self.encoded($0.1))" }.joined(separator: "&")
    }

    /// `text` with everything but unreserved characters percent-encoded.
    package static func encoded(_ text: String) -> String {
        var result: [UInt8] = []
        let digits = Array("0123456789ABCDEF".utf8)
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"),
                UInt8(ascii: "~"):
                result.append(byte)
            default: result += [UInt8(ascii: "%"), digits[Int(byte >> 4)], digits[Int(byte & 0x0F)]]
            }
        }
        return String(decoding: result, as: UTF8.self)
    }
}

extension HTTPField.Name {
    /// Headers of the API that swift-http-types does not name.
    enum API {
        static let idempotencyKey = HTTPField.Name("idempotency-key")
        static let idempotencyReplayed = HTTPField.Name("idempotency-replayed")
        static let requestID = HTTPField.Name("request-id")
    }
}
