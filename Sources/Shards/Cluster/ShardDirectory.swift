package import Laboratory
package import Primitives
internal import Synchronization

/// Where organizations live and which tokens are known, as of the last applied system command on this node.
///
/// Read from any thread without waiting: every request asks it. Written only by the applier of the system group.
package final class ShardDirectory: Sendable {
    private let state: Mutex<SystemState>
    /// In a struct, as a bare closure would be wrapped anew each time it is read.
    private struct Observer: Sendable {
        let body: @Sendable (SystemState) -> Void
    }

    private let observer = Mutex<Observer?>(nil)
    /// Organizations by id, as far as they were asked for; they are added and never changed.
    private let byID = Mutex<[OrganizationID: OrganizationEntry]>([:])

    package init(state: SystemState = SystemState()) { self.state = Mutex(state) }

    /// Replaces the view; called after the batch that made the change is written.
    func publish(_ state: SystemState) {
        self.state.withLock { $0 = state }
        let observer = self.observer.withLock { $0 }
        observer?.body(state)
    }

    /// Calls `body` now, and then on the lane of the system group after every change; it must return soon. One observer
    /// at a time.
    package func observe(_ body: @escaping @Sendable (SystemState) -> Void) {
        self.observer.withLock { $0 = Observer(body: body) }
        body(self.current)
    }

    /// Everything at one moment.
    package var current: SystemState { self.state.withLock { $0 } }

    /// The organization with this key; for ``SystemState/ledgerKey`` the cluster's own ledger.
    package func organization(_ key: OrganizationKey) -> OrganizationEntry? {
        self.state.withLock { $0.organizations[key] ?? (key == SystemState.ledgerKey ? $0.clusterLedger : nil) }
    }

    /// The organization with this id; for ``SystemState/ledgerID`` the cluster's own ledger.
    ///
    /// - Complexity: O(1), and O(organizations) when there are new ones since the last call.
    package func organization(_ id: OrganizationID) -> OrganizationEntry? {
        if id == SystemState.ledgerID { return self.state.withLock { $0.clusterLedger } }
        if let known = self.byID.withLock({ $0[id] }) { return known }
        let organizations = self.state.withLock { $0.organizations }
        return self.byID.withLock { byID in
            if byID.count != organizations.count {
                byID = Dictionary(organizations.values.map { ($0.id, $0) }, uniquingKeysWith: { first, _ in first })
            }
            return byID[id]
        }
    }

    /// All organizations, by key; without the cluster's own ledger.
    package var organizations: [OrganizationEntry] {
        self.state.withLock { Array($0.organizations.values) }.sorted { $0.key < $1.key }
    }

    /// The feature level that the whole cluster has reached, as far as this node knows.
    package var featureLevel: FeatureLevel { self.state.withLock { $0.featureLevel } }

    /// The token with this SHA-256, or nil when the cluster does not know it.
    package func token(hash: Digest) -> TokenEntry? { self.state.withLock { $0.tokens[hash] } }

    /// The revoked token with this SHA-256, while it is remembered.
    package func revokedToken(hash: Digest) -> RevokedToken? { self.state.withLock { $0.revokedTokens[hash] } }

    /// All tokens, oldest first.
    package var tokens: [TokenEntry] {
        self.state.withLock { Array($0.tokens.values) }.sorted { ($0.createdAt, $0.id) < ($1.createdAt, $1.id) }
    }

    /// True once the cluster has begun.
    package var isBootstrapped: Bool { self.state.withLock { $0.clusterID != nil } }
}
