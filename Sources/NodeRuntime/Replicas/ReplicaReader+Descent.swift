internal import AuditLedger
internal import Foundation
internal import Laboratory
internal import Primitives
internal import Shards

extension ReplicaReader {
    /// One replica's answer to a question of a descent.
    func ask(_ question: DescentQuestion, of node: NodeID, about entry: OrganizationEntry) async -> DescentAnswer {
        var request = WireDescentRequest(question)
        request.organization = entry.id.rawValue
        request.key = entry.key.rawValue
        do {
            return DescentAnswer(try await self.descent(request, of: node), to: question)
        } catch {
            return .unavailable(errorChain(error))
        }
    }

    /// A replica's head with the applied index that belongs to it.
    func head(of entry: OrganizationEntry, on node: NodeID) async throws -> (head: TreeHead, applied: UInt64) {
        var request = WireDescentRequest(.head)
        request.organization = entry.id.rawValue
        request.key = entry.key.rawValue
        let response = try await self.descent(request, of: node)
        guard case .head(let size, let peaks) = DescentAnswer(response, to: .head),
            peaks.count == size.nonzeroBitCount
        else { throw PeerError(code: .malformedAnswer, peer: node, message: response.failure, cause: nil) }
        return (TreeHead(size: size, root: MerkleTree.root(ofPeaks: peaks)), response.appliedIndex)
    }

    private func descent(_ request: WireDescentRequest, of node: NodeID) async throws -> WireDescentResponse {
        if node == self.node { return await self.service.descent(request) }
        return try await self.links.call(PeerPath.descent, of: node, request, timeout: self.descentTimeout)
    }

    /// How long one question may take: the contents of 65,536 records may have to be read for it.
    private var descentTimeout: Duration { self.timeout * 10 }

    /// Compares the replicas of two nodes by their trees, and finds the first record at which they part.
    func descend(
        _ entry: OrganizationEntry,
        _ a: NodeID,
        _ b: NodeID,
        checkpoints: [DescentCheckpoint]
    ) async -> DescentResult {
        var descent = MerkleDescent(organization: entry.key, checkpoints: checkpoints)
        while true {
            switch descent.next() {
            case .done(let result): return result
            case .ask(let questions):
                async let left = self.answer(questions[.a], of: a, about: entry)
                async let right = self.answer(questions[.b], of: b, about: entry)
                if let answer = await left { descent.answer(answer, from: .a) }
                if let answer = await right { descent.answer(answer, from: .b) }
            }
        }
    }

    private func answer(
        _ question: DescentQuestion?,
        of node: NodeID,
        about entry: OrganizationEntry
    ) async -> DescentAnswer? {
        guard let question else { return nil }
        return await self.ask(question, of: node, about: entry)
    }
}

extension WireDescentRequest {
    init(_ question: DescentQuestion) {
        self.init()
        switch question {
        case .head: self.kind = .head
        case .bounds(let size, let whole):
            self.kind = .bounds
            self.numbers = [size, whole]
        case .descendants(let position):
            self.kind = .descendants
            self.numbers = [UInt64(position.level), position.index]
        case .contents(let first, let records, let blockRecords):
            self.kind = .contents
            self.numbers = [first.rawValue, records, blockRecords]
        case .record(let sequence):
            self.kind = .record
            self.numbers = [sequence.rawValue]
        }
    }

    /// nil when it is none.
    var question: DescentQuestion? {
        switch (self.kind, self.numbers.count) {
        case (.head, 0): .head
        case (.bounds, 2): .bounds(size: self.numbers[0], of: self.numbers[1])
        case (.descendants, 2) where self.numbers[0] < 64:
            .descendants(TreePosition(level: UInt8(self.numbers[0]), index: self.numbers[1]))
        case (.contents, 3):
            .contents(
                first: SequenceNumber(self.numbers[0]),
                records: self.numbers[1],
                blockRecords: self.numbers[2]
            )
        case (.record, 1): .record(SequenceNumber(self.numbers[0]))
        default: nil
        }
    }
}

extension WireDescentResponse {
    init(_ answer: DescentAnswer) {
        self.init()
        switch answer {
        case .head(let size, let peaks):
            self.size = size
            self.digests = Self.packed(peaks)
        case .digests(let digests): self.digests = Self.packed(digests)
        case .record(let bytes):
            self.hasRecord_p = bytes != nil
            self.record = Data(bytes ?? [])
        case .cover, .withheld: self.failure = "a replica holds every record"
        case .unavailable(let reason): self.failure = reason.isEmpty ? "unavailable" : reason
        }
    }

    private static func packed(_ digests: [Digest]) -> Data {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(digests.count * Digest.byteCount)
        for digest in digests { digest.append(to: &bytes) }
        return Data(bytes)
    }
}

extension DescentAnswer {
    init(_ response: WireDescentResponse, to question: DescentQuestion) {
        guard response.failure.isEmpty else {
            self = .unavailable(response.failure)
            return
        }
        let bytes = [UInt8](response.digests)
        let digests = stride(from: 0, to: bytes.count - bytes.count % Digest.byteCount, by: Digest.byteCount).compactMap
        {
            Digest(bytes: bytes[$0..<$0 + Digest.byteCount])
        }
        switch question {
        case .head: self = .head(size: response.size, peaks: digests)
        case .record: self = .record(response.hasRecord_p ? [UInt8](response.record) : nil)
        case .bounds, .descendants, .contents: self = .digests(digests)
        }
    }
}

extension ReplicaReader {
    /// Has a node replace, or show, the memory of what it signed.
    /// - Throws: ``PeerError`` when it does not answer.
    func clearSignedHead(
        _ request: WireClearSignedHeadRequest,
        on node: NodeID
    ) async throws -> WireClearSignedHeadResponse {
        if node == self.node { return await self.service.clearSignedHead(request) }
        return try await self.links.call(PeerPath.clearSignedHead, of: node, request, timeout: self.verifyTimeout)
    }

    /// Has a node repair its replica.
    /// - Throws: ``PeerError`` when it does not answer.
    func repair(_ request: WireRepairRequest, on node: NodeID) async throws -> WireRepairResponse {
        if node == self.node { return await self.service.repair(request) }
        return try await self.links.call(PeerPath.repair, of: node, request, timeout: self.verifyTimeout)
    }
}
