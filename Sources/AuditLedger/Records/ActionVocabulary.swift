/// An action that the vocabulary knows.
package struct ActionTerm: Sendable, Hashable {
    /// What kind of act it is; auditors ask for whole kinds.
    package enum Family: String, Sendable, CaseIterable {
        /// Work on entities: samples, protocols, workflows, batches, files.
        case operational
        /// Judging work: approval, review, signature.
        case review
        /// Users, roles, settings, keys.
        case administrative
        /// Who came in, was refused, saw or took away what.
        case access
        /// What the product did by itself.
        case system
        /// The keeping of the ledger and of the records themselves.
        case integrity
    }

    package let name: String
    package let family: Family
    /// What follows the actor's name in a sentence: `approved`.
    package let verb: String
}

/// The documented actions. Clients may use others: an action is any text of 1 to 128 bytes.
///
/// The first sixteen are those that the product's documents name; `Documentation/actions.md` lists all.
package enum ActionVocabulary {
    package static let all: [ActionTerm] =
        terms(
            .operational,
            [
                ("create", "created"), ("update", "changed"), ("delete", "deleted"), ("archive", "archived"),
                ("restore", "restored"), ("execute", "executed"), ("complete", "completed"), ("upload", "uploaded"),
                ("attach", "attached"), ("detach", "detached"), ("transition", "moved to another state"),
                ("revert", "reverted"), ("skip", "skipped"), ("fail", "marked as failed"),
                ("contaminate", "marked as contaminated"), ("abort", "aborted"), ("clone", "cloned"),
                ("transfer_out", "handed to another organization"), ("transfer_in", "took from another organization"),
            ]
        )
        + terms(
            .review,
            [
                ("approve", "approved"), ("reject", "rejected"), ("finalize", "finalized"), ("submit", "submitted"),
                ("sign", "signed"), ("sign_revoke", "revoked a signature of"), ("verify", "verified as second person"),
                ("review", "reviewed"), ("waive", "waived"), ("exempt", "exempted"), ("lock", "locked"),
            ]
        )
        + terms(
            .administrative,
            [
                ("role_change", "changed the role of"), ("permission_change", "changed permissions of"),
                ("config_change", "changed the configuration of"), ("invite", "invited"), ("activate", "activated"),
                ("deactivate", "deactivated"), ("key_issue", "issued a key for"), ("key_rotate", "rotated a key of"),
                ("key_revoke", "revoked a key of"), ("release_deployed", "deployed a release of"),
            ]
        )
        + terms(
            .access,
            [
                ("login", "logged in to"), ("logout", "logged out of"), ("login_failed", "failed to log in to"),
                ("authorization_denied", "was refused"), ("restricted_attempt", "tried what is restricted on"),
                ("read_sensitive", "read sensitive parts of"), ("read_ledger", "read the ledger of"),
                ("export", "exported"),
                ("export_completed", "completed the export of"), ("download", "downloaded"),
                ("print", "printed"), ("support_access", "looked in for support at"),
            ]
        )
        + terms(
            .system,
            [
                ("escalate", "escalated"), ("alert_raised", "raised an alert about"),
                ("escalation_created", "created an escalation of"), ("scheduled_transition", "moved on schedule"),
                ("approval_propagated", "passed an approval on to"),
                ("compliance_evaluated", "evaluated compliance of"),
            ]
        )
        + terms(
            .integrity,
            [
                ("retention_hold", "put a hold on"), ("retention_dispose", "disposed of"),
                ("erase_requested", "asked for the erasure of"), ("erase_completed", "completed the erasure of"),
                ("backup_verified", "verified a backup of"), ("restore_performed", "restored a backup of"),
                ("chain_verified", "verified the ledger of"), ("clock_drift", "reported a clock that drifts on"),
            ]
        )

    private static let byName = Dictionary(all.map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })

    /// The documented term; nil for an action of the client's own.
    package static func term(_ action: String) -> ActionTerm? { self.byName[action] }

    private static func terms(_ family: ActionTerm.Family, _ pairs: [(String, String)]) -> [ActionTerm] {
        pairs.map { ActionTerm(name: $0.0, family: family, verb: $0.1) }
    }
}
