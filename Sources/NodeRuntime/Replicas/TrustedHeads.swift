internal import AuditLedger
internal import Consensus
internal import Foundation
internal import Laboratory
internal import Primitives
internal import Shards
internal import Storage

/// Roots that may be believed about an organization: signed by a majority of its replicas, or at least held by one.
struct TrustedHeads: Sendable {
    /// Why a root is believed.
    enum Basis: String, Sendable {
        /// A checkpoint that a majority of the replicas has signed.
        case checkpoint
        /// More than half of the replicas hold it now; nobody has signed it.
        case majority
    }

    let node: NodeID
    let directory: ShardDirectory
    let placement: Placement
    let links: PeerLinks
    let threads: StoreThreads
    let rows: CheckpointStore
    let book: KeyBook
    let timeout: Duration

    /// The newest quorum-signed checkpoints that this node and the other replicas have, the largest last.
    func checkpoints(of entry: OrganizationEntry) async -> [DescentCheckpoint] {
        let rows = self.rows
        var notes: [[UInt8]] = []
        if let own = try? await self.threads.run({ try rows.latest(of: entry.id) })?.note { notes.append(own) }
        var request = WireProofRequest()
        request.organization = entry.id.rawValue
        request.key = entry.key.rawValue
        request.target = ProofQuestion.checkpoint(size: nil).text
        let question = request
        await withTaskGroup(of: [UInt8]?.self) { group in
            for peer in self.placement.others(of: entry.group) where self.links.isConnected(to: peer) {
                group.addTask {
                    let response: WireProofResponse? = try? await self.links.call(
                        PeerPath.proof,
                        of: peer,
                        question,
                        timeout: self.timeout
                    )
                    return response.flatMap { $0.problem.isEmpty ? [UInt8]($0.body) : nil }
                }
            }
            for await case let note? in group { notes.append(note) }
        }
        let found = notes
        let heads = (try? await self.threads.run { Set(found.compactMap { self.quorumSigned($0, entry) }) }) ?? []
        return heads.sorted { $0.size < $1.size }.map {
            DescentCheckpoint(size: $0.size, root: $0.root, isQuorumSigned: true)
        }
    }

    /// The head of a note that a majority of the organization's replicas has signed; nil when they have not. Blocks.
    private func quorumSigned(_ bytes: [UInt8], _ entry: OrganizationEntry) -> TreeHead? {
        guard let note = try? SignedCheckpoint(parsing: bytes),
            let origin = try? LogOrigin(cluster: self.book.cluster, organization: entry.key),
            note.checkpoint.origin == origin,
            let membership = self.directory.current.placement(of: entry.group)?.membership,
            let signers = try? self.book.signers(
                of: note,
                in: KeyBook.LogTimes(reader: LedgerReader(store: self.rows.store, organization: entry.id))
            ),
            SigningQuorum(membership).isReached(by: signers)
        else { return nil }
        return TreeHead(size: note.checkpoint.size, root: note.checkpoint.root)
    }
}
