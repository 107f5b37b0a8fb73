/// What a replica or a witness signs: a checkpoint and the time at which it was the largest one it had seen.
///
/// - Source: C2SP tlog-cosignature, section Ed25519 signed message.
package enum Cosignature {
    /// The latest time, 2^63 − 1.
    package static let timeSecondsMax = UInt64(Int64.max)

    /// Two header lines before the text of the checkpoint.
    static func message(text: [UInt8], timeSeconds: UInt64) -> [UInt8] {
        Array("cosignature/v1\ntime \(timeSeconds)\n".utf8) + text
    }
}

extension NoteSignerKey {
    /// Signs the text of a note.
    ///
    /// - Throws: ``NoteError`` `.unsupportedSignatureType` when the key is for cosignatures.
    package func signature(over text: [UInt8]) throws(NoteError) -> NoteSignature {
        guard self.type == .ed25519 else {
            throw NoteError(.unsupportedSignatureType, "key \(self) is for cosignatures")
        }
        return NoteSignature(name: self.name, id: self.verifierKey.id, signature: try self.sign(text))
    }

    /// Signs a checkpoint at a time.
    ///
    /// The caller has first stored durably that it signed this size and root: ``HeadHistory``.
    /// - Throws: ``NoteError`` `.unsupportedSignatureType` when the key is not for cosignatures, `.numberTooLarge`.
    package func cosignature(over checkpoint: Checkpoint, timeSeconds: UInt64) throws(NoteError) -> NoteSignature {
        guard self.type == .cosignature else {
            throw NoteError(.unsupportedSignatureType, "key \(self) is not for cosignatures")
        }
        guard timeSeconds <= Cosignature.timeSecondsMax else {
            throw NoteError(.numberTooLarge, "a time beyond 2^63 - 1 seconds")
        }
        let message = Cosignature.message(text: checkpoint.text, timeSeconds: timeSeconds)
        let time = withUnsafeBytes(of: timeSeconds.bigEndian) { Array($0) }
        return NoteSignature(name: self.name, id: self.verifierKey.id, signature: time + (try self.sign(message)))
    }
}
