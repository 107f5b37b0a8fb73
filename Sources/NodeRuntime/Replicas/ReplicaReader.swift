internal import AuditLedger
internal import Laboratory
internal import Primitives
internal import Shards

/// Asks every replica of an organization what it holds, and judges whether they agree.
struct ReplicaReader: Sendable {
    /// What one replica answered.
    struct Holding: Sendable {
        let size: UInt64
        let root: Digest
        let lastChecksum: Digest
        let appliedIndex: UInt64
        let projectedSequence: UInt64
    }

    /// One replica's verification of its stored bytes.
    struct Verification: Sendable {
        enum Outcome: Sendable {
            case read(size: UInt64, root: Digest, lastChecksum: Digest, finding: Finding?)
            case unreachable(String)
        }

        struct Finding: Sendable {
            let sequence: UInt64
            let kind: String
            let detail: String
            /// The key that is wrong; empty when there is no single one.
            var place = ""
        }

        let node: NodeID
        var outcome: Outcome
        /// Why the node does not serve the organization although nothing was found now.
        var marked: Finding?

        /// Whether what was read is sound, and the node serves it.
        var isServed: Bool { self.isSound && self.marked == nil }

        var isSound: Bool {
            if case .read(_, _, _, nil) = self.outcome { return true }
            return false
        }
    }

    let node: NodeID
    let placement: Placement
    let links: PeerLinks
    let service: PeerService
    /// How long a short question may take.
    let timeout: Duration
    /// How long the verification of one replica may take.
    let verifyTimeout: Duration

    private func ledger(_ request: WireLedgerRequest, of node: NodeID) async throws -> WireLedgerResponse {
        let response: WireLedgerResponse
        if node == self.node {
            response = await self.service.ledger(request)
        } else {
            response = try await self.links.call(PeerPath.ledger, of: node, request, timeout: self.timeout)
        }
        guard !response.hasFailure else {
            throw PeerError(code: .interrupted, peer: node, message: response.failure.message, cause: nil)
        }
        return response
    }

    /// What each replica holds now; nil where it did not answer.
    func holdings(of entry: OrganizationEntry) async -> [(node: NodeID, holding: Holding?)] {
        var request = WireLedgerRequest()
        request.organization = entry.id.rawValue
        request.key = entry.key.rawValue
        let question = request
        return await withTaskGroup(of: (NodeID, Holding?).self) { group in
            for node in self.placement.nodes(of: entry.group) {
                group.addTask {
                    guard let response = try? await self.ledger(question, of: node),
                        let root = Digest(bytes: response.root), let last = Digest(bytes: response.lastChecksum)
                    else { return (node, nil) }
                    let holding = Holding(
                        size: response.size,
                        root: root,
                        lastChecksum: last,
                        appliedIndex: response.appliedIndex,
                        projectedSequence: response.projectedSequence
                    )
                    return (node, holding)
                }
            }
            var holdings: [(node: NodeID, holding: Holding?)] = []
            for await answer in group { holdings.append(answer) }
            return holdings.sorted { $0.node < $1.node }
        }
    }

    /// Compares the replicas by roots at common sizes until the first difference is found.
    func compare(_ entry: OrganizationEntry) async -> ReplicaComparisonResult {
        var comparison = ReplicaComparison(nodes: self.placement.nodes(of: entry.group))
        while true {
            switch comparison.next() {
            case .done(let result): return result
            case .ask(let questions):
                for (node, answer) in await self.answers(to: questions, of: entry) {
                    comparison.answer(answer, from: node)
                }
            }
        }
    }

    private func answers(
        to questions: [ReplicaQuestion],
        of entry: OrganizationEntry
    ) async -> [(NodeID, ReplicaAnswer)] {
        await withTaskGroup(of: (NodeID, ReplicaAnswer).self) { group in
            for question in questions {
                group.addTask { (question.node, await self.answer(to: question, of: entry)) }
            }
            var answers: [(NodeID, ReplicaAnswer)] = []
            for await answer in group { answers.append(answer) }
            return answers.sorted { $0.0 < $1.0 }
        }
    }

    private func answer(to question: ReplicaQuestion, of entry: OrganizationEntry) async -> ReplicaAnswer {
        var request = WireLedgerRequest()
        request.organization = entry.id.rawValue
        request.key = entry.key.rawValue
        if case .roots(let sizes) = question.kind { request.rootSizes = sizes }
        do {
            let response = try await self.ledger(request, of: question.node)
            switch question.kind {
            case .head:
                guard let root = Digest(bytes: response.root) else { return .unavailable("malformed answer") }
                return .head(size: response.size, root: root)
            case .roots(let sizes):
                let roots = response.roots.compactMap { Digest(bytes: $0) }
                guard roots.count == sizes.count else { return .unavailable("malformed answer") }
                return .roots(roots)
            }
        } catch {
            return .unavailable(errorChain(error))
        }
    }

