package import Columnar

/// The tables of one organization: what a statement may name, with a comment for each table and column.
package struct ShardTables: Sendable, Hashable {
    /// Changes whenever a table or a column appears; equal on every replica that has the same records.
    package let version: UInt64
    /// Tables first, then views, in the order in which they appeared.
    package let tables: [TableSchema]

    /// Creates the list.
    package init(version: UInt64, tables: [TableSchema]) {
        self.version = version
        self.tables = tables
    }
}
