internal import HTTPTypes
internal import NIOHTTP1

/// The request that an HTTP/1.1 head says, nil when RFC 9112 asks for a 400.
func convertedRequest(_ head: HTTPRequestHead) -> HTTPRequest? {
    guard let method = HTTPRequest.Method(rawValue: head.method.rawValue), method != .connect else { return nil }
    let hosts = head.headers["host"]
    // Exactly one Host in HTTP/1.1 (RFC 9112, section 3.2).
    guard hosts.count == 1 || (hosts.isEmpty && head.version == .http1_0) else { return nil }
    var authority = hosts.first
    var path = head.uri
    if !path.hasPrefix("/") && path != "*" {
        // The absolute form (RFC 9112, section 3.2.2).
        guard let schemeEnd = path.firstRange(of: "://"), !path[..<schemeEnd.lowerBound].contains("/") else {
            return nil
        }
        let rest = path[schemeEnd.upperBound...]
        let pathStart = rest.firstIndex { $0 == "/" || $0 == "?" } ?? rest.endIndex
        authority = String(rest[..<pathStart])
        path = rest[pathStart...].hasPrefix("/") ? String(rest[pathStart...]) : "/" + rest[pathStart...]
    }
    guard let fields = convertedFields(head.headers, leavingOut: "host") else { return nil }
    return HTTPRequest(method: method, scheme: "https", authority: authority, path: path, headerFields: fields)
}

/// The fields of HTTP/1.1 headers, nil when a name is not a token.
func convertedFields(_ headers: HTTPHeaders, leavingOut leftOut: String? = nil) -> HTTPFields? {
    var fields = HTTPFields()
    fields.reserveCapacity(headers.count)
    for (name, value) in headers {
        guard let name = HTTPField.Name(name) else { return nil }
        if name.canonicalName != leftOut { fields.append(HTTPField(name: name, value: value)) }
    }
    return fields
}

/// HTTP/1.1 headers of the fields.
func convertedHeaders(_ fields: HTTPFields) -> HTTPHeaders {
    HTTPHeaders(fields.map { ($0.name.rawName, $0.value) })
}
