internal import CRocksDB
internal import Storage

/// The C options of one database; freed when it is released.
@safe
final class RocksOptionHandles: Sendable {
    nonisolated(unsafe) let database: OpaquePointer  // sendable-ok: read only after init, freed in deinit
    /// In the order of ``ColumnFamily/number``.
    nonisolated(unsafe) let families: [OpaquePointer]  // sendable-ok: read only after init, freed in deinit
    nonisolated(unsafe) private let cache: OpaquePointer  // sendable-ok: read only after init, freed in deinit

    init(_ options: RocksOptions) {
        unsafe self.database = Self.databaseOptions(options)
        let cache: OpaquePointer = unsafe rocksdb_cache_create_lru(options.blockCacheBytes)
        unsafe self.cache = cache
        unsafe self.families = ColumnFamily.allCases.map { unsafe Self.familyOptions(options[$0], cache: cache) }
    }

    deinit {
        for place in unsafe self.families.indices { unsafe rocksdb_options_destroy(self.families[place]) }
        unsafe rocksdb_options_destroy(self.database)
        unsafe rocksdb_cache_destroy(self.cache)
    }

    private static func databaseOptions(_ options: RocksOptions) -> OpaquePointer {
        let handle: OpaquePointer = unsafe rocksdb_options_create()
        unsafe rocksdb_options_set_create_if_missing(handle, 1)
        unsafe rocksdb_options_set_create_missing_column_families(handle, 1)
        unsafe rocksdb_options_set_paranoid_checks(handle, 1)
        unsafe rocksdb_options_set_wal_recovery_mode(handle, Int32(rocksdb_tolerate_corrupted_tail_records_recovery))
        unsafe rocksdb_options_set_recycle_log_file_num(handle, 0)
        unsafe rocksdb_options_set_manual_wal_flush(handle, 0)
        // Some writes skip the log, so all families go to sorted files together: what is there is one moment's state.
        unsafe rocksdb_options_set_atomic_flush(handle, 1)
        unsafe rocksdb_options_set_use_fsync(handle, 0)
        // Batches come from one or two threads: what lets several fill one memory table costs more than it brings.
        unsafe rocksdb_options_set_allow_concurrent_memtable_write(handle, 0)
        unsafe rocksdb_options_set_max_total_wal_size(handle, UInt64(options.walBytesMax))
        unsafe rocksdb_options_set_db_write_buffer_size(handle, options.writeBuffersBytesMax)
        unsafe rocksdb_options_set_max_background_jobs(handle, Int32(clamping: options.backgroundJobsMax))
        // Compactions give way to everything else; flushes do not, because writes wait for them. The process has one pool.
        let environment: OpaquePointer = unsafe rocksdb_create_default_env()
        unsafe rocksdb_env_lower_thread_pool_cpu_priority(environment)
        unsafe rocksdb_env_destroy(environment)
        unsafe rocksdb_options_set_max_open_files(handle, Int32(clamping: options.openFilesMax))
        unsafe rocksdb_options_set_bytes_per_sync(handle, UInt64(options.bytesPerSync))
        let warningsAndErrors = Int32(2)
        unsafe rocksdb_options_set_info_log_level(handle, warningsAndErrors)
        unsafe rocksdb_options_set_max_log_file_size(handle, options.infoLogBytesMax)
        unsafe rocksdb_options_set_keep_log_file_num(handle, options.infoLogFilesMax)
        unsafe rocksdb_options_set_stats_dump_period_sec(handle, 0)
        unsafe rocksdb_options_set_stats_persist_period_sec(handle, 0)
        return unsafe handle
    }

    private static func familyOptions(_ family: RocksOptions.Family, cache: OpaquePointer) -> OpaquePointer {
        let handle: OpaquePointer = unsafe rocksdb_options_create()
        unsafe rocksdb_options_set_paranoid_checks(handle, 1)
        unsafe rocksdb_options_set_write_buffer_size(handle, family.writeBufferBytes)
        unsafe rocksdb_options_set_max_write_buffer_number(handle, Int32(clamping: family.writeBuffersMax))
        if family.isAskedForAbsentKeys {
            // A look-up in the memory table costs as much as an insertion; most need none.
            unsafe rocksdb_options_set_memtable_prefix_bloom_size_ratio(handle, RocksOptions.memoryFilterRatio)
            unsafe rocksdb_options_set_memtable_whole_key_filtering(handle, 1)
        }
        unsafe rocksdb_options_set_level_compaction_dynamic_level_bytes(handle, 1)
        let compression =
            switch family.compression {
            case .none: rocksdb_no_compression
            case .lz4: rocksdb_lz4_compression
            }
        // Young files are soon rewritten: they are packed only from the second level of the tree on.
        let none = Int32(rocksdb_no_compression)
        let packed = Int32(compression)
        let perLevel = [none, none, packed, packed, packed, packed, packed]
        unsafe perLevel.withUnsafeBufferPointer {
            unsafe rocksdb_options_set_compression_per_level(handle, $0.baseAddress, $0.count)
        }
        unsafe rocksdb_options_set_level0_file_num_compaction_trigger(handle, RocksOptions.youngFilesMerged)
        unsafe rocksdb_options_set_level0_slowdown_writes_trigger(handle, RocksOptions.youngFilesMerged * 3)
        unsafe rocksdb_options_set_level0_stop_writes_trigger(handle, RocksOptions.youngFilesMerged * 5)

        let table: OpaquePointer = unsafe rocksdb_block_based_options_create()
        defer { unsafe rocksdb_block_based_options_destroy(table) }
        unsafe rocksdb_block_based_options_set_block_size(table, family.blockBytes)
        unsafe rocksdb_block_based_options_set_format_version(table, 5)
        let xxh3 = CChar(4)
        unsafe rocksdb_block_based_options_set_checksum(table, xxh3)
        unsafe rocksdb_block_based_options_set_block_cache(table, cache)
        unsafe rocksdb_block_based_options_set_cache_index_and_filter_blocks(table, 1)
        unsafe rocksdb_block_based_options_set_cache_index_and_filter_blocks_with_high_priority(table, 1)
        unsafe rocksdb_block_based_options_set_pin_l0_filter_and_index_blocks_in_cache(table, 1)
        unsafe rocksdb_block_based_options_set_whole_key_filtering(table, 1)
        if family.bloomBitsPerKey > 0 {
            // The table options own the policy from here on.
            let policy = unsafe rocksdb_filterpolicy_create_bloom_full(Double(family.bloomBitsPerKey))
            unsafe rocksdb_block_based_options_set_filter_policy(table, policy)
        }
        unsafe rocksdb_options_set_block_based_table_factory(handle, table)
        return unsafe handle
    }
}
