internal import Primitives

/// The file with the key under which a node keeps the keys of data subjects: one line, `flasktrack-sealing-key-1` and 64
/// hexadecimal digits.
///
/// It never leaves the node. Without it the node's copies of subject keys cannot be read; the other replicas have theirs.
package struct SealingKeyFile: Sendable {
    private static let mark = "flasktrack-sealing-key-1 "
    static let keyByteCount = 32

    package let path: String

    package init(path: String) { self.path = path }

    /// Makes a key from the system's chance and writes it, for the owner alone.
    /// - Throws: ``PKIError``.
    package func make(replacing: Bool) throws(PKIError) {
        let text = Self.mark + RandomText.hex(bytes: Self.keyByteCount) + "\n"
        try WholeTextFile.write(text, to: self.path, for: .owner, replacing: replacing)
    }

    /// The key, 32 bytes.
    /// - Throws: ``PKIError`` `.unreadableFile`, `.malformed`.
    package func read() throws(PKIError) -> [UInt8] {
        let text = try WholeTextFile.read(self.path)
        let line = text.hasSuffix("\n") ? text.dropLast() : text[...]
        guard line.hasPrefix(Self.mark), let key = Digest(hex: line.dropFirst(Self.mark.count)) else {
            throw PKIError(.malformed, "\(self.path) is not a sealing key; `ftnode pki sealing-key` makes one")
        }
        return key.bytes
    }
}
