package import AuditLedger
package import Primitives

/// What goes into a package, besides the records.
package struct PackageRequest: Sendable {
    /// Which records.
    package enum Selection: Sendable {
        /// All up to the checkpoint.
        case all
        /// These ranges of sequences: ascending, not touching, none beyond the checkpoint. None at all is an answer
        /// too: nothing matched.
        case ranges([ClosedRange<UInt64>])
    }

    /// `<cluster>/<organization>` of the checkpoint, in its two parts.
    package var cluster: String
    package var organization: OrganizationKey
    /// Stored and signed; the package ends there.
    package var checkpoint: SignedCheckpoint
    /// Another stored one, to show that the package continues it; nil for none.
    package var earlier: SignedCheckpoint?
    package var policy: TrustPolicy
    package var keys: [PackageKey]
    package var selection: Selection
    /// The first and last sequence that were asked for, for the manifest; with a selection only.
    package var range: ClosedRange<UInt64>?
    /// What was asked for, in the words of the request.
    package var filters: [JSONMember]
    package var exportedBy: Actor
    package var exportedAt: Timestamp
    package var node: String
    package var record: PackageManifest.ExportRecord?
    /// What stands beside the records.
    package var supplement = PackageSupplement()
    /// Signs the manifest; nil when the node has no key.
    package var manifestSigner: NoteSignerKey?

    package init(
        cluster: String,
        organization: OrganizationKey,
        checkpoint: SignedCheckpoint,
        policy: TrustPolicy,
        keys: [PackageKey],
        exportedBy: Actor,
        exportedAt: Timestamp,
        node: String
    ) {
        self.cluster = cluster
        self.organization = organization
        self.checkpoint = checkpoint
        self.policy = policy
        self.keys = keys
        self.selection = .all
        self.filters = []
        self.exportedBy = exportedBy
        self.exportedAt = exportedAt
        self.node = node
    }

    /// Ranges of ascending sequences; one that is there twice counts once.
    package static func ranges(ofAscending sequences: some Sequence<UInt64>) -> [ClosedRange<UInt64>] {
        SelectionProof.ranges(ofAscending: sequences).map { $0.lowerBound...$0.upperBound - 1 }
    }
}
