internal import AuditLedger

/// Reads all that a package is made of, without judging it: what fuzzing drives.
package enum PackageProbe {
    /// Reads the archive, every member, and every part that has a form.
    ///
    /// - Throws: ``PackageError``, and nothing else happens to bytes of strangers.
    package static func read(_ bytes: [UInt8]) throws(PackageError) {
        let archive = try ZipArchive(PackageArray(bytes))
        for member in archive.members {
            let content = try archive.content(of: member).bytes
            try self.read(part: member.name, content)
        }
    }

    /// Reads one part, by its name.
    package static func read(part name: String, _ content: [UInt8]) throws(PackageError) {
        switch name {
        case PackageLayout.manifest:
            let manifest = try PackageManifest(parsing: content)
            // What is read is written again as a manifest that says the same.
            guard let again = try? PackageManifest(parsing: manifest.encoded), again == manifest else {
                preconditionFailure("a manifest survives being written")
            }
        case PackageLayout.keys:
            let keys = try PackageKey.parse(content)
            guard let again = try? PackageKey.parse(PackageKey.encode(keys)), again == keys else {
                preconditionFailure("keys survive being written")
            }
        case _ where name.hasPrefix(PackageLayout.outlineFolder):
            var fold = SubtreeFold()
            for line in content.split(separator: 0x0A) {
                guard let line = OutlineLine(line) else { continue }
                _ = fold.add(line.hash, level: line.level)
            }
            _ = fold.root
        default: break
        }
    }
}
