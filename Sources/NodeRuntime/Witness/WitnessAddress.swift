/// Where a witness takes checkpoints: `https://host[:port][/path]`, or `http://` on the machine itself.
package struct WitnessAddress: Sendable, Hashable, CustomStringConvertible {
    package let isEncrypted: Bool
    package let host: String
    package let port: Int
    /// Without a slash at its end.
    package let path: String

    /// Reads a URL without user, query and fragment.
    package init?(_ text: String) {
        let rest: Substring
        if text.hasPrefix("https://") {
            self.isEncrypted = true
            rest = text.dropFirst("https://".count)
        } else if text.hasPrefix("http://") {
            self.isEncrypted = false
            rest = text.dropFirst("http://".count)
        } else {
            return nil
        }
        guard text.utf8.count <= 1024, text.utf8.allSatisfy({ (0x21...0x7E).contains($0) }),
            !text.contains(where: { "?#@\\".contains($0) })
        else { return nil }
        let end = rest.firstIndex(of: "/") ?? rest.endIndex
        let authority = String(rest[..<end])
        let standard = self.isEncrypted ? 443 : 80
        guard
            let address = NodeConfiguration.HostPort(authority)
                ?? NodeConfiguration.HostPort("\(authority):\(standard)")
        else { return nil }
        self.host = address.host
        self.port = address.port
        var path = String(rest[end...])
        while path.hasSuffix("/") { path.removeLast() }
        self.path = path
        // A key of the network must not be believed about itself in clear text.
        guard self.isEncrypted || ["127.0.0.1", "::1", "localhost"].contains(self.host) else { return nil }
    }

    package var description: String {
        let host = self.host.contains(":") ? "[\(self.host)]" : self.host
        return "\(self.isEncrypted ? "https" : "http")://\(host):\(self.port)\(self.path)"
    }
}
