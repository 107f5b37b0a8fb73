package import Columnar

/// The datasets that every organization has, as the router and all shards know them.
///
/// The first column of every table is `organization`, a text: in a shard's own store it holds one value.
package struct TableCatalog: Sendable {
    /// The name of the column that tells whose row it is.
    package static let organizationColumn = "organization"

    /// In the order given.
    package let datasets: [TableSchema]
    private let byName: [String: TableSchema]

    /// - Throws: ``QueryError`` `.internal` when a name occurs twice, or a table lacks its first column.
    package init(datasets: [TableSchema]) throws {
        var byName: [String: TableSchema] = [:]
        for dataset in datasets {
            guard dataset.columns.first?.name == Self.organizationColumn, dataset.columns.first?.type == .utf8 else {
                throw QueryError(.internal, "table \(dataset.name) does not begin with a text column organization")
            }
            guard byName.updateValue(dataset, forKey: dataset.name.lowercased()) == nil else {
                throw QueryError(.internal, "table \(dataset.name) is defined twice")
            }
        }
        self.datasets = datasets
        self.byName = byName
    }

    /// The table of that name, any case.
    package func table(named name: String) -> TableSchema? { self.byName[name.lowercased()] }

    /// The table or common table expression with the name most like `name`, when one is close enough.
    func nearest(to name: String, among others: Set<String> = []) -> String? {
        let wanted = Array(name.lowercased().utf8.prefix(Self.comparedBytesMax))
        var best: (name: String, distance: Int)?
        for candidate in (self.datasets.map(\.name) + others.sorted()) {
            let distance = Self.distance(wanted, Array(candidate.utf8.prefix(Self.comparedBytesMax)))
            if distance < best?.distance ?? (wanted.count / 2 + 1) { best = (candidate, distance) }
        }
        return best?.name
    }

    private static let comparedBytesMax = 64

    /// Levenshtein's distance by single rows.
    private static func distance(_ left: [UInt8], _ right: [UInt8]) -> Int {
        var row = Array(0...right.count)
        for (line, byte) in left.enumerated() {
            var diagonal = row[0]
            row[0] = line + 1
            for (column, other) in right.enumerated() {
                let substituted = diagonal + (byte == other ? 0 : 1)
                diagonal = row[column + 1]
                row[column + 1] = min(substituted, diagonal + 1, row[column] + 1)
            }
        }
        return row[right.count]
    }
}
