internal import AuditLedger
internal import Primitives

/// The tree of a selection: the lines of its outline, with the checksums of the records that are there in the place of
/// what the outline says of them.
struct OutlineHistory: PackageHistory {
    let size: UInt64
    let lack: PackageTree.Lack?
    private let parts: PackageParts
    /// In order, from the first record on.
    private let nodes: [DescentNode]
    /// Where the bytes of shown records are.
    private let places: [UInt64: Place]

    private struct Place: Sendable {
        let part: Int
        let range: Range<Int>
    }

    init(_ parts: PackageParts, size whole: UInt64) throws(PackageError) {
        var nodes: [DescentNode] = []
        var places: [UInt64: Place] = [:]
        var size = UInt64(0)
        var file = PackageLayout.outline(part: 0)
        let count = parts.manifest.files.count { $0.name.hasPrefix(PackageLayout.outlineFolder) }
        reading: for number in 0..<count {
            file = PackageLayout.outline(part: number)
            guard let outline = try parts.part(file).bytes else { break }
            let records = try parts.part(PackageLayout.records(part: number)).bytes ?? []
            let lines = outline.split(separator: 0x0A).map { OutlineLine($0) }
            let shown = Self.shown(records, lines.compactMap { $0?.isShown == true ? $0?.sequence : nil })
            for line in lines {
                guard let line, line.sequence == size + 1, line.count <= whole - size else { break reading }
                var digest = line.hash
                if line.isShown, let range = shown[line.sequence] {
                    digest = LedgerHash.leaf(Array(records[range]))
                    places[line.sequence] = Place(part: number, range: range)
                }
                let position = TreePosition(level: line.level, index: (line.sequence - 1) >> UInt64(line.level))
                nodes.append(DescentNode(position: position, digest: digest))
                size += line.count
            }
        }
        self.parts = parts
        self.nodes = nodes
        self.places = places
        self.size = size
        self.lack = size < whole ? PackageTree.Lack(sequence: SequenceNumber(size + 1), file: file) : nil
    }

    /// Where the record of each shown line is: in order, or, when there are fewer records than lines, by what the records
    /// say of themselves.
    private static func shown(_ records: [UInt8], _ sequences: [UInt64]) -> [UInt64: Range<Int>] {
        let lines = records.split(separator: 0x0A).map(\.indices)
        guard lines.count < sequences.count else {
            return Dictionary(zip(sequences, lines)) { first, _ in first }
        }
        let wanted = Set(sequences)
        var found: [UInt64: Range<Int>] = [:]
        for range in lines {
            guard let own = (try? RecordFields(scanning: Array(records[range])))?.sequence.rawValue,
                wanted.contains(own)
            else { continue }
            found[own] = range
        }
        return found
    }

    func cover(_ position: TreePosition, down level: UInt8) throws -> [DescentNode] {
        let (first, last) = (position.firstSequence, position.lastSequence)
        var low = 0
        var high = self.nodes.count
        while low < high {
            let middle = (low + high) / 2
            if self.nodes[middle].position.lastSequence < first { low = middle + 1 } else { high = middle }
        }
        let below = self.nodes[low...].prefix { $0.position.firstSequence <= last }
        guard let node = below.first, node.position.level <= position.level else { throw Withheld() }
        return self.folded(below, to: level)
    }

    /// Perfect subtrees folded as far as `level`, in order; those above stay as they are.
    private func folded(_ nodes: ArraySlice<DescentNode>, to level: UInt8) -> [DescentNode] {
        var folded: [DescentNode] = []
        for node in nodes {
            var top = node
            while let left = folded.last, left.position.level == top.position.level, top.position.level < level,
                left.position.index & 1 == 0, left.position.index + 1 == top.position.index
            {
                folded.removeLast()
                let parent = TreePosition(level: top.position.level + 1, index: top.position.index >> 1)
                top = DescentNode(position: parent, digest: LedgerHash.node(left.digest, top.digest))
            }
            folded.append(top)
        }
        return folded
    }

    func record(_ sequence: SequenceNumber) throws -> [UInt8]? {
        guard let place = self.places[sequence.rawValue] else { return nil }
        let bytes = try self.parts.part(PackageLayout.records(part: place.part)).bytes ?? []
        guard place.range.upperBound <= bytes.count else { return nil }
        return Array(bytes[place.range])
    }
}
