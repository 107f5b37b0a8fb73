internal import AuditLedger
internal import Consensus
internal import Foundation
internal import Laboratory
internal import Logging
internal import Primitives
internal import Shards
internal import Storage

/// What the leader of a group does for its data subjects, and what is left to a node that holds them no longer.
extension SubjectKeeper {
    /// Erasures of one group that are brought on at a time.
    static let erasuresMax = 256

    // MARK: Making keys

    /// The keys under which values of data subjects are sealed, each kept by a majority of the replicas.
    /// - Throws: ``Problem``, and what the store throws.
    func sealingKeys(of subjects: [String], in entry: OrganizationEntry) async throws -> [String: SubjectKey] {
        let digests = subjects.map { SubjectEntry.digest(of: $0) }
        let keys = try await self.keysHere(digests, entry)
        var result: [String: SubjectKey] = [:]
        var missing: [String] = []
        for (subject, key) in zip(subjects, keys) {
            if let key { result[subject] = key } else { missing.append(subject) }
        }
        for start in stride(from: 0, to: missing.count, by: Self.pageMax) {
            let page = Array(missing[start..<min(start + Self.pageMax, missing.count)])
            let made = try await self.makeAtLeader(page.map { SubjectEntry.digest(of: $0) }, entry)
            for (subject, key) in zip(page, made) { result[subject] = key }
        }
        return result
    }

    /// Keys that are here and in use: whoever committed a value under one had it kept by a majority.
    private func keysHere(_ subjects: [Digest], _ entry: OrganizationEntry) async throws -> [SubjectKey?] {
        guard self.placement.servesHere(entry.group) else { return subjects.map { _ in nil } }
        let (ring, applier) = (self.ring, self.applier)
        return try await self.threads.run {
            try subjects.map { digest in
                guard let known = try applier.subject(digest, of: entry.id, in: entry.group), known.erasedAt == nil
                else {
                    return nil
                }
                let subject = SubjectKeyRing.Subject(organization: entry.id, digest: digest)
                return try ring.keys(of: subject).first { known.keys.contains($0.name) }?.key
            }
        }
    }

    private func makeAtLeader(_ subjects: [Digest], _ entry: OrganizationEntry) async throws -> [SubjectKey] {
        let deadline = NodeClock.monotonic.now.advanced(by: self.timeout)
        var failure = Problem(.noLeader, "no leader was found in time; nothing was written")
        repeat {
            let leader = self.host.leader(of: entry.group)
            let candidates = leader.map { [$0] } ?? self.placement.others(of: entry.group)
            for candidate in candidates {
                do {
                    return try await self.make(subjects, entry, at: candidate)
                } catch let problem as Problem where problem.code == .noLeader || problem.code == .noQuorum {
                    failure = problem
                }
            }
            try await Task.sleep(for: CommandGateway.pause)
        } while NodeClock.monotonic.now < deadline
        throw failure
    }

    private func make(_ subjects: [Digest], _ entry: OrganizationEntry, at leader: NodeID) async throws -> [SubjectKey]
    {
        if leader == self.node { return try await self.makeHere(subjects, entry) }
        var request = WireMakeSubjectKeysRequest()
        request.organization = entry.id.rawValue
        request.key = entry.key.rawValue
        request.subjects = subjects.map { Data($0.bytes) }
        let response: WireMakeSubjectKeysResponse
        do {
            response = try await self.links.call(PeerPath.makeSubjectKeys, of: leader, request, timeout: self.timeout)
        } catch let error as PeerError {
            throw Problem(.noLeader, "node \(leader) does not answer; nothing was written", cause: error)
        }
        guard response.problem.isEmpty else {
            throw Problem(Problem.Code(rawValue: response.problem) ?? .internal, response.detail)
        }
        let keys = response.secrets.compactMap { try? SubjectKey([UInt8]($0)) }
        guard keys.count == subjects.count else {
            throw Problem(.internal, "the leader's keys are not those asked for")
        }
        return keys
    }

