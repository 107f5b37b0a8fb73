internal import AuditLedger

/// A value of one configuration key, read and checked.
enum ConfigurationValue: Sendable, Equatable {
    case integer(Int)
    case text(String)
    case address(NodeConfiguration.HostPort)

    /// How the value is shown in an explanation.
    var shown: String {
        switch self {
        case .integer(let value): String(value)
        case .text(let value): value
        case .address(let value): value.description
        }
    }
}

/// Why a text is not a value of a kind; the caller adds key and place.
struct ConfigurationValueFault: Error {
    let code: ConfigurationProblem.Code
    let message: String
}

/// What a key's value must look like.
package enum ConfigurationKind: Sendable, Equatable {
    case integer(ClosedRange<Int>)
    /// One of the words.
    case choice([String])
    /// `host:port` or `[IPv6]:port`.
    case address
    /// A file or folder; relative to the file that names it.
    case path
    /// 1–63 of `a-z 0-9 -`, a letter or digit at both ends.
    case name
    /// 64 hexadecimal digits.
    case sha256
    /// 16–200 visible ASCII characters.
    case token
    /// `https://host[:port][/path]`.
    case url
    /// A public key of C2SP signed notes, for cosignatures.
    case witnessKey

    /// What is allowed, in words.
    package var allowed: String {
        switch self {
        case .integer(let range): "a whole number from \(range.lowerBound) to \(range.upperBound)"
        case .choice(let words): "one of \(words.joined(separator: ", "))"
        case .address: "host:port, such as 0.0.0.0:8443 or [::1]:8443, the port from 1 to 65535"
        case .path: "a path"
        case .name: "1 to 63 of a-z 0-9 -, with a letter or digit first and last"
        case .sha256: "64 hexadecimal digits"
        case .token: "16 to 200 visible ASCII characters"
        case .url: "a URL such as https://witness.example.org/path"
        case .witnessKey: "a public key name+id+base64 for cosignatures (C2SP vkey of type 4)"
        }
    }

    /// Reads `text` as a value of this kind; relative paths are resolved against `folder`.
    func read(_ text: String, folder: String) throws(ConfigurationValueFault) -> ConfigurationValue {
        switch self {
        case .integer(let range):
            guard let value = Int(text) else { throw self.fault(.wrongType, text) }
            guard range.contains(value) else { throw self.fault(.outOfRange, text) }
            return .integer(value)
        case .choice(let words):
            guard words.contains(text) else { throw self.fault(.outOfRange, text) }
            return .text(text)
        case .address:
            guard let value = NodeConfiguration.HostPort(text) else { throw self.fault(.outOfRange, text) }
            return .address(value)
        case .path:
            guard !text.isEmpty, !text.utf8.contains(0) else { throw self.fault(.outOfRange, text) }
            return .text(FilePaths.resolve(text, against: folder))
        case .name:
            guard ConfigurationRules.isName(text) else { throw self.fault(.outOfRange, text) }
            return .text(text)
        case .sha256:
            guard text.utf8.count == 64, text.utf8.allSatisfy(ConfigurationRules.isHexDigit) else {
                throw ConfigurationValueFault(code: .outOfRange, message: "must be \(self.allowed)")
            }
            return .text(text.lowercased())
        case .url:
            guard WitnessAddress(text) != nil else { throw self.fault(.outOfRange, text) }
            return .text(text)
        case .witnessKey:
            guard (try? NoteVerifierKey(parsing: text))?.type == .cosignature else {
                throw self.fault(.outOfRange, text)
            }
            return .text(text)
        case .token:
            guard (16...200).contains(text.utf8.count), text.utf8.allSatisfy({ (0x21...0x7E).contains($0) }) else {
                throw ConfigurationValueFault(code: .outOfRange, message: "must be \(self.allowed)")
            }
            return .text(text)
        }
    }

    private func fault(_ code: ConfigurationProblem.Code, _ text: String) -> ConfigurationValueFault {
        let shownMax = 80
        let shown = text.count > shownMax ? text.prefix(shownMax) + "…" : text[...]
        return ConfigurationValueFault(code: code, message: "\"\(shown)\" is not \(self.allowed)")
    }
}

