/// What a user's statement may call. The engine's own sandbox leaves some doors open (its own database file, its
/// settings, statements inside of strings); this gate closes them by reading the engine's own syntax tree.
///
/// Table functions: a list of what is allowed. Other functions and tables: a list of what is refused, because there
/// are hundreds of harmless ones; the planner above has its own, stricter list.
enum StatementGate {
    /// Table functions that read nothing but their arguments.
    static let tableFunctions: Set<String> = [
        "range", "generate_series", "unnest", "json_each", "json_tree", "repeat", "repeat_row", "summary",
    ]

    /// Functions that run text as SQL, reveal the installation, or have effects.
    static let refusedFunctions: Set<String> = [
        "query", "query_table", "json_execute_serialized_sql", "from_substrait", "getvariable", "getenv",
        "current_setting", "nextval", "currval", "write_log", "parse_duckdb_log_message", "current_database",
        "current_schemas", "in_search_path", "pg_size_pretty_file", "to_aggregate_state", "finalize", "combine",
        "combine_aggr", "add_parquet_key", "checkpoint", "force_checkpoint", "read_blob", "read_text", "read_csv",
        "read_csv_auto", "read_json", "read_json_auto", "read_json_objects", "read_json_objects_auto",
        "read_ndjson", "read_ndjson_auto", "read_ndjson_objects", "read_parquet", "parquet_scan", "sniff_csv", "glob",
        "sleep_ms", "which_secret", "icu_collate_list",
    ]

    /// Prefixes of functions and views that describe the installation.
    static let refusedPrefixes = [
        "duckdb_", "pragma_", "pg_", "sqlite_", "parquet_", "test_", "arrow_scan", "seq_scan",
    ]

    /// Prefixes of the engine's own tables and views; the other prefixes are those of functions only.
    static let systemTablePrefixes = ["duckdb_", "pragma_", "pg_", "sqlite_"]

    /// Longest statement, in bytes.
    static let statementBytesMax = 1 << 20

    /// Reads the tree of a statement that parsed.
    /// - Parameter tree: What `json_serialize_sql` returned.
    /// - Throws: ``ColumnarError`` `.notAllowed`, naming what is refused.
    static func check(tree: String) throws {
        var scanner = KeyScanner(bytes: Array(tree.utf8))
        var tableFunctionAhead = false
        while let (key, value) = scanner.next() {
            switch key {
            case "type":
                if value == "TABLE_FUNCTION" { tableFunctionAhead = true }
            case "function_name":
                let name = value.lowercased()
                if tableFunctionAhead {
                    tableFunctionAhead = false
                    guard tableFunctions.contains(name) else { throw refusal("table function", name) }
                }
                if refusedFunctions.contains(name) || hasRefusedPrefix(name) { throw refusal("function", name) }
            case "table_name":
                // The engine takes a name like this for a file to read.
                if value.contains("/") || value.contains(".") { throw refusal("table", value) }
                let name = value.lowercased()
                if systemTablePrefixes.contains(where: { name.hasPrefix($0) }) { throw refusal("table", value) }
            case "schema_name":
                if ["pg_catalog", "information_schema"].contains(value.lowercased()) { throw refusal("schema", value) }
            case "export_state":
                if value == "true" { throw refusal("clause", "EXPORT_STATE") }
            default: break
            }
        }
        if tableFunctionAhead { throw refusal("table function", "without a name") }
    }

    /// The names, in lower case, that stand in the place of a table anywhere in the tree.
    static func tableNames(tree: String) -> Set<String> {
        var names: Set<String> = []
        var scanner = KeyScanner(bytes: Array(tree.utf8))
        while let (key, value) = scanner.next() {
            if key == "table_name" { names.insert(value.lowercased()) }
        }
        return names
    }

    /// Refuses tables that are named with their database, or in a schema other than `main`.
    ///
    /// - Throws: ``ColumnarError`` `.notAllowed`, naming what is refused.
    static func checkNamesNoDatabase(tree: String) throws {
        var scanner = KeyScanner(bytes: Array(tree.utf8))
        while let (key, value) = scanner.next() {
            switch key {
            case "catalog_name" where !value.isEmpty: throw self.refusal("database", value)
            // A recursive table names itself in the second one.
            case "schema_name" where !["", "main", "recurring"].contains(value.lowercased()):
                throw self.refusal("schema", value)
            default: break
            }
        }
    }

    private static func hasRefusedPrefix(_ name: String) -> Bool {
        refusedPrefixes.contains { name.hasPrefix($0) }
    }

    private static func refusal(_ kind: String, _ name: String) -> ColumnarError {
        ColumnarError(.notAllowed, "the \(kind) \(name) is not allowed in a query")
    }
}

/// Walks through JSON text and hands out members whose value is a text or a word, at any depth, without recursion.
///
/// The text comes from the engine and is well formed; a member is a string token followed by a colon, so nothing
/// that stands inside of a user's literal can look like one.
struct KeyScanner {
    private let bytes: [UInt8]
    private var index = 0

    init(bytes: [UInt8]) { self.bytes = bytes }

    mutating func next() -> (key: String, value: String)? {
        while self.index < self.bytes.count {
            guard self.bytes[self.index] == UInt8(ascii: "\"") else {
                self.index += 1
                continue
            }
            let key = self.string()
            guard self.index < self.bytes.count, self.bytes[self.index] == UInt8(ascii: ":") else { continue }
            self.index += 1
            guard self.index < self.bytes.count else { return nil }
            switch self.bytes[self.index] {
            case UInt8(ascii: "\""): return (key, self.string())
            case UInt8(ascii: "t"): return (key, "true")
            case UInt8(ascii: "f"): return (key, "false")
            default: continue
            }
        }
        return nil
    }

    /// Reads a string token; escapes other than of quotes and backslashes stay as they are.
    private mutating func string() -> String {
        self.index += 1
        var text: [UInt8] = []
        while self.index < self.bytes.count {
            let byte = self.bytes[self.index]
            self.index += 1
            if byte == UInt8(ascii: "\"") { break }
            if byte == UInt8(ascii: "\\"), self.index < self.bytes.count {
                let escaped = self.bytes[self.index]
                if escaped != UInt8(ascii: "\"") && escaped != UInt8(ascii: "\\") { text.append(byte) }
                text.append(escaped)
                self.index += 1
                continue
            }
            text.append(byte)
        }
        return String(decoding: text, as: UTF8.self)
    }
}
