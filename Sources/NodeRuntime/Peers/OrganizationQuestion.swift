internal import Laboratory
internal import Primitives

/// What a peer asks about one organization, named by key and id.
protocol OrganizationQuestion: Sendable {
    var key: String { get }
    var organization: UInt32 { get }
}

extension WireLedgerRequest: OrganizationQuestion {}
extension WireVerifyRequest: OrganizationQuestion {}
extension WireQueryRequest: OrganizationQuestion {}
extension WireTablesRequest: OrganizationQuestion {}
extension WireRecordsRequest: OrganizationQuestion {}
extension WireRebuildRequest: OrganizationQuestion {}
extension WireDescentRequest: OrganizationQuestion {}
extension WireRepairRequest: OrganizationQuestion {}
extension WireRowRequest: OrganizationQuestion {}
extension WireClearSignedHeadRequest: OrganizationQuestion {}
extension WireFreshCheckpointRequest: OrganizationQuestion {}
extension WireProofRequest: OrganizationQuestion {}
extension WireMakeSubjectKeysRequest: OrganizationQuestion {}
extension WireFindSubjectKeysRequest: OrganizationQuestion {}
extension WireKeepSubjectKeysRequest: OrganizationQuestion {}
extension WireRevealRequest: OrganizationQuestion {}
extension WireListSubjectsRequest: OrganizationQuestion {}

/// Lets this node hear of organizations before it answers about them.
///
/// An organization that was acknowledged to its creator a moment ago may reach this node through a peer's question before
/// this node's replica of the system group has applied its creation.
struct OrganizationNews: Sendable {
    /// The organization with a key, as this node knows it.
    let known: @Sendable (OrganizationKey) -> OrganizationID?
    /// Applies everything that the system group had acknowledged before the call.
    let catchUp: @Sendable () async throws -> Void

    /// Catches up with the system group when this node does not know the organization of `question`.
    ///
    /// What is unknown after that, also because no majority answered in time, is for the question's own answer to refuse.
    func hear(_ question: some OrganizationQuestion) async {
        guard let key = OrganizationKey(question.key), self.known(key)?.rawValue != question.organization
        else { return }
        try? await self.catchUp()
    }
}