    // MARK: Verification

    private func verify(
        _ entry: OrganizationEntry,
        on node: NodeID,
        _ level: VerificationLevel
    ) async -> Verification {
        var request = WireVerifyRequest()
        request.level = level.rawValue
        request.organization = entry.id.rawValue
        request.key = entry.key.rawValue
        do {
            let response: WireVerifyResponse
            if node == self.node {
                response = await self.service.verify(request)
            } else {
                response = try await self.links.call(PeerPath.verify, of: node, request, timeout: self.verifyTimeout)
            }
            guard !response.hasFailure, let root = Digest(bytes: response.root),
                let last = Digest(bytes: response.lastChecksum)
            else { return Verification(node: node, outcome: .unreachable(response.failure.message)) }
            var finding: Verification.Finding?
            if response.hasFinding {
                finding = Verification.Finding(
                    sequence: response.finding.sequence,
                    kind: response.finding.kind,
                    detail: response.finding.detail,
                    place: response.finding.place
                )
            }
            var marked: Verification.Finding?
            if response.hasMarked {
                marked = Verification.Finding(
                    sequence: response.marked.sequence,
                    kind: response.marked.kind,
                    detail: response.marked.detail,
                    place: response.marked.place
                )
            }
            return Verification(
                node: node,
                outcome: .read(size: response.size, root: root, lastChecksum: last, finding: finding),
                marked: marked
            )
        } catch {
            return Verification(node: node, outcome: .unreachable(errorChain(error)))
        }
    }

    /// Has every replica re-read its stored bytes, then compares those that are sound with each other.
    func verify(_ entry: OrganizationEntry, _ level: VerificationLevel = .tree) async -> [Verification] {
        var verifications = await withTaskGroup(of: Verification.self) { group in
            for node in self.placement.nodes(of: entry.group) {
                group.addTask { await self.verify(entry, on: node, level) }
            }
            var verifications: [Verification] = []
            for await verification in group { verifications.append(verification) }
            return verifications.sorted { $0.node < $1.node }
        }
        let comparison = await self.compare(entry)
        for replica in comparison.replicas {
            guard case .diverged(let first, let side) = replica.status,
                let place = verifications.firstIndex(where: { $0.node == replica.node && $0.isSound }),
                case .read(let size, let root, let last, _) = verifications[place].outcome
            else { continue }
            verifications[place].outcome = .read(
                size: size,
                root: root,
                lastChecksum: last,
                finding: Verification.Finding(
                    sequence: first.rawValue,
                    kind: "fork",
                    detail: side == .minority
                        ? "sound in itself, but another history than that of the majority from this record on"
                        : "sound in itself, but the replicas hold different histories from this record on"
                )
            )
        }
        await self.findTruncated(entry, &verifications)
        return verifications
    }

    /// A replica that has applied as much as the longest one but holds fewer records has lost its tail.
    private func findTruncated(_ entry: OrganizationEntry, _ verifications: inout [Verification]) async {
        let first = await self.holdings(of: entry)
        guard let longest = first.compactMap(\.holding).max(by: { $0.size < $1.size }) else { return }
        let shorter = first.filter { ($0.holding?.size ?? longest.size) < longest.size }.map(\.node)
        guard !shorter.isEmpty else { return }
        let attemptsMax = 50
        let pause = Duration.milliseconds(100)
        for _ in 0..<attemptsMax {
            // What was applied before the first answer is in the size of the second.
            let applied = await self.holdings(of: entry)
            let sizes = await self.holdings(of: entry)
            let caughtUp = shorter.allSatisfy { node in
                let holding = applied.first { $0.node == node }?.holding
                return holding.map { $0.appliedIndex >= longest.appliedIndex } ?? true
            }
            if caughtUp {
                for node in shorter {
                    guard let holding = sizes.first(where: { $0.node == node })?.holding, holding.size < longest.size,
                        let place = verifications.firstIndex(where: { $0.node == node && $0.isSound })
                    else { continue }
                    verifications[place].outcome = .read(
                        size: holding.size,
                        root: holding.root,
                        lastChecksum: holding.lastChecksum,
                        finding: Verification.Finding(
                            sequence: holding.size + 1,
                            kind: "truncated",
                            detail: "all commands are applied, but records after \(holding.size) are missing"
                        )
                    )
                }
                return
            }
            try? await Task.sleep(for: pause)
        }
    }
}
