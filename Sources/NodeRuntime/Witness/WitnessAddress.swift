/// Where a witness takes checkpoints: `https://host[:port][/path]`.
package struct WitnessAddress: Sendable, Hashable, CustomStringConvertible {
    private static let scheme = "https://"
    private static let standardPort = 443
    private static let bytesMax = 1024

    package let host: String
    package let port: Int
    /// Without a slash at its end.
    package let path: String

    /// Reads a URL without user, query and fragment.
    package init?(_ text: String) {
        guard text.hasPrefix(Self.scheme), text.utf8.count <= Self.bytesMax,
            text.utf8.allSatisfy({ (0x21...0x7E).contains($0) }), !text.contains(where: { "?#@\\".contains($0) })
        else { return nil }
        let rest = text.dropFirst(Self.scheme.count)
        let end = rest.firstIndex(of: "/") ?? rest.endIndex
        let authority = String(rest[..<end])
        guard
            let address = NodeConfiguration.HostPort(authority)
                ?? NodeConfiguration.HostPort("\(authority):\(Self.standardPort)")
        else { return nil }
        self.host = address.host
        self.port = address.port
        var path = String(rest[end...])
        while path.hasSuffix("/") { path.removeLast() }
        self.path = path
    }

    package var description: String {
        Self.scheme + NodeConfiguration.HostPort(host: self.host, port: self.port).description + self.path
    }
}
