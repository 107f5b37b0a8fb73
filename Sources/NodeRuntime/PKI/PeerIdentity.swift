package import Primitives

/// The name by which a node is known to its peers: a DNS name in its certificate.
package enum PeerIdentity {
    private static let suffix = "flasktrack.internal"

    /// `node-N.CLUSTER.flasktrack.internal`.
    package static func dnsName(node: NodeID, cluster: String) -> String { "node-\(node).\(cluster).\(self.suffix)" }

    /// The node that `name` names in `cluster`; nil for any other name, also when only written differently.
    package static func node(ofDNSName name: String, cluster: String) -> NodeID? {
        guard name.hasPrefix("node-"), let dot = name.firstIndex(of: ".") else { return nil }
        guard let number = UInt64(name[name.index(name.startIndex, offsetBy: 5)..<dot]) else { return nil }
        let node = NodeID(number)
        return self.dnsName(node: node, cluster: cluster) == name ? node : nil
    }
}
