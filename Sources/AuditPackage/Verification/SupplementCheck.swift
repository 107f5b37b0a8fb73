internal import AuditLedger
internal import Primitives

/// Checks what a package holds beside its records: opened personal values against the commitments in the records,
/// records about erasures against the signed root, notes of re-readings and fork proofs against the keys.
struct SupplementCheck {
    /// Findings of one kind; more of them say nothing new.
    private static let findingsMax = 32

    private(set) var result = ContentResult()
    private(set) var remarks: [String] = []

    private let parts: PackageParts
    private let checkpoint: Checkpoint
    private let organization: OrganizationKey

    init(
        _ parts: PackageParts,
        checkpoint: Checkpoint,
        organization: OrganizationKey,
        keys: [PackageKey],
        rootAt: (UInt64) throws(PackageError) -> Digest?
    ) throws(PackageError) {
        self.parts = parts
        self.checkpoint = checkpoint
        self.organization = organization
        try self.checkOpenings()
        try self.checkErasures()
        try self.checkScrubs(keys, rootAt)
        try self.checkForks(keys)
    }

    /// The numbered parts of a folder.
    private func names(_ folder: String) -> [String] {
        self.parts.manifest.files.map(\.name).filter { $0.hasPrefix(folder) }.sorted()
    }

    private mutating func add(
        _ kind: PackageFinding.Kind,
        _ sequence: UInt64? = nil,
        file: String,
        _ detail: String
    ) {
        guard self.result.findings.count < Self.findingsMax else { return }
        self.result.findings.append(
            PackageFinding(kind, sequence: sequence.map { SequenceNumber($0) }, file: file, detail)
        )
    }

    private mutating func lines(_ file: String) throws(PackageError) -> [[UInt8]]? {
        guard self.parts.manifest.files.contains(where: { $0.name == file }) else { return nil }
        let part = try self.parts.part(file)
        self.result.add(part)
        return part.bytes.map { $0.split(separator: 0x0A).map { Array($0) } }
    }

    // MARK: Openings

    private mutating func checkOpenings() throws(PackageError) {
        let file = PackageLayout.openings
        guard let lines = try self.lines(file) else { return }
        guard lines.count <= PackageSupplement.openingsMax else {
            throw PackageError(.tooLarge, "\(file) opens more than \(PackageSupplement.openingsMax) values")
        }
        var openings: [UInt64: [PackageSupplement.Opening]] = [:]
        for (number, line) in lines.enumerated() {
            guard let opening = PackageSupplement.Opening(line) else {
                self.add(.openingMismatch, file: file, "line \(number + 1) opens no value")
                continue
            }
            openings[opening.sequence, default: []].append(opening)
        }
        let total = openings.values.reduce(0) { $0 + $1.count }
        var seen: Set<UInt64> = []
        var wrong: [(sequence: UInt64, path: String)] = []
        let records = ShownRecords(parts: self.parts, size: self.checkpoint.size)
        let organization = self.organization
        try records.forEach(openings.keys.sorted()) { sequence, record in
            seen.insert(sequence)
            let commitments = (try? PersonalCommitment.all(in: record)) ?? []
            for opening in openings[sequence] ?? [] {
                let wanted = PersonalCommitment.commit(organization, salt: opening.salt, value: opening.value)
                let isRight = commitments.contains { $0.field == opening.field && $0.commitment == wanted }
                if !isRight { wrong.append((sequence, opening.field.path)) }
            }
        }
        for (sequence, path) in wrong {
            self.add(.openingMismatch, sequence, file: file, "the record commits to another value of \(path)")
        }
        for sequence in openings.keys.filter({ !seen.contains($0) }).sorted() {
            self.add(.openingMismatch, sequence, file: file, "the value is of a record that is not shown")
        }
        if wrong.isEmpty, seen.count == openings.count, self.result.findings.isEmpty {
            self.remarks.append("\(total) personal values are opened, each the one that its record commits to")
        }
    }

    // MARK: Erasures

    private mutating func checkErasures() throws(PackageError) {
        let file = PackageLayout.erasures
        guard let lines = try self.lines(file) else { return }
        var subjects = 0
        for (number, line) in lines.enumerated() {
            guard let erasure = ErasureLine(line), let record = try? LedgerRecord(erasure.record) else {
                self.add(.proofMismatch, file: file, "line \(number + 1) is no record with its proof")
                continue
            }
            let sequence = record.sequence.rawValue
            let proof = try? TransparencyProof(parsing: erasure.proof)
            let leads =
                proof.map {
                    $0.checkpoint.checkpoint == self.checkpoint && $0.inclusion.index + 1 == sequence
                        && (try? $0.verifyInclusion(checksum: record.checksum)) != nil
                } ?? false
            guard leads else {
                self.add(.proofMismatch, sequence, file: file, "the proof does not lead from it to the signed root")
                continue
            }
            guard record.organization == self.organization,
                PackageSupplement.erasureActions.contains(record.action)
            else {
                self.add(.proofMismatch, sequence, file: file, "the record is none about an erasure")
                continue
            }
            if record.action == PackageSupplement.erasureActions[0] { subjects += 1 }
        }
        if subjects > 0 {
            self.remarks.append(
                "\(subjects) data subjects were erased by this checkpoint: nobody can open their values any more"
            )
        }
    }

