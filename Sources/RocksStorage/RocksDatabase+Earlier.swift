internal import CRocksDB
internal import Glibc
internal import Storage

extension RocksDatabase {
    /// Makes a store as an earlier version left it, with a key `k` in each of the `filled` families; tests open it.
    /// - Parameter families: All that it has, `default` first.
    static func makeEarlier(path: String, families: [String], filled: [String]) throws(StorageError) {
        let options: OpaquePointer = unsafe rocksdb_options_create()
        let writing: OpaquePointer = unsafe rocksdb_writeoptions_create()
        defer {
            unsafe rocksdb_options_destroy(options)
            unsafe rocksdb_writeoptions_destroy(writing)
        }
        unsafe rocksdb_options_set_create_if_missing(options, 1)
        unsafe rocksdb_options_set_create_missing_column_families(options, 1)
        var names: [UnsafePointer<CChar>?] = unsafe families.map { unsafe UnsafePointer(strdup($0)) }
        defer { for place in families.indices { unsafe free(UnsafeMutablePointer(mutating: names[place])) } }
        var choices = unsafe [OpaquePointer?](repeating: options, count: families.count)
        var handles = unsafe [OpaquePointer?](repeating: nil, count: families.count)
        let opened = try unsafe rocksTry("make \(path)") {
            unsafe rocksdb_open_column_families(
                options,
                path,
                Int32(families.count),
                &names,
                &choices,
                &handles,
                $0
            )
        }
        guard let store = unsafe opened else { throw StorageError(code: .io, message: "make \(path)") }
        defer {
            for place in families.indices { unsafe rocksdb_column_family_handle_destroy(handles[place]) }
            unsafe rocksdb_close(store)
        }
        for place in families.indices where filled.contains(families[place]) {
            try unsafe rocksTry("fill \(families[place])") {
                unsafe rocksdb_put_cf(store, writing, handles[place], "k", 1, "v", 1, $0)
            }
        }
    }
}
