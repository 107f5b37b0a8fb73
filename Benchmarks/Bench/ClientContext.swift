internal import Foundation

/// How to reach a cluster, as `ftnode dev` writes it: addresses, CA and token.
struct ClientContext: Sendable {
    var endpoints: [Endpoint]
    var caFile: String
    var token: String

    /// Reads the few lines of a `client.yaml`; a path in it is relative to its folder.
    init(file: String) throws {
        let text: String
        do {
            text = try String(contentsOfFile: file, encoding: .utf8)
        } catch {
            throw BenchError(.badInput, "cannot read \(file)", cause: error)
        }
        var addresses: [String] = []
        var values: [String: String] = [:]
        var section = ""
        for line in text.split(separator: "\n") where !line.hasPrefix("#") {
            let trimmed = line.trimmingCharacters(in: .whitespaces)
            if trimmed.hasPrefix("- ") {
                if section == "addresses" { addresses.append(Self.unquoted(trimmed.dropFirst(2))) }
                continue
            }
            guard let colon = trimmed.firstIndex(of: ":") else { continue }
            section = String(trimmed[..<colon])
            let value = Self.unquoted(trimmed[trimmed.index(after: colon)...])
            if section == "addresses", value.hasPrefix("[") {
                addresses = value.dropFirst().dropLast().split(separator: ",").map { Self.unquoted($0) }
            } else {
                values[section] = value
            }
        }
        guard !addresses.isEmpty, let ca = values["ca"], let token = values["token"] else {
            throw BenchError(.badInput, "\(file) must name addresses, ca and token")
        }
        let folder = URL(fileURLWithPath: file).deletingLastPathComponent()
        self.endpoints = try addresses.map { try Endpoint($0) }
        self.caFile = ca.hasPrefix("/") ? ca : folder.appendingPathComponent(ca).path
        self.token = token
    }

    private static func unquoted(_ text: some StringProtocol) -> String {
        text.trimmingCharacters(in: CharacterSet(charactersIn: " \"'\r"))
    }
}