extension NodeConfiguration.HostPort {
    /// Reads `host:port` or `[IPv6]:port`, the port from 1 to 65535.
    package init?(_ text: String) {
        let host: Substring
        let portText: Substring
        if text.hasPrefix("[") {
            guard let close = text.firstIndex(of: "]") else { return nil }
            host = text[text.index(after: text.startIndex)..<close]
            let rest = text[text.index(after: close)...]
            guard rest.hasPrefix(":"), host.contains(":") else { return nil }
            portText = rest.dropFirst()
        } else {
            guard let colon = text.firstIndex(of: ":") else { return nil }
            host = text[..<colon]
            portText = text[text.index(after: colon)...]
            guard host.utf8.allSatisfy(ConfigurationRules.isHostByte) else { return nil }
        }
        guard
            !host.isEmpty, (1...5).contains(portText.utf8.count),
            portText.utf8.allSatisfy({ $0 >= UInt8(ascii: "0") && $0 <= UInt8(ascii: "9") }),
            let port = Int(portText), (1...65_535).contains(port)
        else { return nil }
        self.init(host: String(host), port: port)
    }
}

/// Small rules about texts that several keys share.
enum ConfigurationRules {
    static func isName(_ text: String) -> Bool {
        let bytes = Array(text.utf8)
        guard (1...63).contains(bytes.count) else { return false }
        guard bytes.allSatisfy({ self.isLowerAlphanumeric($0) || $0 == UInt8(ascii: "-") }) else { return false }
        return bytes.first != UInt8(ascii: "-") && bytes.last != UInt8(ascii: "-")
    }

    static func isHexDigit(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "a")...UInt8(ascii: "f"),
            UInt8(ascii: "A")...UInt8(ascii: "F"):
            true
        default: false
        }
    }

    static func isHostByte(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "."), UInt8(ascii: "-"), UInt8(ascii: "_"): true
        default: self.isLowerAlphanumeric(byte)
        }
    }

    private static func isLowerAlphanumeric(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"): true
        default: false
        }
    }

    /// The candidate with the fewest edits from `text`, when it is near enough to be meant.
    static func nearest(to text: String, among candidates: some Sequence<String>) -> String? {
        let distanceMax = max(3, text.count / 3)
        var best: (candidate: String, distance: Int)?
        for candidate in candidates {
            let distance = self.editDistance(Array(text), Array(candidate))
            if distance <= distanceMax, distance < best?.distance ?? Int.max { best = (candidate, distance) }
        }
        return best?.candidate
    }

    /// Levenshtein's distance: insertions, deletions and substitutions.
    private static func editDistance(_ left: [Character], _ right: [Character]) -> Int {
        var previous = Array(0...right.count)
        for (row, character) in left.enumerated() {
            var current = [row + 1]
            for (column, other) in right.enumerated() {
                let substituted = previous[column] + (character == other ? 0 : 1)
                current.append(min(substituted, previous[column + 1] + 1, current[column] + 1))
            }
            previous = current
        }
        return previous[right.count]
    }
}

/// Paths as texts.
package enum FilePaths {
    /// `path` itself when it is absolute, else below `folder`; `.` and `..` are folded, `~/` is not expanded.
    package static func resolve(_ path: String, against folder: String) -> String {
        let whole = path.hasPrefix("/") ? path : folder + "/" + path
        var parts: [Substring] = []
        for part in whole.split(separator: "/", omittingEmptySubsequences: true) where part != "." {
            if part == "..", let last = parts.last, last != ".." {
                parts.removeLast()
            } else if part != ".." || !whole.hasPrefix("/") {
                parts.append(part)
            }
        }
        return (whole.hasPrefix("/") ? "/" : "") + parts.joined(separator: "/")
    }

    /// Everything before the last `/`.
    package static func folder(of path: String) -> String {
        guard let slash = path.lastIndex(of: "/") else { return "." }
        return slash == path.startIndex ? "/" : String(path[..<slash])
    }
}
