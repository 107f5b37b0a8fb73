package import Primitives

/// What a token may be used for.
///
/// The stored text of a role is its raw value and never changes.
package enum Role: String, CaseIterable, Sendable {
    /// Runs the cluster: everything, in every organization.
    case `operator`
    /// Appends and reads records of its organizations.
    case writer
    /// Reads and queries its organizations.
    case reader
    /// Reads, queries and verifies its organizations.
    case auditor

    /// Whether what the holder reads of a ledger is work of others: such readings are put on record.
    package var readingIsRecorded: Bool { self == .operator || self == .auditor }
}

/// Something that a caller wants to do.
///
/// Refusals are recorded under the raw value, which never changes.
package enum AccessOperation: String, CaseIterable, Sendable {
    case createOrganization = "create_organization"
    case readOrganization = "read_organization"
    case appendRecords = "append_records"
    case readRecords = "read_records"
    case runQuery = "run_query"
    case verifyLedger = "verify_ledger"
    case manageTokens = "manage_tokens"
    case readCluster = "read_cluster"
    case manageCluster = "manage_cluster"
    /// Seeing personal data that records only commit to, and whose there is.
    case readSensitive = "read_sensitive"
    /// Holding and erasing personal data.
    case manageSubjects = "manage_subjects"
    /// Seeing records that say who came in, was refused, saw or took away what, and whose personal data was held or erased.
    case readReserved = "read_reserved_records"
    /// Keeping sets of filters under a name for everybody in the organization.
    case keepInvestigations = "keep_investigations"
    /// Taking records away as a package or table.
    case exportRecords = "export_records"
}

/// The answer to a caller.
package enum AccessDecision: Sendable, Equatable {
    case allowed
    /// The caller knows of the thing but may not do this to it.
    case forbidden
    /// The caller must not learn whether the thing exists.
    case invisible
}

/// A role, and where it holds.
package struct Grant: Sendable, Equatable {
    package let role: Role
    /// The organizations in which the role holds; of no meaning for ``Role/operator``, which holds everywhere.
    package let organizations: Set<OrganizationKey>

    package init(role: Role, organizations: Set<OrganizationKey> = []) {
        self.role = role
        self.organizations = organizations
    }

    /// Whether the holder may know that `organization` exists.
    package func sees(_ organization: OrganizationKey) -> Bool {
        self.role == .operator || self.organizations.contains(organization)
    }

    /// Decides whether `operation` may be done, in `organization` when it concerns one.
    ///
    /// The one place where permissions are decided, whatever the channel.
    package func decide(_ operation: AccessOperation, in organization: OrganizationKey? = nil) -> AccessDecision {
        if self.role == .operator { return .allowed }
        if let organization, !self.organizations.contains(organization) { return .invisible }
        switch operation {
        case .createOrganization, .manageTokens, .readCluster, .manageCluster, .manageSubjects: return .forbidden
        case .readOrganization, .readRecords, .runQuery: return .allowed
        case .appendRecords: return self.role == .writer ? .allowed : .forbidden
        case .keepInvestigations: return self.role == .reader ? .forbidden : .allowed
        case .verifyLedger, .readSensitive, .readReserved, .exportRecords:
            return self.role == .auditor ? .allowed : .forbidden
        }
    }
}
