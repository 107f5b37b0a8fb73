internal import AuditLedger

/// VERIFY.txt: how to check the package without trusting whoever made it.
enum InstructionText {
    static func text(_ manifest: PackageManifest) -> [UInt8] {
        let head = """
            How to check this package
            =========================

            It holds records of the log \(manifest.origin)
            up to the checkpoint of \(manifest.size) records.

            You need the public keys of the cluster's nodes from a source that is not this package: from an earlier
            audit, from a witness, or from `GET /v1/keys` of a cluster that you reach by yourself. Keys that come with
            the package show only that the package agrees with itself.

            1. With our verifier (no database, no network):

                   ftverify --keys KEYS PACKAGE.zip

               Exit code 0: valid. 1: tampered, the first bad record is named. 2: incomplete. 3: the policy is not
               met, or no keys were given. 4: unreadable.

            2. With a page of Python (standard library and `cryptography`), Documentation/verify/verify.py of the
               source: python3 verify.py PACKAGE.zip KEYS


            """
        let rest = manifest.kind == .full ? self.full : self.selection
        return Array((head + rest + self.format).utf8)
    }

    private static let full = """
        3. With tools of other makers: unzip the package. `checkpoint` and `tile/` are a log as C2SP tlog-tiles
           describes it, so that any of its verifiers can read the directory as a log; `policy.txt` is a C2SP
           tlog-policy.


        """

    private static let selection = """
        3. With tools of other makers: unzip the package. Each `proofs/N.tlog-proof` is a C2SP tlog-proof for the
           line of `records/` whose sequence is N, without its newline; `policy.txt` is a C2SP tlog-policy.

        Records that are left out are shown to exist: each line of `outline/` is a node of the tree, either the
        checksum of a record that is shown, or the root over 2^level records that are not, from `sequence` on.
        Together they give the root of the checkpoint. Whether the right records were chosen the outline cannot say.


        """

    private static let format = """
        Beside the records
        ------------------

        `personal/openings.ndjson`, when it was asked for: personal values that you may see. Each is the one that the
        record commits to: {"$commitment": SHA-256("flasktrack/personal/1\\n" || u16 length || organization || salt ||
        u32 length || value)}, lengths big-endian, the value as canonical JSON.
        `personal/erasures.ndjson`: records about erased data subjects, each with its C2SP tlog-proof: their values can
        be opened by nobody, and everything else of their records verifies as before.
        `scrub/`: signed notes of nodes that have read all their bytes again. `forks/`: proofs that two histories were
        signed; with one of these nothing that the cluster says may be relied upon without asking why.

        What is hashed
        --------------

            checksum(record)  = SHA-256(0x00 || bytes of the record)
            node(left, right) = SHA-256(0x01 || left || right)

        The root of the checkpoint is the Merkle tree hash of RFC 6962 over the checksums of records 1, 2, 3, ... A
        record is canonical JSON (RFC 8785); its member `previous` is the checksum of the record before, 64 zeros in
        the first; `sequence` counts up from 1; `recorded_at` never goes back. The checkpoint is a C2SP signed note:
        the log's signature is Ed25519 over the text, a cosignature is Ed25519 over
        "cosignature/v1\\ntime T\\n" and the text.

        """
}
