internal import Foundation
internal import Yams

/// Which cluster a command talks to, and as whom: the content of `client.yaml`.
package struct ClientContext: Sendable, Equatable {
    /// The most addresses of one context.
    static let addressesMax = 64

    /// Where the API is reached, in the order in which they are tried.
    package var addresses: [NodeConfiguration.HostPort]
    /// PEM file of the CA that the nodes' certificates chain to; nil for the operating system's CAs.
    package var caFile: String?
    package var token: String

    package init(addresses: [NodeConfiguration.HostPort], caFile: String?, token: String) {
        self.addresses = addresses
        self.caFile = caFile
        self.token = token
    }

    /// The file that is read: `explicit` (`--context`), else `FTNODE_CONTEXT`, else `~/.config/ftnode/client.yaml`.
    package static func path(explicit: String?, environment: [String: String]) -> String {
        if let explicit { return explicit }
        if let named = environment["FTNODE_CONTEXT"], !named.isEmpty { return named }
        return (environment["HOME"] ?? ".") + "/.config/ftnode/client.yaml"
    }

    /// Reads the context file at `path`.
    /// - Throws: ``ClientError`` `.badContext`, naming file, line and key.
    package static func load(path: String) throws(ClientError) -> ClientContext {
        let text: String
        do { text = try WholeTextFile.read(path) } catch {
            throw ClientError(
                .badContext,
                "\(error.message); name a client.yaml with --context or FTNODE_CONTEXT (ftnode dev writes one)"
            )
        }
        return try self.parse(text, path: path)
    }

    /// Takes `text` as the content of the file at `path`; a relative `ca` is relative to it.
    package static func parse(_ text: String, path: String) throws(ClientError) -> ClientContext {
        let root: Yams.Node?
        do { root = try Yams.compose(yaml: text) } catch {
            throw ClientError(.badContext, "\(path) is not YAML", cause: nil)
        }
        guard case .mapping(let members) = root else {
            throw ClientError(.badContext, "\(path) must be a mapping of addresses, ca, token")
        }
        var context = ClientContext(addresses: [], caFile: nil, token: "")
        for (keyNode, value) in members {
            let key = keyNode.scalar?.string ?? ""
            let place = "\(path):\(keyNode.mark?.line ?? 1)"
            switch key {
            case "addresses": context.addresses = try self.addresses(value, place: place)
            case "ca":
                guard let file = value.scalar?.string, !file.isEmpty else {
                    throw ClientError(.badContext, "\(place): ca must be a path")
                }
                context.caFile = FilePaths.resolve(
                    file,
                    against: FilePaths.folder(of: FilePaths.resolve(path, against: FilePaths.working))
                )
            case "token":
                guard let token = value.scalar?.string, self.isToken(token) else {
                    throw ClientError(.badContext, "\(place): token must be 1 to 512 visible ASCII characters")
                }
                context.token = token
            default:
                throw ClientError(
                    .badContext,
                    "\(place): "
                        + ConfigurationFile.unknownKeyMessage(key, among: ["addresses", "ca", "token"])
                )
            }
        }
        guard !context.addresses.isEmpty else {
            throw ClientError(.badContext, "\(path): addresses must be given: a list of https:// URLs")
        }
        guard !context.token.isEmpty else { throw ClientError(.badContext, "\(path): token must be given") }
        return context
    }

    /// The text of a `client.yaml`.
    package static func text(addresses: [String], caFile: String, token: String) -> String {
        "addresses:\n" + addresses.map { "  - https://\($0)\n" }.joined()
            + "ca: \(JSONText.quoted(caFile))\ntoken: \(token)\n"
    }

    private static func isToken(_ text: String) -> Bool {
        (1...512).contains(text.utf8.count) && text.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7F }
    }

    private static func addresses(
        _ value: Yams.Node,
        place: String
    ) throws(ClientError) -> [NodeConfiguration.HostPort] {
        guard case .sequence(let items) = value, (1...self.addressesMax).contains(items.count) else {
            throw ClientError(
                .badContext,
                "\(place): addresses must be a list of 1 to \(self.addressesMax) https:// URLs"
            )
        }
        var addresses: [NodeConfiguration.HostPort] = []
        for item in items {
            let text = item.scalar?.string ?? ""
            guard let address = self.address(text) else {
                throw ClientError(.badContext, "\(place): \"\(text.prefix(80))\" is not https://HOST:PORT")
            }
            addresses.append(address)
        }
        return addresses
    }

    private static func address(_ text: String) -> NodeConfiguration.HostPort? {
        let scheme = "https://"
        guard text.hasPrefix(scheme) else { return nil }
        var rest = String(text.dropFirst(scheme.count))
        if rest.hasSuffix("/") { rest.removeLast() }
        if let address = NodeConfiguration.HostPort(rest) { return address }
        return NodeConfiguration.HostPort(rest + ":443")
    }
}

extension FilePaths {
    /// The process's working directory.
    package static var working: String { FileManager.default.currentDirectoryPath }
}
