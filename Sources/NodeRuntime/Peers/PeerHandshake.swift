internal import HTTPTypes
internal import Primitives

/// Why two nodes do not talk with each other; the same reason is known, logged and counted on both sides.
struct PeerRefusal: Error, Sendable, Hashable, CustomStringConvertible {
    /// The kinds of refusal; raw values are on the wire and in metrics and never change.
    enum Code: String, Sendable, Hashable, CaseIterable {
        /// No certificate of a node of this cluster, or of another node than the request says.
        case wrongCertificate = "wrong_certificate"
        /// A node of another cluster: correct the address or the cluster id.
        case wrongCluster = "wrong_cluster"
        /// The cluster was recovered without that node: its data are of before; wipe it and let it join under a new id.
        case wrongEpoch = "wrong_epoch"
        /// A program too old or too new for this one.
        case wrongVersion = "wrong_version"
        /// The node never joined, or this node has not heard of it yet: it is tried again.
        case unknownNode = "unknown_node"
        /// The node was removed from the cluster, which is for ever: give it a new id.
        case removedNode = "removed_node"
        /// The request says nothing, or nonsense, about who sends it.
        case malformed
        /// A reason that this program does not know.
        case other
    }

    let code: Code
    let message: String

    init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }

    var description: String { "\(self.code.rawValue): \(self.message)" }
}

/// What each side of a link says of itself with every request and answer, and checks of the other.
///
/// The certificate has proved which node of which cluster the other side is before this; here programs and epochs
/// are compared, and mistakes of configuration get a clear answer.
struct PeerHandshake: Sendable, Hashable {
    /// The protocols that this program speaks; the higher end is said, the ranges must meet in today's single one.
    static let versions: ClosedRange<UInt32> = 2...2
    /// Bytes of a refusal's text that are told to the other side.
    static let messageBytesMax = 512

    static let clusterHeader = HTTPField.Name(known: "flasktrack-cluster")
    static let nodeHeader = HTTPField.Name(known: "flasktrack-node")
    static let epochHeader = HTTPField.Name(known: "flasktrack-epoch")
    static let versionHeader = HTTPField.Name(known: "flasktrack-peer-protocol")
    static let refusalHeader = HTTPField.Name(known: "flasktrack-refusal")
    static let refusalMessageHeader = HTTPField.Name(known: "flasktrack-refusal-message")

    let cluster: String
    let node: NodeID
    /// Counts the recoveries of the cluster from a lost majority.
    let epoch: UInt64

    /// What this side says.
    let fields: HTTPFields

    init(cluster: String, node: NodeID, epoch: UInt64) {
        self.cluster = cluster
        self.node = node
        self.epoch = epoch
        self.fields = [
            Self.clusterHeader: cluster,
            Self.nodeHeader: node.description,
            Self.epochHeader: String(epoch),
            Self.versionHeader: String(Self.versions.upperBound),
        ]
    }

    /// Checks what the other side, whose certificate is that of `peer`, says of itself.
    /// - Parameter anyEpoch: For a node that joins, which cannot know the epoch.
    /// - Throws: ``PeerRefusal``.
    func check(_ fields: HTTPFields, from peer: NodeID, anyEpoch: Bool = false) throws(PeerRefusal) {
        guard let cluster = fields[Self.clusterHeader], let node = fields[Self.nodeHeader].flatMap({ UInt64($0) }),
            let epoch = fields[Self.epochHeader].flatMap({ UInt64($0) }),
            let version = fields[Self.versionHeader].flatMap({ UInt32($0) })
        else { throw PeerRefusal(.malformed, "node \(peer) does not say who it is") }
        guard cluster == self.cluster else {
            let theirs = Self.printable(cluster)
            throw PeerRefusal(.wrongCluster, "node \(peer) is of cluster \"\(theirs)\", not \"\(self.cluster)\"")
        }
        guard node == peer.rawValue else {
            throw PeerRefusal(.wrongCertificate, "node \(node) shows the certificate of node \(peer)")
        }
        guard Self.versions.contains(version) else {
            throw PeerRefusal(
                .wrongVersion,
                "node \(peer) speaks peer protocol \(version), node \(self.node) speaks \(Self.versions.upperBound)"
            )
        }
        guard anyEpoch || epoch == self.epoch else {
            throw PeerRefusal(
                .wrongEpoch,
                "node \(peer) is of recovery epoch \(epoch), node \(self.node) of \(self.epoch)"
            )
        }
    }

    /// The refusal that an answer carries, nil for none.
    static func refusal(in fields: HTTPFields) -> PeerRefusal? {
        guard let code = fields[self.refusalHeader] else { return nil }
        return PeerRefusal(
            PeerRefusal.Code(rawValue: code) ?? .other,
            self.printable(fields[self.refusalMessageHeader] ?? "no reason given")
        )
    }

    /// Why an answer is none, in words of the other side; nil when it does not say.
    static func reason(in fields: HTTPFields) -> String? { fields[self.refusalMessageHeader].map(self.printable) }

    /// What an answer says that refuses.
    func fields(refusing refusal: PeerRefusal) -> HTTPFields {
        var fields = self.fields
        fields[Self.refusalHeader] = refusal.code.rawValue
        fields[Self.refusalMessageHeader] = Self.printable(refusal.message)
        return fields
    }

    /// What an answer says that only gives a reason.
    static func fields(reason: String) -> HTTPFields { [self.refusalMessageHeader: self.printable(reason)] }

    /// Text of the other side as far as it may stand in a header or a log line.
    private static func printable(_ text: String) -> String {
        let bytes = text.utf8.prefix(self.messageBytesMax).map { (0x20...0x7E).contains($0) ? $0 : UInt8(ascii: "?") }
        return String(decoding: bytes, as: UTF8.self)
    }
}