    /// Finds or makes keys and has them kept by a majority; only on the group's leader.
    func makeHere(_ subjects: [Digest], _ entry: OrganizationEntry) async throws -> [SubjectKey] {
        guard self.host.leader(of: entry.group) == self.node, let status = self.host.status(of: entry.group) else {
            throw Problem(.noLeader, "node \(self.node) does not lead the group of \(entry.key)")
        }
        guard self.ring.canKeep else {
            throw Problem(
                .notSealing,
                "node \(self.node) has no sealing key: configure audit.sealing_key on every node"
            )
        }
        let (ring, applier) = (self.ring, self.applier)
        let all = subjects.map { SubjectKeyRing.Subject(organization: entry.id, digest: $0) }
        let keys: [(subject: SubjectKeyRing.Subject, key: SubjectKey)] = try await self.threads.run {
            let made = try all.map { ($0, try ring.keys(of: $0).first?.key ?? SubjectKey.make()) }
            let kept = try ring.keep(made) { subject in
                try applier.subject(subject.digest, of: entry.id, in: entry.group)?.erasedAt != nil
            }
            guard !kept.contains(false) else { throw Problem(refusal: .subjectErased) }
            // Another request may have made one meanwhile: everybody takes the first.
            return try all.map { subject in
                guard let key = try ring.keys(of: subject).first?.key else { throw Problem(refusal: .subjectErased) }
                return (subject, key)
            }
        }
        let quorum = SigningQuorum(status.membership)
        let keepers = await self.handOut(keys, of: entry, to: quorum.replicas.filter { $0 != self.node }) { nodes in
            quorum.isReached(by: nodes + [self.node])
        }
        guard quorum.isReached(by: keepers + [self.node]) else {
            throw Problem(
                .noQuorum,
                "no majority of replicas keeps the keys of the data subjects (each needs audit.sealing_key); "
                    + "nothing was written"
            )
        }
        return keys.map(\.key)
    }

    /// Gives keys to other replicas, until `isEnough` says so or all were asked.
    /// - Returns: The nodes where all keys are settled.
    private func handOut(
        _ keys: [(subject: SubjectKeyRing.Subject, key: SubjectKey)],
        of entry: OrganizationEntry,
        to nodes: [NodeID],
        isEnough: @escaping @Sendable ([NodeID]) -> Bool
    ) async -> [NodeID] {
        var request = WireKeepSubjectKeysRequest()
        request.organization = entry.id.rawValue
        request.key = entry.key.rawValue
        request.keys = keys.map { key in
            var wire = WireSubjectKey()
            wire.subject = Data(key.subject.digest.bytes)
            wire.secret = Data(key.key.bytes)
            return wire
        }
        let links = self.links
        return await withTaskGroup(of: NodeID?.self) { [request] group in
            for node in nodes {
                group.addTask {
                    let answer: WireKeepSubjectKeysResponse? = try? await links.call(
                        PeerPath.keepSubjectKeys,
                        of: node,
                        request,
                        timeout: Self.keepTimeout
                    )
                    guard let answer, answer.problem.isEmpty, answer.settled.count == keys.count,
                        answer.settled.allSatisfy({ $0 })
                    else { return nil }
                    return node
                }
            }
            var settled: [NodeID] = []
            for await node in group {
                if let node { settled.append(node) }
                if isEnough(settled) { break }
            }
            // Whoever was not waited for fetches its keys when it applies a value under them.
            group.cancelAll()
            return settled
        }
    }

    // MARK: Completing erasures

