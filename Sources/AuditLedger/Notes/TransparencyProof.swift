package import Primitives

/// A receipt: a record's place, its inclusion proof and the signed checkpoint that it leads to (C2SP tlog-proof).
///
/// It needs nothing but the record's bytes and a policy to be verified, now and in ten years.
package struct TransparencyProof: Hashable, Sendable {
    package static let extraBytesMax = 64 << 10
    static let bytesMax = SignedNote.bytesMax + 2 * Self.extraBytesMax
    private static let header = Array("c2sp.org/tlog-proof@v1".utf8)
    private static let extraLead = Array("extra ".utf8)
    private static let indexLead = Array("index ".utf8)

    /// Bytes for the application, not covered by any signature: never trust them.
    package let extra: [UInt8]?
    /// The place and path of the record in the checkpoint's tree.
    package let inclusion: InclusionProof
    package let checkpoint: SignedCheckpoint

    /// - Throws: ``NoteError`` `.malformedLine` when the proof is for another size than the checkpoint, or `extra` is
    ///   empty; `.tooLarge`.
    package init(
        inclusion: InclusionProof,
        checkpoint: SignedCheckpoint,
        extra: [UInt8]? = nil
    ) throws(NoteError) {
        guard inclusion.size == checkpoint.checkpoint.size else {
            throw NoteError(.malformedLine, "the proof is for another size than the checkpoint")
        }
        guard extra.map({ !$0.isEmpty }) ?? true else { throw NoteError(.malformedLine, "extra data is empty") }
        guard (extra?.count ?? 0) <= Self.extraBytesMax else {
            throw NoteError(.tooLarge, "more than \(Self.extraBytesMax) bytes of extra data")
        }
        guard inclusion.path.count <= InclusionProof.pathMax else {
            throw NoteError(.tooLarge, "more than \(InclusionProof.pathMax) hashes")
        }
        self.extra = extra
        self.inclusion = inclusion
        self.checkpoint = checkpoint
    }

    /// Reads a proof; says nothing about whether it holds.
    ///
    /// - Throws: ``NoteError`` `.tooLarge`, `.truncated`, `.malformedLine`, `.malformedNumber`, `.numberTooLarge`,
    ///   `.nonCanonicalBase64`, `.malformedHash`, and those of ``SignedCheckpoint``.
    package init(parsing bytes: some Collection<UInt8>) throws(NoteError) {
        let bytes = Array(bytes)
        var reader = try LineReader(bytes[...], bytesMax: Self.bytesMax)
        guard try reader.readLine() == Self.header[...] else {
            throw NoteError(.malformedLine, "line 1: not a tlog-proof of version 1")
        }
        var line = try reader.readLine()
        var extra: [UInt8]?
        if line.starts(with: Self.extraLead) {
            extra = try StrictText.base64(line.dropFirst(Self.extraLead.count), line: reader.line)
            line = try reader.readLine()
        }
        guard line.starts(with: Self.indexLead) else {
            throw NoteError(.malformedLine, "line \(reader.line): the index is missing")
        }
        let index = try StrictText.number(line.dropFirst(Self.indexLead.count), line: reader.line)
        var path: [Digest] = []
        while true {
            let line = try reader.readLine()
            if line.isEmpty { break }
            guard path.count < InclusionProof.pathMax else {
                throw NoteError(.tooLarge, "more than \(InclusionProof.pathMax) hashes")
            }
            path.append(try StrictText.digest(line, line: reader.line))
        }
        let checkpoint = try SignedCheckpoint(parsing: reader.rest)
        let inclusion = InclusionProof(index: index, size: checkpoint.checkpoint.size, path: path)
        try self.init(inclusion: inclusion, checkpoint: checkpoint, extra: extra)
    }

    /// The text of the proof.
    package var encoded: [UInt8] {
        var text = Self.header + [UInt8(ascii: "\n")]
        if let extra {
            text += Self.extraLead
            Base64.append(extra, to: &text)
            text.append(UInt8(ascii: "\n"))
        }
        text += Self.indexLead
        StrictText.append(self.inclusion.index, to: &text)
        text.append(UInt8(ascii: "\n"))
        for digest in self.inclusion.path { StrictText.appendLine(digest, to: &text) }
        text.append(UInt8(ascii: "\n"))
        return text + self.checkpoint.encoded
    }

    /// Checks that the record with this checksum is in the checkpoint's tree.
    ///
    /// Half of a verification: whose checkpoint it is, ``CheckpointVerifier`` says.
    /// - Throws: ``ProofError`` `.emptyTree`, `.beyondTree`, `.wrongLength`, `.rootMismatch`.
    package func verifyInclusion(checksum: Digest) throws(ProofError) {
        try self.inclusion.verify(leaf: checksum, in: self.checkpoint.checkpoint.head)
    }
}
