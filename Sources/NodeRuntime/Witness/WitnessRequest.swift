internal import AuditLedger
internal import Primitives

/// What a log asks of a witness: to cosign a checkpoint that continues the last one.
///
/// - Source: C2SP tlog-witness, section add-checkpoint.
struct WitnessRequest: Sendable, Equatable {
    /// A request has at most this many bytes.
    static let bytesMax = 128 << 10
    /// A proof has at most this many lines.
    static let pathMax = 63

    /// The size of the last checkpoint that the witness is thought to have cosigned.
    let oldSize: UInt64
    /// From the old size to the checkpoint's.
    let path: [Digest]
    let checkpoint: SignedCheckpoint

    init(oldSize: UInt64, path: [Digest], checkpoint: SignedCheckpoint) {
        self.oldSize = oldSize
        self.path = path
        self.checkpoint = checkpoint
    }

    /// Reads the body of a request.
    /// - Throws: ``NoteError``.
    init(parsing bytes: [UInt8]) throws(NoteError) {
        guard bytes.count <= Self.bytesMax else { throw NoteError(.tooLarge, "more than \(Self.bytesMax) bytes") }
        var rest = bytes[...]
        func line() throws(NoteError) -> ArraySlice<UInt8> {
            guard let end = rest.firstIndex(of: UInt8(ascii: "\n")) else {
                throw NoteError(.truncated, "a line is missing or not complete")
            }
            defer { rest = rest[(end + 1)...] }
            return rest[..<end]
        }
        let lead = Array("old ".utf8)
        let first = try line()
        let digits = String(decoding: first.dropFirst(lead.count), as: UTF8.self)
        // The one check against signs, leading zeros and all else that has two spellings.
        guard first.starts(with: lead), let oldSize = UInt64(digits), String(oldSize) == digits,
            oldSize <= MerkleTree.sizeMax
        else { throw NoteError(.malformedLine, "line 1: the old size is missing") }
        var path: [Digest] = []
        while true {
            let text = try line()
            if text.isEmpty { break }
            guard path.count < Self.pathMax else { throw NoteError(.tooLarge, "more than \(Self.pathMax) hashes") }
            guard let digest = Base64.decode(text).flatMap({ Digest(bytes: $0) }) else {
                throw NoteError(.malformedHash, "line \(path.count + 2): a hash is 32 bytes in base64")
            }
            path.append(digest)
        }
        self.init(oldSize: oldSize, path: path, checkpoint: try SignedCheckpoint(parsing: rest))
    }

    /// The body of the request.
    var encoded: [UInt8] {
        var text = Array("old \(self.oldSize)\n".utf8)
        for digest in self.path {
            Base64.append(digest.bytes, to: &text)
            text.append(UInt8(ascii: "\n"))
        }
        text.append(UInt8(ascii: "\n"))
        return text + self.checkpoint.encoded
    }
}