    /// Has every replica destroy the keys of erased data subjects, and records that it is done.
    /// - Returns: false when something is to be tried again.
    func completeErasures(of group: GroupID) async -> Bool {
        guard group != .system, self.host.leader(of: group) == self.node, let status = self.host.status(of: group)
        else {
            self.pending.set(group, 0)
            return true
        }
        let applier = self.applier
        do {
            let pending = try await self.threads.run {
                try applier.pendingErasures(of: group, limit: Self.erasuresMax)
            }
            self.pending.set(group, pending.count)
            guard !pending.isEmpty else { return true }
            let replicas = status.membership.replicas.sorted()
            let wanted = pending.map { (organization: $0.organization, key: $0.key, subject: $0.subject) }
            var done = Array(repeating: true, count: pending.count)
            for answers in await self.askToDestroy(wanted, replicas) {
                for place in done.indices where !answers[place] { done[place] = false }
            }
            // A replica that came meanwhile must confirm too.
            guard self.host.status(of: group)?.membership.replicas.sorted() == replicas else { return false }
            for (place, erasure) in pending.enumerated() where done[place] {
                let command = CompleteErasureCommand(
                    organization: erasure.organization,
                    organizationKey: erasure.key,
                    subject: erasure.subject,
                    nodes: replicas
                )
                let result = try await self.gateway.submit(
                    .completeErasure(command),
                    to: group,
                    mayRepeat: true,
                    origin: .node(self.node)
                )
                if case .refused(let refusal) = result { throw Problem(refusal: refusal) }
            }
            self.pending.set(group, done.count { !$0 })
            return !done.contains(false) && pending.count < Self.erasuresMax
        } catch {
            self.logger.warning(
                "an erasure cannot be completed yet",
                metadata: ["raft.group": "\(group)", "error.chain": "\(errorChain(error))"]
            )
            return false
        }
    }

    /// One answer of each replica, with a verdict for each erasure.
    private func askToDestroy(
        _ erasures: [(organization: OrganizationID, key: OrganizationKey, subject: Digest)],
        _ replicas: [NodeID]
    ) async -> [[Bool]] {
        var request = WireDestroySubjectKeysRequest()
        request.subjects = erasures.map { erasure in
            var wire = WireErasedSubject()
            wire.organization = erasure.organization.rawValue
            wire.key = erasure.key.rawValue
            wire.subject = Data(erasure.subject.bytes)
            return wire
        }
        let nothing = Array(repeating: false, count: erasures.count)
        return await withTaskGroup(of: [Bool].self) { [request] group in
            for replica in replicas {
                group.addTask {
                    if replica == self.node { return await self.answer(request).destroyed }
                    let answer: WireDestroySubjectKeysResponse? = try? await self.links.call(
                        PeerPath.destroySubjectKeys,
                        of: replica,
                        request,
                        timeout: Self.destroyTimeout
                    )
                    guard let answer, answer.destroyed.count == nothing.count else { return nothing }
                    return answer.destroyed
                }
            }
            var answers: [[Bool]] = []
            for await answer in group { answers.append(answer) }
            return answers
        }
    }

    // MARK: Leaving

    /// Gives the keys of an organization that has left this node to its replicas, then destroys them here.
    /// - Returns: false when it is to be tried again.
    func handOver(_ organization: OrganizationID) async -> Bool {
        guard let entry = self.directory.organization(organization) else { return false }
        // It may have come back; then its keys are looked at as a replica's.
        if self.placement.servesHere(entry.group) { return true }
        guard !self.isReplica(of: entry.group) else { return false }
        let ring = self.ring
        do {
            var last: SubjectKeyRing.Subject?
            var isEmpty = true
            repeat {
                let page = try await self.threads.run { [last] in
                    try ring.subjects(of: organization, after: last, limit: Self.pageMax).map { subject in
                        (subject: subject, keys: try ring.keys(of: subject).map(\.key))
                    }
                }
                if page.isEmpty { break }
                isEmpty = false
                let keys = page.flatMap { subject, keys in keys.map { (subject: subject, key: $0) } }
                let replicas = self.placement.nodes(of: entry.group)
                let settled = await self.handOut(keys, of: entry, to: replicas) { _ in false }
                guard !replicas.isEmpty, settled.count == replicas.count else { return false }
                last = page.count < Self.pageMax ? nil : page.last?.subject
            } while last != nil
            if isEmpty { return true }
            return try await self.erasing.run { try ring.forget(organization) }
        } catch {
            self.warn("keys of data subjects cannot be handed over", organization, error)
            return false
        }
    }
}
