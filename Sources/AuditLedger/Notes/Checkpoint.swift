package import Primitives

/// Which log a checkpoint is about: one line of text, compared as bytes; ours are `<cluster>/<organization>`.
package struct LogOrigin: Hashable, Sendable, CustomStringConvertible {
    /// As long as an origin in a cosignature may be.
    package static let bytesMax = 255

    package let bytes: [UInt8]

    /// - Throws: ``NoteError`` `.malformedOrigin`.
    package init(_ bytes: some Collection<UInt8>) throws(NoteError) {
        let bytes = Array(bytes)
        guard !bytes.isEmpty, bytes.count <= Self.bytesMax, bytes.allSatisfy({ $0 >= 0x20 }),
            String(validating: bytes, as: UTF8.self) != nil
        else {
            throw NoteError(.malformedOrigin, "an origin is one line of 1 to \(Self.bytesMax) bytes of UTF-8")
        }
        self.bytes = bytes
    }

    package init(_ text: String) throws(NoteError) { try self.init(text.utf8) }

    /// `<cluster>/<organization>`, which is also the name of the key that signs it.
    ///
    /// - Throws: ``NoteError`` `.malformedKeyName`, `.malformedOrigin`.
    package init(cluster: String, organization: OrganizationKey) throws(NoteError) {
        try self.init("\(cluster)/\(organization.rawValue)")
        _ = try self.keyName
    }

    /// The key name that equals this origin.
    ///
    /// - Throws: ``NoteError`` `.malformedKeyName` when it contains a space or a plus sign.
    package var keyName: NoteKeyName {
        get throws(NoteError) { try NoteKeyName(self.bytes) }
    }

    package var description: String { String(decoding: self.bytes, as: UTF8.self) }
}

/// The statement «log O has N records and Merkle root R»; the text of a note (C2SP tlog-checkpoint).
package struct Checkpoint: Hashable, Sendable {
    /// A checkpoint has at most this many extension lines; ours have none.
    package static let extensionsMax = 32
    static let bytesMax = 64 << 10

    package let origin: LogOrigin
    /// The number of records, at most 2^63 − 1.
    package let size: UInt64
    package let root: Digest
    /// Lines of other logs that mean nothing here and are signed all the same.
    package let extensions: [[UInt8]]

    /// A checkpoint of ours.
    package init(origin: LogOrigin, size: UInt64, root: Digest) {
        precondition(size <= MerkleTree.sizeMax, "the size of a tree fits 63 bits")
        self.origin = origin
        self.size = size
        self.root = root
        self.extensions = []
    }

    /// Reads the text of a note.
    ///
    /// - Throws: ``NoteError`` `.tooLarge`, `.truncated`, `.invalidText`, `.malformedOrigin`, `.malformedNumber`,
    ///   `.numberTooLarge`, `.nonCanonicalBase64`, `.malformedHash`, `.blankLine`.
    package init(parsing text: [UInt8]) throws(NoteError) {
        var reader = try LineReader(text[...], bytesMax: Self.bytesMax)
        self.origin = try LogOrigin(try reader.readLine())
        self.size = try StrictText.number(try reader.readLine(), line: 2)
        self.root = try StrictText.digest(try reader.readLine(), line: 3)
        try StrictText.checkText(reader.rest)
        var extensions: [[UInt8]] = []
        while !reader.isAtEnd {
            guard extensions.count < Self.extensionsMax else {
                throw NoteError(.tooLarge, "more than \(Self.extensionsMax) extension lines")
            }
            let line = try reader.readLine()
            guard !line.isEmpty else { throw NoteError(.blankLine, "line \(reader.line) is blank") }
            extensions.append(Array(line))
        }
        self.extensions = extensions
    }

    /// The text that is signed.
    package var text: [UInt8] {
        var text = self.origin.bytes
        text.append(UInt8(ascii: "\n"))
        StrictText.append(self.size, to: &text)
        text.append(UInt8(ascii: "\n"))
        StrictText.appendLine(self.root, to: &text)
        for line in self.extensions { text += line + [UInt8(ascii: "\n")] }
        return text
    }
}

/// A note whose text is a checkpoint, with the signatures of the log, of replicas and of witnesses.
package struct SignedCheckpoint: Hashable, Sendable {
    package let checkpoint: Checkpoint
    package private(set) var note: SignedNote

    /// A checkpoint without signatures yet.
    package init(_ checkpoint: Checkpoint) throws(NoteError) {
        self.checkpoint = checkpoint
        self.note = try SignedNote(text: checkpoint.text)
    }

    /// Reads a signed checkpoint; says nothing about its signatures.
    ///
    /// - Throws: ``NoteError`` of ``SignedNote`` and ``Checkpoint``.
    package init(parsing bytes: some Collection<UInt8>) throws(NoteError) {
        self.note = try SignedNote(parsing: bytes)
        self.checkpoint = try Checkpoint(parsing: self.note.text)
    }

    /// The note as it is sent and stored.
    package var encoded: [UInt8] { self.note.encoded }

    /// Signs as the log.
    package mutating func sign(_ key: NoteSignerKey) throws(NoteError) {
        try self.note.add(try key.signature(over: self.note.text))
    }

    /// Signs as a replica or witness; see ``NoteSignerKey/cosignature(over:timeSeconds:)``.
    package mutating func cosign(_ key: NoteSignerKey, timeSeconds: UInt64) throws(NoteError) {
        try self.note.add(try key.cosignature(over: self.checkpoint, timeSeconds: timeSeconds))
    }

    /// Adds signatures that others made of the same checkpoint; they are not checked here.
    package mutating func add(_ signatures: [NoteSignature]) throws(NoteError) {
        for signature in signatures { try self.note.add(signature) }
    }
}
