internal import Columnar
internal import Foundation
internal import HTTPTypes
internal import Primitives
internal import QueryRouter
internal import Transport

/// What a client has chosen for its calls: by session options, which live in its cookie, or by header fields.
///
/// The node keeps nothing, so a session works on every node and never expires; all choices are checked against the
/// token at each call.
struct FlightSession: Hashable, Sendable {
    /// The options by name, as they were set.
    private(set) var options: [String: String] = [:]
    /// Whether the client showed a cookie of ours, and so keeps cookies.
    var keepsCookies = false

    /// The names of session options.
    enum Option: String, CaseIterable {
        case catalog
        case schema
        case profile
        case compression
        case consistency
    }

    static let cookieName = "flasktrack_session"
    /// Longest text of an option.
    private static let valueBytesMax = 256
    private static let emptyCookie = "0"

    /// The one schema of every organization.
    static let schemaName = "main"

    init() {}

    /// The session of a request.
    /// - Throws: ``GRPCStatus`` when a header field has a value that is not known.
    init(_ fields: HTTPFields) throws(GRPCStatus) {
        for field in fields where field.name == .cookie {
            for part in field.value.split(separator: ";") {
                let pair = part.split(separator: "=", maxSplits: 1).map { $0.trimmingCharacters(in: .whitespaces) }
                guard pair.count == 2, pair[0] == Self.cookieName else { continue }
                self.keepsCookies = true
                self.options = Self.decode(pair[1].trimmingCharacters(in: ["\""]))
            }
        }
        for (names, option) in Self.headers {
            for name in names {
                guard let value = fields.value(of: name) else { continue }
                guard self.set(option, to: value) else {
                    throw GRPCStatus(.invalidArgument, "header \(name.canonicalName): \(Self.help(option))")
                }
            }
        }
    }

    private static let headers: [(names: [HTTPField.Name], option: Option)] = [
        // Grafana and clients of other time series databases name theirs `database`.
        ([HTTPField.Name(known: "database"), HTTPField.Name(known: "x-flasktrack-catalog")], .catalog),
        ([HTTPField.Name(known: "x-flasktrack-profile")], .profile),
        ([HTTPField.Name(known: "x-flasktrack-compression")], .compression),
        ([HTTPField.Name(known: "x-flasktrack-consistency")], .consistency),
    ]

    /// Sets an option, or unsets it with an empty text.
    /// - Returns: False when the value is not one of the option's.
    mutating func set(_ option: Option, to value: String) -> Bool {
        guard value.utf8.count <= Self.valueBytesMax else { return false }
        guard !value.isEmpty else {
            self.options[option.rawValue] = nil
            return true
        }
        switch option {
        case .catalog: guard OrganizationKey(value) != nil else { return false }
        case .schema: guard value == Self.schemaName else { return false }
        case .profile: guard OutputProfile(rawValue: value) != nil else { return false }
        case .compression:
            guard value == Self.noCompression || ArrowCompression(rawValue: value) != nil else { return false }
        case .consistency: guard Self.consistencies[value] != nil else { return false }
        }
        self.options[option.rawValue] = value
        return true
    }

    private static let noCompression = "none"
    private static let consistencies: [String: QueryConsistency] = [
        "linearizable": .linearizable, "eventual": .eventual,
    ]

    /// What an option may be.
    static func help(_ option: Option) -> String {
        switch option {
        case .catalog: "the key of an organization"
        case .schema: "\(self.schemaName) is the only schema"
        case .profile: "one of " + OutputProfile.allCases.map(\.rawValue).joined(separator: ", ")
        case .compression: "one of none, " + ArrowCompression.allCases.map(\.rawValue).joined(separator: ", ")
        case .consistency: "linearizable or eventual"
        }
    }

    /// The organization that statements are about; nil for all that the token may query.
    var catalog: String? { self.options[Option.catalog.rawValue] }
    var profile: OutputProfile { self.options[Option.profile.rawValue].flatMap(OutputProfile.init) ?? .arrow }
    var compression: ArrowCompression? {
        self.options[Option.compression.rawValue].flatMap(ArrowCompression.init(rawValue:))
    }
    var consistency: QueryConsistency {
        self.options[Option.consistency.rawValue].flatMap { Self.consistencies[$0] } ?? .linearizable
    }

    // MARK: The cookie

    /// What the client is told to keep.
    var setCookie: String { "\(Self.cookieName)=\(self.cookieValue); Path=/; Secure; HttpOnly" }

    /// What makes the client forget.
    static let clearCookie = "\(cookieName)=\(emptyCookie); Path=/; Max-Age=0; Secure; HttpOnly"

    private var cookieValue: String {
        guard !self.options.isEmpty else { return Self.emptyCookie }
        let text = self.options.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }.joined(separator: "\n")
        return Hex.encode(Array(text.utf8))
    }

    /// Only what could have been set is read: the cookie is the client's to change.
    private static func decode(_ text: String) -> [String: String] {
        guard text != self.emptyCookie, text.utf8.count % 2 == 0 else { return [:] }
        var bytes: [UInt8] = []
        var digits = text.utf8.makeIterator()
        while let high = digits.next(), let low = digits.next() {
            guard let high = Hex.value(of: high), let low = Hex.value(of: low) else { return [:] }
            bytes.append(high << 4 | low)
        }
        var session = FlightSession()
        for line in String(decoding: bytes, as: UTF8.self).split(separator: "\n") {
            let pair = line.split(separator: "=", maxSplits: 1)
            guard pair.count == 2, let option = Option(rawValue: String(pair[0])) else { continue }
            _ = session.set(option, to: String(pair[1]))
        }
        return session.options
    }
}
