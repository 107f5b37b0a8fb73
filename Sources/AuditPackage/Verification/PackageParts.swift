internal import AuditLedger
internal import Primitives

/// The parts of an archive, each held against the manifest.
struct PackageParts: Sendable {
    let archive: ZipArchive
    let manifestBytes: [UInt8]
    let manifest: PackageManifest
    private let files: [String: PackageManifest.File]

    /// - Throws: ``PackageError`` when there is nothing that could be judged.
    init(_ bytes: any PackageBytes) throws(PackageError) {
        self.archive = try ZipArchive(bytes)
        guard let member = self.archive.member(PackageLayout.manifest) else {
            throw PackageError(.missingPart, "the archive has no \(PackageLayout.manifest): it is no audit package")
        }
        self.manifestBytes = try self.archive.content(of: member).bytes
        self.manifest = try PackageManifest(parsing: self.manifestBytes)
        var files: [String: PackageManifest.File] = [:]
        for file in self.manifest.files {
            guard files.updateValue(file, forKey: file.name) == nil else {
                throw PackageError(.malformed, "the manifest names a part twice")
            }
        }
        self.files = files
    }

    /// A part, and what its bytes have to do with the manifest.
    struct Part: Sendable {
        let name: String
        /// Nil when it is not there.
        let bytes: [UInt8]?
        let finding: PackageFinding?
    }

    /// - Throws: `.io`, `.contradiction`.
    func part(_ name: String) throws(PackageError) -> Part {
        guard let member = self.archive.member(name) else {
            guard self.files[name] != nil else { return Part(name: name, bytes: nil, finding: nil) }
            let finding = PackageFinding(.missing, file: name, "the part is named by the manifest and not there")
            return Part(name: name, bytes: nil, finding: finding)
        }
        let (bytes, isIntact) = try self.archive.content(of: member)
        var finding: PackageFinding?
        if let file = self.files[name] {
            if file.size != bytes.count || file.sha256 != PackageManifest.hash(bytes) {
                finding = PackageFinding(.changedFile, file: name, "the bytes are not those that the manifest names")
            } else if !isIntact {
                finding = PackageFinding(.changedFile, file: name, "the bytes have not the archive's checksum")
            }
        }
        return Part(name: name, bytes: bytes, finding: finding)
    }

    /// Parts that nobody expects, and parts that the manifest names and that are not there.
    ///
    /// - Parameter expected: Whether a name is one that such a package has.
    func namesFindings(isExpected: (String) -> Bool) -> [PackageFinding] {
        var findings: [PackageFinding] = []
        for member in self.archive.members where self.files[member.name] == nil {
            guard member.name != PackageLayout.manifest, member.name != PackageLayout.manifestSignature else {
                continue
            }
            findings.append(PackageFinding(.extraFile, file: member.name, "the manifest does not know this part"))
        }
        for file in self.manifest.files {
            if !isExpected(file.name) {
                findings.append(PackageFinding(.extraFile, file: file.name, "no package of this kind has such a part"))
            } else if self.archive.member(file.name) == nil {
                findings.append(
                    PackageFinding(.missing, file: file.name, "the part is named by the manifest and not there")
                )
            }
        }
        return findings
    }
}
