internal import AuditLedger
internal import Primitives

/// Finds records of a package by their sequence; whether they are those that were signed, the other checks say.
struct ShownRecords {
    let parts: PackageParts
    let size: UInt64

    /// Gives each wanted record that the package shows to `body`, one part at a time.
    /// - Parameter wanted: Ascending.
    func forEach(_ wanted: [UInt64], _ body: (UInt64, [UInt8]) -> Void) throws(PackageError) {
        guard let last = wanted.last else { return }
        switch self.parts.manifest.kind {
        case .full:
            var place = 0
            while place < wanted.count, wanted[place] >= 1, wanted[place] <= self.size {
                let index = (wanted[place] - 1) / UInt64(TilePath.fullWidth)
                let end = wanted[place...].firstIndex { ($0 - 1) / UInt64(TilePath.fullWidth) != index } ?? wanted.count
                if let path = TilePath.bundle(index: index, size: self.size),
                    let bytes = try self.parts.part(path.text).bytes,
                    let entries = try? EntryBundle.entries(path: path, parsing: bytes)
                {
                    for sequence in wanted[place..<end] {
                        let offset = Int((sequence - 1) % UInt64(TilePath.fullWidth))
                        if offset < entries.count { body(sequence, Array(entries[offset])) }
                    }
                }
                place = end
            }
        case .selection:
            let all = Set(wanted)
            let count = self.parts.manifest.files.count { $0.name.hasPrefix(PackageLayout.outlineFolder) }
            for number in 0..<count {
                guard let outline = try self.parts.part(PackageLayout.outline(part: number)).bytes,
                    let records = try self.parts.part(PackageLayout.records(part: number)).bytes
                else { continue }
                let shown = outline.split(separator: 0x0A).compactMap { OutlineLine($0) }.filter(\.isShown)
                for (line, record) in zip(shown, records.split(separator: 0x0A)) where all.contains(line.sequence) {
                    body(line.sequence, Array(record))
                }
                if let end = shown.last?.sequence, end >= last { return }
            }
        }
    }
}
