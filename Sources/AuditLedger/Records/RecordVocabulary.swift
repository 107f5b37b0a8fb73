package import Primitives

/// What kind of actor did something.
package enum ActorKind: String, Sendable, Hashable, CaseIterable {
    case user
    case apiKey = "api_key"
    case serviceAccount = "service_account"
    case system
}

/// How much an act matters to those who review the ledger.
package enum Severity: String, Sendable, Hashable, CaseIterable {
    case info
    case notice
    case warning
    case critical
}

/// How an act ended.
package enum Outcome: String, Sendable, Hashable, CaseIterable {
    case success
    case denied
    case failed
}

/// The way by which a request came in.
package enum RequestChannel: String, Sendable, Hashable, CaseIterable {
    case ui
    case api
    case qr
    case mcp
    case system
    case support
}

/// Who did something, as known at that time.
package struct Actor: Sendable, Hashable {
    package var kind: ActorKind
    package var id: String
    package var name: String?
    package var role: String?
    package var onBehalfOf: String?

    package init(
        kind: ActorKind = .user,
        id: String,
        name: String? = nil,
        role: String? = nil,
        onBehalfOf: String? = nil
    ) {
        self.kind = kind
        self.id = id
        self.name = name
        self.role = role
        self.onBehalfOf = onBehalfOf
    }

    /// Appends the canonical object; texts are cut to their limits.
    func append(to output: inout [UInt8]) {
        output += Array("{\"id\":".utf8)
        RecordText.appendQuoted(self.id, bytesMax: EventLimits.actorIDBytesMax, to: &output)
        output += Array(",\"kind\":\"\(self.kind.rawValue)\"".utf8)
        for (key, text) in [("name", self.name), ("on_behalf_of", self.onBehalfOf), ("role", self.role)] {
            guard let text else { continue }
            output += Array(",\"\(key)\":".utf8)
            RecordText.appendQuoted(text, bytesMax: EventLimits.actorTextBytesMax, to: &output)
        }
        output.append(UInt8(ascii: "}"))
    }
}

/// How a request reached the cluster.
package struct RequestInfo: Sendable, Hashable {
    package var id: String
    package var channel: RequestChannel
    package var ip: String?
    package var userAgent: String?
    /// The method by which the caller proved who it is, such as `bearer`; never the proof itself.
    package var authentication: String?

    package init(
        id: String,
        channel: RequestChannel = .api,
        ip: String? = nil,
        userAgent: String? = nil,
        authentication: String? = nil
    ) {
        self.id = id
        self.channel = channel
        self.ip = ip
        self.userAgent = userAgent
        self.authentication = authentication
    }

    /// Appends the canonical object; texts are cut to their limits.
    func append(to output: inout [UInt8]) {
        output.append(UInt8(ascii: "{"))
        if let authentication = self.authentication {
            output.append(contentsOf: "\"authentication\":".utf8)
            RecordText.appendQuoted(authentication, bytesMax: EventLimits.requestTextBytesMax, to: &output)
            output.append(UInt8(ascii: ","))
        }
        output.append(contentsOf: "\"channel\":\"".utf8)
        output.append(contentsOf: self.channel.rawValue.utf8)
        output.append(contentsOf: "\",\"id\":".utf8)
        RecordText.appendQuoted(self.id, bytesMax: EventLimits.requestTextBytesMax, to: &output)
        if let ip = self.ip {
            output.append(contentsOf: ",\"ip\":".utf8)
            RecordText.appendQuoted(ip, bytesMax: EventLimits.requestTextBytesMax, to: &output)
        }
        if let userAgent = self.userAgent {
            output.append(contentsOf: ",\"user_agent\":".utf8)
            RecordText.appendQuoted(userAgent, bytesMax: EventLimits.userAgentBytesMax, to: &output)
        }
        output.append(UInt8(ascii: "}"))
    }
}

/// Texts that the node itself puts into records.
enum RecordText {
    /// Appends a canonical string, cut to at most `bytesMax` bytes of UTF-8 at the end of a scalar.
    static func appendQuoted(_ text: String, bytesMax: Int, to output: inout [UInt8]) {
        var text = text
        text.withUTF8 { bytes in
            var end = bytes.count
            if end > bytesMax {
                end = bytesMax
                while end > 0, bytes[end] & 0xC0 == 0x80 { end -= 1 }
            }
            JSONText.appendQuoted(UnsafeBufferPointer(rebasing: bytes[..<end]), to: &output)
        }
    }
}

/// Which members new records may have.
package enum RecordFormat: Int, Sendable, Comparable {
    /// Those of the first release.
    case first = 1
    /// Also `causation`, `changed`, `correlation`, `personal` and `session`.
    case second = 2

    package static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }
}

/// What the node knows of a request before it reads its events.
package struct EventContext: Sendable {
    /// The organization that the events are for.
    package let organization: OrganizationKey
    package let request: RequestInfo
    /// Who acts when an event names nobody; nil makes `actor` needed.
    package let defaultActor: Actor?
    /// What every node of the cluster can read.
    package let format: RecordFormat
    /// 32 random bytes of this request, from which salts of personal values are derived; nil refuses such values.
    package let saltSeed: [UInt8]?
    /// `"key"`, quoted.
    let organizationText: [UInt8]
    /// `,"request":{…}`.
    let requestFragment: [UInt8]
    /// Room for a usual ``requestFragment``.
    private static let fragmentBytes = 256

    /// The default actor as canonical JSON; made anew by each call.
    var defaultActorText: [UInt8]? {
        self.defaultActor.map { actor in
            var text: [UInt8] = []
            actor.append(to: &text)
            return text
        }
    }

    package init(
        organization: OrganizationKey,
        request: RequestInfo,
        defaultActor: Actor?,
        format: RecordFormat = .first,
        saltSeed: [UInt8]? = nil
    ) {
        self.saltSeed = saltSeed
        self.format = format
        self.organization = organization
        self.request = request
        self.defaultActor = defaultActor
        var text: [UInt8] = []
        RecordText.appendQuoted(organization.rawValue, bytesMax: Int.max, to: &text)
        self.organizationText = text
        var fragment: [UInt8] = []
        fragment.reserveCapacity(Self.fragmentBytes)
        fragment.append(contentsOf: ",\"request\":".utf8)
        request.append(to: &fragment)
        self.requestFragment = fragment
    }
}
