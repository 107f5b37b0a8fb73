internal import AuditLedger
internal import AuditPackage
internal import Primitives

/// Checks a receipt without asking anyone: no cluster, no network, only the receipt, the record and keys that the
/// reader has from elsewhere.
package struct ReceiptCheck: Sendable {
    /// What came of it; raw values are exit codes.
    package enum Verdict: Int32, Sendable {
        /// The record is in a tree that the keys' owners vouch for.
        case valid = 0
        /// Something was changed or forged.
        case tampered = 1
        /// Nothing contradicts, but too few have signed.
        case policyNotMet = 3
        /// A file is not what it should be.
        case unreadable = 4
    }

    package let verdict: Verdict
    /// For people, one finding a line.
    package let lines: [String]

    /// Checks `receipt` (C2SP tlog-proof).
    ///
    /// - Parameters:
    ///   - keys: A policy (C2SP tlog-policy), or public keys (C2SP vkeys), one a line or as `GET /v1/keys` lists them:
    ///     those named `CLUSTER/node-N` are replicas, of which a majority must have signed.
    ///   - record: The record's bytes as they are stored; nil to check the checkpoint alone.
    ///   - origin: The log that is expected, `CLUSTER/ORGANIZATION`; nil to take the receipt's word.
    package static func check(
        receipt: [UInt8],
        keys: [UInt8],
        record: [UInt8]?,
        origin: String?
    ) -> ReceiptCheck {
        let proof: TransparencyProof
        let verifier: CheckpointVerifier
        do {
            proof = try TransparencyProof(parsing: receipt)
            let expected = try origin.map { try LogOrigin($0) } ?? proof.checkpoint.checkpoint.origin
            let policy = try self.policy(keys, origin: expected)
            // A policy says nothing of when its keys are valid; a list may.
            let listed = keys.first == UInt8(ascii: "{") ? try PackageKey.parse(keys) : []
            let validity = try listed.flatMap { try $0.validity(for: expected) }
            verifier = try CheckpointVerifier(origin: expected, policy: policy, validity: validity)
        } catch {
            return ReceiptCheck(verdict: .unreadable, lines: ["unreadable: \(error)"])
        }
        return self.check(proof, verifier, record: record)
    }

    private static func check(
        _ proof: TransparencyProof,
        _ verifier: CheckpointVerifier,
        record: [UInt8]?
    ) -> ReceiptCheck {
        let verdict = verifier.verify(proof.checkpoint)
        let checkpoint = proof.checkpoint.checkpoint
        var lines = [
            "log \(checkpoint.origin), \(checkpoint.size) records, root \(checkpoint.root)",
            "record \(proof.inclusion.index + 1)",
        ]
        for key in verdict.logKeys { lines.append("signed by the log: \(key)") }
        for cosigner in verdict.cosigners {
            let time = Timestamp(microseconds: Int64(clamping: cosigner.timeSeconds) &* 1_000_000)
            lines.append("cosigned by \(cosigner.name) at \(time)")
        }
        lines += verdict.findings.map(\.description)
        let forged: Set<CheckpointFinding.Kind> = [.badSignature, .repeatedSigner, .wrongOrigin]
        var isForged = verdict.findings.contains { forged.contains($0.kind) }
        if let record {
            do {
                try proof.verifyInclusion(checksum: LedgerHash.leaf(record))
                lines.append("the record is in the tree")
            } catch {
                isForged = true
                lines.append("the record is not the one that the checkpoint vouches for: \(error.message)")
            }
        } else {
            lines.append("no record was given: only the checkpoint was checked")
        }
        if isForged { return ReceiptCheck(verdict: .tampered, lines: lines) }
        return ReceiptCheck(verdict: verdict.isTrusted ? .valid : .policyNotMet, lines: lines)
    }

    /// Reads a policy, or makes one of keys.
    private static func policy(_ bytes: [UInt8], origin: LogOrigin) throws -> TrustPolicy {
        var lines = bytes.split(separator: UInt8(ascii: "\n")).filter { $0.first != UInt8(ascii: "#") }
        if bytes.first == UInt8(ascii: "{") {
            let listed = try JSONPlace(try JSONParser.parse(bytes)).array("keys")
            lines = try listed.map { Array(try $0.string("key").utf8)[...] }
        }
        guard let parsed = try? lines.map({ try NoteVerifierKey(parsing: Array($0)) }), !parsed.isEmpty else {
            return try TrustPolicy(parsing: bytes)
        }
        let cluster = String(decoding: origin.bytes, as: UTF8.self).prefix { $0 != "/" }
        let replicas = parsed.filter { key in
            key.type == .cosignature && key.name.description.hasPrefix("\(cluster)/node-")
        }
        let logs =
            try parsed.filter { $0.type == .ed25519 }
            + replicas.map { try NoteVerifierKey(name: origin.keyName, type: .ed25519, publicKey: $0.publicKey) }
        return try TrustPolicy.cluster(
            logs: logs,
            replicas: replicas,
            replicasNeeded: Set(replicas.map(\.name)).count / 2 + 1
        )
    }
}

extension ClusterClient {
    /// The bytes of one record as they are stored and were hashed.
    package func recordBytes(_ organization: String, sequence: UInt64) async throws -> [UInt8] {
        let answer = try await self.organizationResource(
            organization,
            path: ["records", String(sequence)],
            parameters: []
        )
        // {"record":…,"checksum":"64 digits"}: the record stands there byte for byte.
        let head = Array(#"{"record":"#.utf8)
        let tail = Array(#","checksum":""#.utf8).count + 64 + 2
        guard answer.starts(with: head), answer.count > head.count + tail else {
            throw ClientError(.unexpectedAnswer, "the answer does not have the form of a record")
        }
        return Array(answer[head.count..<answer.count - tail])
    }
}
