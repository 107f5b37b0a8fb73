package import Primitives

/// Two signed checkpoints of one log that cannot both be true: evidence for anyone who has the keys.
///
/// Either both have one size and different roots, or a consistency proof shows that the larger tree has another root at
/// the smaller one's size than the smaller one says.
package struct ForkProof: Hashable, Sendable {
    /// What connects checkpoints of different sizes.
    package struct Link: Hashable, Sendable {
        /// The root that the larger tree has at the smaller size.
        package let root: Digest
        /// The consistency proof from that root to the larger tree's.
        package let path: [Digest]

        package init(root: Digest, path: [Digest]) {
            self.root = root
            self.path = path
        }
    }

    /// Who signed what.
    package struct Verdict: Hashable, Sendable {
        /// Keys that signed the smaller checkpoint (or the first, when the sizes are equal).
        package let olderSigners: [NoteVerifierKey]
        package let newerSigners: [NoteVerifierKey]
        /// Keys that signed both: whoever holds them broke the rule of ``HeadHistory``.
        package var equivocators: [NoteVerifierKey] { self.olderSigners.filter(self.newerSigners.contains) }
    }

    static let bytesMax = 2 * SignedNote.bytesMax + (8 << 10)
    private static let header = Array("flasktrack/fork-proof@v1".utf8)
    private static let rootLead = Array("root ".utf8)
    private static let pathLead = Array("path ".utf8)
    private static let noteLead = Array("note ".utf8)

    package let older: SignedCheckpoint
    package let newer: SignedCheckpoint
    /// Nil when the sizes are equal.
    package let link: Link?

    /// - Throws: ``NoteError`` `.notAFork` when the checkpoints do not contradict each other.
    package init(_ older: SignedCheckpoint, _ newer: SignedCheckpoint, link: Link? = nil) throws(NoteError) {
        let (old, new) = (older.checkpoint, newer.checkpoint)
        guard old.origin == new.origin else { throw NoteError(.notAFork, "the checkpoints are of different logs") }
        guard old.size <= new.size, (old.size < new.size) == (link != nil) else {
            throw NoteError(.notAFork, "a link is needed for different sizes, the smaller one first, and only then")
        }
        guard (link?.root ?? new.root) != old.root else {
            throw NoteError(.notAFork, "the checkpoints agree at size \(old.size)")
        }
        if let link {
            do {
                try ConsistencyProof(oldSize: old.size, newSize: new.size, path: link.path)
                    .verify(oldRoot: link.root, newRoot: new.root)
            } catch {
                throw NoteError(.notAFork, "the link does not lead to the larger checkpoint", cause: error)
            }
        }
        self.older = older
        self.newer = newer
        self.link = link
    }

    /// Checks that both checkpoints are signed by known keys.
    ///
    /// - Throws: ``NoteError`` `.unknownSigner`, `.badSignature`, `.repeatedSigner`, `.ambiguousKey`.
    package func verify(keys: [NoteVerifierKey]) throws(NoteError) -> Verdict {
        Verdict(
            olderSigners: try self.older.note.verify(keys: keys).map(\.key),
            newerSigners: try self.newer.note.verify(keys: keys).map(\.key)
        )
    }

    /// Reads a fork proof; says nothing about its signatures.
    ///
    /// - Throws: ``NoteError`` `.tooLarge`, `.truncated`, `.malformedLine`, `.notAFork`, and those of
    ///   ``SignedCheckpoint``.
    package init(parsing bytes: some Collection<UInt8>) throws(NoteError) {
        let bytes = Array(bytes)
        var reader = try LineReader(bytes[...], bytesMax: Self.bytesMax)
        guard try reader.readLine() == Self.header[...] else {
            throw NoteError(.malformedLine, "line 1: not a fork proof of version 1")
        }
        var line = try reader.readLine()
        var link: Link?
        if line.starts(with: Self.rootLead) {
            let root = try StrictText.digest(line.dropFirst(Self.rootLead.count), line: reader.line)
            var path: [Digest] = []
            line = try reader.readLine()
            while line.starts(with: Self.pathLead) {
                guard path.count < ConsistencyProof.pathMax else {
                    throw NoteError(.tooLarge, "more than \(ConsistencyProof.pathMax) hashes")
                }
                path.append(try StrictText.digest(line.dropFirst(Self.pathLead.count), line: reader.line))
                line = try reader.readLine()
            }
            link = Link(root: root, path: path)
        }
        let older = try Self.readNote(after: line, from: &reader)
        let newer = try Self.readNote(after: try reader.readLine(), from: &reader)
        guard reader.isAtEnd else { throw NoteError(.malformedLine, "something follows the second note") }
        try self.init(older, newer, link: link)
    }

    private static func readNote(
        after line: ArraySlice<UInt8>,
        from reader: inout LineReader
    ) throws(NoteError) -> SignedCheckpoint {
        guard line.starts(with: self.noteLead) else {
            throw NoteError(.malformedLine, "line \(reader.line): expected a note and its length")
        }
        let count = try StrictText.number(line.dropFirst(self.noteLead.count), line: reader.line)
        guard count <= UInt64(SignedNote.bytesMax) else {
            throw NoteError(.tooLarge, "more than \(SignedNote.bytesMax) bytes")
        }
        return try SignedCheckpoint(parsing: try reader.read(count: Int(count)))
    }

    /// The text of the proof.
    package var encoded: [UInt8] {
        var text = Self.header + [UInt8(ascii: "\n")]
        if let link {
            text += Self.rootLead
            StrictText.appendLine(link.root, to: &text)
            for digest in link.path {
                text += Self.pathLead
                StrictText.appendLine(digest, to: &text)
            }
        }
        for note in [self.older.encoded, self.newer.encoded] {
            text += Self.noteLead
            StrictText.append(UInt64(note.count), to: &text)
            text.append(UInt8(ascii: "\n"))
            text += note
        }
        return text
    }
}
