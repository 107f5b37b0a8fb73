package import AuditLedger

/// The answer of a verifier: is what the package holds what was signed, is it all of it, and who says so.
package struct PackageReport: Sendable {
    /// Whether everything that should be there is.
    package enum Completeness: Hashable, Sendable {
        /// Every record up to the checkpoint.
        case complete
        /// Every record of the range of sequences that was asked for.
        case completeRange(ClosedRange<UInt64>)
        /// Some records; the others are shown to exist, their choice is the exporter's.
        case selection
        /// Records or parts are missing.
        case incomplete
    }

    package let manifest: PackageManifest
    package let checkpoint: SignedCheckpoint
    package let checkpointVerdict: CheckpointVerdict
    package let trustSource: PackageTrust.Source
    /// Who signed the manifest; empty when nobody known did.
    package let manifestSigners: [NoteVerifierKey]
    /// Records that were read and found to be those that were signed.
    package let checkedCount: UInt64
    package let completeness: Completeness
    /// Whether every record and part that is there is the one that was signed.
    package let isSound: Bool
    /// The first bad record first; at most ``findingsMax``.
    package let findings: [PackageFinding]
    /// What is no fault and should be known.
    package let remarks: [String]

    /// Findings that are kept; the first ones matter.
    package static let findingsMax = 100

    /// What the program ends with.
    package enum Exit: Int32, Sendable {
        case valid = 0
        case tampered = 1
        case incomplete = 2
        case policyNotMet = 3
        case unreadable = 4
    }

    /// Whether the checkpoint is vouched for by those whom the auditor trusts; never with the package's own keys.
    package var policyIsMet: Bool { self.trustSource != .package && self.checkpointVerdict.isTrusted }

    /// Whether a known node has signed the manifest; one that nobody known has signed may say anything of who exported,
    /// when, and which filters left records out.
    package var manifestIsVouchedFor: Bool { !self.manifestSigners.isEmpty }

    package var exit: Exit {
        if !self.isSound { return .tampered }
        if !self.policyIsMet { return .policyNotMet }
        if self.completeness == .incomplete { return .incomplete }
        return self.manifestIsVouchedFor ? .valid : .policyNotMet
    }
}
