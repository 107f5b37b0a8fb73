package import AuditLedger
internal import Primitives

/// What a node signs of a package: the hash of its manifest, which names the hash of everything else.
///
/// A signed note (C2SP signed-note) with two lines of text: this form's name, and the hash in hexadecimal digits. The
/// first line is no origin and no checkpoint has two lines, so that neither can be taken for the other.
package enum ManifestNote {
    private static let header = "flask-track-audit-manifest/1"

    /// The text for a manifest.
    static func text(manifest: [UInt8]) -> [UInt8] {
        Array("\(self.header)\n\(PackageManifest.hash(manifest).hex)\n".utf8)
    }

    /// Signs a manifest.
    package static func sign(manifest: [UInt8], key: NoteSignerKey) throws(NoteError) -> [UInt8] {
        var note = try SignedNote(text: self.text(manifest: manifest))
        try note.add(try key.signature(over: note.text))
        return note.encoded
    }

    /// Who signed the manifest.
    ///
    /// - Throws: ``NoteError``; `.malformedLine` when the note is about another manifest.
    package static func verify(
        _ bytes: [UInt8],
        manifest: [UInt8],
        keys: [NoteVerifierKey]
    ) throws(NoteError) -> [NoteVerifierKey] {
        let note = try SignedNote(parsing: bytes)
        guard note.text == self.text(manifest: manifest) else {
            throw NoteError(.malformedLine, "the note is about another manifest")
        }
        return try note.verify(keys: keys).map(\.key)
    }
}
