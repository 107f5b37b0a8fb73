internal import Columnar
internal import Primitives
internal import QueryRouter

// How lists of tables travel between processes and nodes of one version: version, then tables, each with its columns.
extension ShardTables {
    func encoded() -> [UInt8] {
        var writer = ByteWriter()
        writer.write(self.version)
        writer.write(UInt32(self.tables.count))
        for table in self.tables {
            writer.write(prefixed: table.name)
            writer.write(prefixed: table.comment)
            writer.write(UInt8(table.isView ? 1 : 0))
            writer.write(UInt32(table.columns.count))
            for column in table.columns {
                writer.write(prefixed: column.name)
                writer.write(prefixed: column.type.sqlName)
                writer.write(UInt8(column.nullable ? 1 : 0))
                writer.write(prefixed: column.comment)
            }
        }
        return writer.bytes
    }

    /// - Throws: ``MalformedBytes``, also for a type that there is not.
    init(encoded bytes: [UInt8]) throws(MalformedBytes) {
        var reader = ByteReader(bytes)
        let version = try reader.read(UInt64.self)
        var tables: [TableSchema] = []
        for _ in 0..<(try reader.read(UInt32.self)) {
            let (name, comment) = (try reader.readPrefixedText(), try reader.readPrefixedText())
            let isView = try reader.read(UInt8.self) == 1
            var columns: [ColumnDefinition] = []
            for _ in 0..<(try reader.read(UInt32.self)) {
                let (name, type) = (try reader.readPrefixedText(), try reader.readPrefixedText())
                guard let type = Self.types[type] else { throw MalformedBytes(what: "type", offset: reader.offset) }
                let nullable = try reader.read(UInt8.self) == 1
                columns.append(
                    ColumnDefinition(name, type, nullable: nullable, comment: try reader.readPrefixedText())
                )
            }
            tables.append(TableSchema(name: name, columns: columns, comment: comment, isView: isView))
        }
        try reader.finish("list of tables")
        self.init(version: version, tables: tables)
    }

    private static let types = Dictionary(
        uniqueKeysWithValues: [.bool, .int64, .uint64, .double, .timestampMicros, .utf8, .json].map {
            (type: ColumnType) in
            (type.sqlName, type)
        }
    )
}
