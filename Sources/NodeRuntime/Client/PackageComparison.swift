internal import AuditLedger
package import AuditPackage
internal import Foundation
internal import HTTPTypes
internal import NIOCore
internal import Primitives

/// Compares a node's replica with a package file: the replica answers over the API, the package is read here.
package struct PackageComparison: Sendable {
    /// The key of the organization.
    package let organization: String
    package let node: Int
    /// The path of the package.
    package let file: String
    /// What the auditor brings; without keys and a policy the keys that the cluster publishes decide.
    package let inspection: PackageInspection

    package init(organization: String, node: Int, file: String, inspection: PackageInspection) {
        self.organization = organization
        self.node = node
        self.file = file
        self.inspection = inspection
    }

    /// Compares; the answer as JSON, and decoded.
    ///
    /// Reading the package blocks a thread of the concurrent pool.
    /// - Throws: ``PackageError`` when the package or what the auditor brings cannot be used, ``ClientError``.
    package func run(_ client: ClusterClient) async throws -> (json: [UInt8], view: ComparisonView) {
        let tree = try PackageTree(try PackageFile(path: self.file))
        guard tree.organization.rawValue == self.organization else {
            throw PackageError(.refused, "the package is of the organization \(tree.organization)")
        }
        var trust = try self.inspection.trust()
        var source = trust.policy == nil ? "keys" : "policy"
        if trust.policy == nil, trust.keys.isEmpty {
            trust.keys = try PackageKey.parse(try await client.keys().json)
            source = "cluster"
        }
        let newest = try await self.newestCheckpoint(client)
        if let newest { try self.requireSameLog(tree, newest, trust) }
        let held = [newest, trust.held].compactMap { $0 }
        let checkpoints = try tree.evidence(others: held, trust: trust)
        let result = await self.descend(client, tree, checkpoints)
        var json = JSONOutput(capacity: 2048)
        json.beginObject()
        json.member("organization", self.organization)
        json.member("a", self.node)
        self.write(tree, checkpoints, source, result, to: &json)
        DescentText.write(result, to: &json)
        json.endObject()
        let bytes = Array(json.buffer.readableBytesView)
        return (bytes, try ClusterClient.decode(ComparisonView.self, from: bytes))
    }

    /// The newest checkpoint that the cluster has; nil without one.
    private func newestCheckpoint(_ client: ClusterClient) async throws -> SignedCheckpoint? {
        do {
            let path = ["checkpoint"]
            let bytes = try await client.organizationResource(self.organization, path: path, parameters: [])
            return try? SignedCheckpoint(parsing: bytes)
        } catch let error as ClientError {
            guard case .refused(problem: "checkpoint_not_found") = error.code else { throw error }
            return nil
        }
    }

    private func requireSameLog(_ tree: PackageTree, _ newest: SignedCheckpoint, _ trust: PackageTrust) throws {
        let own = tree.checkpoint.checkpoint.origin
        let expected = trust.origin ?? newest.checkpoint.origin
        guard own == expected, newest.checkpoint.origin == expected else {
            throw PackageError(
                .refused,
                "the package is of the log \(own), the cluster's is \(newest.checkpoint.origin)"
            )
        }
    }

    private func descend(
        _ client: ClusterClient,
        _ tree: PackageTree,
        _ checkpoints: [DescentCheckpoint]
    ) async -> DescentResult {
        // What a selection cannot be held against says nothing about it.
        let usable = checkpoints.filter { tree.knows(size: $0.size) }
        var descent = MerkleDescent(organization: tree.organization, checkpoints: usable)
        while true {
            switch descent.next() {
            case .done(let result): return result
            case .ask(let questions):
                if let question = questions[.b] {
                    do throws(LedgerError) {
                        descent.answer(try tree.answer(question), from: .b)
                    } catch {
                        descent.answer(.unavailable(errorChain(error)), from: .b)
                    }
                }
                if let question = questions[.a] {
                    let answer = await client.descend(question, self.organization, node: self.node)
                    descent.answer(answer, from: .a)
                }
            }
        }
    }

    private func write(
        _ tree: PackageTree,
        _ checkpoints: [DescentCheckpoint],
        _ source: String,
        _ result: DescentResult,
        to json: inout JSONOutput
    ) {
        let own = tree.checkpoint.checkpoint
        json.beginObject("package")
        json.member("file", self.file)
        json.member("kind", tree.kind.rawValue)
        json.member("checkpoint_size", own.size)
        json.member("checkpoint_is_signed", checkpoints.first?.isQuorumSigned ?? false)
        json.member("trust", source)
        if let lack = tree.lack {
            json.member("lacks_from", lack.sequence.rawValue)
            json.member("lacks_file", lack.file)
        }
        // Where the sides agree, what both hold may still not be what was signed.
        let agree: Bool =
            switch result.outcome {
            case .equal, .prefix: true
            default: false
            }
        let wrong = checkpoints.first { checkpoint in
            agree && checkpoint.isQuorumSigned && tree.root(at: checkpoint.size).map { $0 != checkpoint.root } ?? false
        }
        if let wrong { json.member("contradicts_checkpoint", wrong.size) }
        json.endObject()
    }
}

extension ClusterClient {
    private struct DescentReply: Decodable {
        var size: UInt64?
        var digests: [String]?
        var record: String?
    }

    /// One question of a descent to a node's replica.
    func descend(_ question: DescentQuestion, _ organization: String, node: Int) async -> DescentAnswer {
        let wire = WireDescentRequest(question)
        let kind: String =
            switch question {
            case .head: "head"
            case .bounds: "bounds"
            case .descendants: "descendants"
            case .contents: "contents"
            case .record: "record"
            }
        let numbers = wire.numbers.map(String.init).joined(separator: ",")
        let body =
            "{\"organization\":\(JSONText.quoted(organization)),\"node\":\(node),\"kind\":\"\(kind)\","
            + "\"numbers\":[\(numbers)]}"
        var request = APIRequest(.post, "/v1/audit/descend", body: ByteBuffer(string: body))
        request.isReadOnly = true
        request.timeout = Self.verificationTimeout
        do {
            let reply = try Self.decode(DescentReply.self, from: try await self.send(request).bytes)
            let digests = (reply.digests ?? []).compactMap { Digest(hex: $0) }
            return switch question {
            case .head: .head(size: reply.size ?? 0, peaks: digests)
            case .record: .record(reply.record.flatMap { Data(base64Encoded: $0) }.map { [UInt8]($0) })
            case .bounds, .descendants, .contents: .digests(digests)
            }
        } catch {
            return .unavailable(errorChain(error))
        }
    }
}