    // MARK: Scrubs

    private mutating func checkScrubs(
        _ keys: [PackageKey],
        _ rootAt: (UInt64) throws(PackageError) -> Digest?
    ) throws(PackageError) {
        let signers = keys.compactMap {
            try? NoteVerifierKey(name: $0.key.name, type: .ed25519, publicKey: $0.key.publicKey)
        }
        for file in self.names(PackageLayout.scrubFolder) {
            let part = try self.parts.part(file)
            self.result.add(part)
            guard let bytes = part.bytes else { continue }
            guard let note = try? SignedNote(parsing: bytes), let scrub = ScrubNote(note.text),
                scrub.origin.elementsEqual(self.checkpoint.origin.bytes)
            else {
                self.add(.proofMismatch, file: file, "it is no note on a re-reading of this log")
                continue
            }
            let names: [String]
            do {
                names = try note.verify(keys: signers).map(\.key.name.description)
            } catch  where error.code == .unknownSigner {
                self.remarks.append("\(file) is signed by nobody whose key is known")
                continue
            } catch {
                self.add(.wrongSignature, file: file, error.message)
                continue
            }
            let who = names.joined(separator: ", ")
            let isWithin = scrub.size <= self.checkpoint.size
            let root =
                scrub.size == self.checkpoint.size ? self.checkpoint.root : isWithin ? try rootAt(scrub.size) : nil
            if let root, root != scrub.root {
                self.add(.fork, file: file, "\(who) read another history of the first \(scrub.size) records")
            } else {
                self.remarks.append("\(who) read all \(scrub.size) records again by \(scrub.endedAt): \(scrub.verdict)")
            }
        }
    }

    // MARK: Forks

    private mutating func checkForks(_ keys: [PackageKey]) throws(PackageError) {
        var known: [NoteVerifierKey] = []
        for key in keys {
            known.append(key.key)
            if let log = try? NoteVerifierKey(
                name: self.checkpoint.origin.keyName,
                type: .ed25519,
                publicKey: key.key.publicKey
            ) {
                known.append(log)
            }
        }
        for file in self.names(PackageLayout.forkFolder) {
            let part = try self.parts.part(file)
            self.result.add(part)
            guard let bytes = part.bytes else { continue }
            guard let fork = try? ForkProof(parsing: bytes),
                fork.older.checkpoint.origin == self.checkpoint.origin
            else {
                self.add(.proofMismatch, file: file, "it is no proof of a fork of this log")
                continue
            }
            do {
                let verdict = try fork.verify(keys: known)
                let who = Set(verdict.equivocators.map(\.name.description)).sorted().joined(separator: ", ")
                let sizes = "\(fork.older.checkpoint.size) and \(fork.newer.checkpoint.size)"
                self.add(
                    .fork,
                    file: file,
                    "two histories are signed, at \(sizes) records"
                        + (who.isEmpty ? ", by different nodes" : ", both by \(who)")
                )
            } catch  where error.code == .unknownSigner {
                self.remarks.append("\(file) is signed by nobody whose key is known: it proves nothing")
            } catch {
                self.add(.wrongSignature, file: file, error.message)
            }
        }
    }
}

/// The text of a node's note on a re-reading: form, log, size, root, begin, end, verdict, a line each.
struct ScrubNote {
    let origin: ArraySlice<UInt8>
    let size: UInt64
    let root: Digest
    let endedAt: Timestamp
    /// `sound`, or what was found and where.
    let verdict: String

    private static let header = Array("flasktrack/scrub/v1".utf8)

    init?(_ text: [UInt8]) {
        let lines = text.split(separator: 0x0A, omittingEmptySubsequences: false)
        func string(_ place: Int) -> String { String(decoding: lines[place], as: UTF8.self) }
        guard lines.count == 8, lines[7].isEmpty, lines[0].elementsEqual(Self.header), let size = UInt64(string(2)),
            let root = Digest(hex: string(3)), Timestamp(string(4)) != nil, let endedAt = Timestamp(string(5))
        else { return nil }
        self.origin = lines[1]
        self.size = size
        self.root = root
        self.endedAt = endedAt
        self.verdict = string(6)
    }
}
