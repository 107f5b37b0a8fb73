package import AuditLedger

/// What an auditor knows that does not come from the package.
package struct PackageTrust: Sendable {
    /// Public keys of the cluster's nodes.
    package var keys: [PackageKey]
    /// Whose signatures make a checkpoint valid; nil to ask for a majority of the nodes in ``keys``.
    package var policy: TrustPolicy?
    /// The log that the package must be of; nil for any that the keys speak for.
    package var origin: LogOrigin?
    /// The largest checkpoint of the log that the auditor has seen before.
    package var held: SignedCheckpoint?
    /// The auditor's time in seconds since 1970: cosignatures from later do not count; nil to not look.
    package var nowSeconds: UInt64?

    package init(
        keys: [PackageKey] = [],
        policy: TrustPolicy? = nil,
        origin: LogOrigin? = nil,
        held: SignedCheckpoint? = nil,
        nowSeconds: UInt64? = nil
    ) {
        self.keys = keys
        self.policy = policy
        self.origin = origin
        self.held = held
        self.nowSeconds = nowSeconds
    }

    /// Where the policy that a package was judged by comes from.
    package enum Source: String, Sendable {
        /// A policy of the auditor's.
        case policy
        /// Keys of the auditor's, and a majority of them.
        case keys
        /// The package itself: it can only agree with itself.
        case package
    }

    /// The policy for a package, and how it is judged.
    ///
    /// - Throws: ``NoteError`` when the keys make no policy.
    func resolve(
        for checkpoint: SignedCheckpoint,
        packagePolicy: TrustPolicy?,
        packageKeys: [PackageKey]
    ) throws(NoteError) -> (verifier: CheckpointVerifier, source: Source)? {
        let origin = self.origin ?? checkpoint.checkpoint.origin
        if let policy = self.policy {
            return (try Self.verifier(origin, policy, self.keys), .policy)
        }
        if !self.keys.isEmpty {
            let policy = try Self.majority(of: self.keys.map(\.key), origin: origin)
            return (try Self.verifier(origin, policy, self.keys), .keys)
        }
        guard let packagePolicy else { return nil }
        return (try Self.verifier(origin, packagePolicy, packageKeys), .package)
    }

    private static func verifier(
        _ origin: LogOrigin,
        _ policy: TrustPolicy,
        _ keys: [PackageKey]
    ) throws(NoteError) -> CheckpointVerifier {
        var validity: [KeyValidity] = []
        for key in keys { validity += try key.validity(for: origin) }
        return try CheckpointVerifier(origin: origin, policy: policy, validity: validity)
    }

    /// Any of the nodes may have signed as the log, and more than half of them must have cosigned.
    ///
    /// A node's key speaks for a log only when the log is one of the node's cluster: both names begin alike.
    private static func majority(
        of keys: [NoteVerifierKey],
        origin: LogOrigin
    ) throws(NoteError) -> TrustPolicy {
        var logs: [NoteVerifierKey] = []
        var replicas: [NoteVerifierKey] = []
        var known: Set<[UInt8]> = []
        for key in keys {
            if key.name.bytes == origin.bytes {
                if known.insert(key.publicKey).inserted { logs.append(key) }
                continue
            }
            guard !replicas.contains(where: { $0.publicKey == key.publicKey }) else { continue }
            let replica = try NoteVerifierKey(name: key.name, type: .cosignature, publicKey: key.publicKey)
            replicas.append(replica)
            guard self.cluster(of: key.name.bytes) == self.cluster(of: origin.bytes),
                known.insert(key.publicKey).inserted
            else { continue }
            logs.append(
                try NoteVerifierKey(name: try origin.keyName, type: .ed25519, publicKey: key.publicKey)
            )
        }
        let names = Set(replicas.map(\.name))
        guard !names.isEmpty else {
            return try TrustPolicy(logs: logs.map { .init(key: $0) }, witnesses: [], groups: [], quorum: nil)
        }
        return try TrustPolicy.cluster(logs: logs, replicas: replicas, replicasNeeded: names.count / 2 + 1)
    }

    /// Everything before the last slash.
    private static func cluster(of name: [UInt8]) -> ArraySlice<UInt8> {
        name.lastIndex(of: UInt8(ascii: "/")).map { name[..<$0] } ?? []
    }
}
