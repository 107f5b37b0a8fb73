package import AuditLedger
package import Primitives

/// The file with the keys with which a node signs checkpoints: one line for each, the one in use first.
///
/// A second line is the key before, with which the node goes on signing until its validity ends. Lines are C2SP private
/// keys (`PRIVATE+KEY+name+id+base64`) of type 4; the name is `<cluster>/node-N`. The same 32 secret bytes sign as the
/// log, under the name of the log.
package struct SigningKeyFile: Sendable {
    /// Keys that a file may hold.
    package static let keysMax = 4

    package let path: String

    package init(path: String) { self.path = path }

    /// Where the public key lies beside `NAME.signing.key`; nil when the file has another name.
    package var verifierKeyPath: String? {
        let suffix = ".signing.key"
        return self.path.hasSuffix(suffix) ? self.path.dropLast(suffix.count) + ".vkey" : nil
    }

    /// The name of a node's keys.
    /// - Throws: ``NoteError`` `.malformedKeyName`.
    package static func name(cluster: String, node: NodeID) throws(NoteError) -> NoteKeyName {
        try NoteKeyName("\(cluster)/\(PKIFolder.name(of: node))")
    }

    /// Makes a key from the system's chance.
    /// - Throws: ``PKIError`` `.invalidArgument`.
    package static func makeKey(cluster: String, node: NodeID) throws(PKIError) -> NoteSignerKey {
        try self.makeKey(named: "\(cluster)/\(PKIFolder.name(of: node))")
    }

    /// Makes a key for cosignatures from the system's chance.
    /// - Throws: ``PKIError`` `.invalidArgument`.
    package static func makeKey(named name: String) throws(PKIError) -> NoteSignerKey {
        var generator = SystemRandomNumberGenerator()  // ambient-ok: a secret must be of the system's chance
        var seed: [UInt8] = []
        while seed.count < 32 { withUnsafeBytes(of: generator.next()) { seed.append(contentsOf: $0) } }
        do {
            return try NoteSignerKey(name: try NoteKeyName(name), type: .cosignature, seed: seed)
        } catch {
            throw PKIError(.invalidArgument, "\"\(name)\" cannot be the name of a key", cause: error)
        }
    }

    /// Makes a key and writes `PREFIX.key`, for the owner alone, and `PREFIX.vkey`.
    /// - Throws: ``PKIError``; also when `PREFIX.key` exists.
    package static func makeFiles(named name: String, prefix: String) throws(PKIError) {
        let key = try self.makeKey(named: name)
        try SigningKeyFile(path: prefix + ".key").write([key], replacing: false)
        try self.writePublic(key.verifierKey, to: prefix + ".vkey", replacing: true)
    }

    /// The keys, the one in use first.
    /// - Throws: ``PKIError`` `.unreadableFile`, `.malformed`; also for a key of another node or cluster.
    package func read(cluster: String, node: NodeID) throws(PKIError) -> [NoteSignerKey] {
        let keys = try self.read()
        guard let name = try? Self.name(cluster: cluster, node: node), keys.allSatisfy({ $0.name == name }) else {
            throw PKIError(.malformed, "\(self.path) is not a key of node \(node) of cluster \"\(cluster)\"")
        }
        return keys
    }

    /// The keys, whoever they belong to.
    /// - Throws: ``PKIError`` `.unreadableFile`, `.malformed`.
    package func read() throws(PKIError) -> [NoteSignerKey] {
        let text = try WholeTextFile.read(self.path)
        var keys: [NoteSignerKey] = []
        for line in text.utf8.split(separator: UInt8(ascii: "\n")) {
            guard let key = try? NoteSignerKey(parsing: Array(line)), key.type == .cosignature,
                keys.count < Self.keysMax
            else {
                throw PKIError(
                    .malformed,
                    "\(self.path) is not made of 1 to \(Self.keysMax) private keys for cosignatures, one a line"
                )
            }
            keys.append(key)
        }
        guard !keys.isEmpty else { throw PKIError(.malformed, "\(self.path) holds no key") }
        return keys
    }

    /// Writes the keys, the one in use first, for the owner alone.
    /// - Throws: ``PKIError``.
    package func write(_ keys: [NoteSignerKey], replacing: Bool) throws(PKIError) {
        precondition((1...Self.keysMax).contains(keys.count), "a file of keys is neither empty nor long")
        let lines = keys.map { String(decoding: $0.secretText, as: UTF8.self) + "\n" }
        try WholeTextFile.write(lines.joined(), to: self.path, for: .owner, replacing: replacing)
    }

    /// Writes the public key of `key` to `path`, for everybody.
    /// - Throws: ``PKIError``.
    package static func writePublic(
        _ key: NoteVerifierKey,
        to path: String,
        replacing: Bool
    ) throws(PKIError) {
        let text = String(decoding: key.text, as: UTF8.self) + "\n"
        try WholeTextFile.write(text, to: path, for: .everybody, replacing: replacing)
    }
}
