internal import CRocksDB
package import Storage

/// Figures of a ``RocksStore`` at one moment, for metrics.
package struct RocksProperties: Sendable {
    /// RocksDB's estimate of the number of keys in each family.
    package private(set) var estimatedKeys: [ColumnFamily: UInt64] = [:]
    /// Bytes of all sorted files.
    package private(set) var sortedFilesBytes: UInt64 = 0
    /// Bytes of all memory tables.
    package private(set) var memoryTablesBytes: UInt64 = 0
    /// Bytes that compactions have yet to rewrite.
    package private(set) var pendingCompactionBytes: UInt64 = 0
    /// Bytes used of the block cache.
    package let blockCacheBytes: UInt64
    /// Bytes per second that writes are slowed down to; 0 when they are not.
    package let delayedWriteBytesPerSecond: UInt64
    /// Whether writes wait for a flush or compaction.
    package let isWriteStopped: Bool
    package let runningFlushes: UInt64
    package let runningCompactions: UInt64
    /// Failures of flushes and compactions since the store was opened.
    package let backgroundErrors: UInt64
    package let liveSnapshots: UInt64

    init(reading database: RocksDatabase) {
        self.blockCacheBytes = Self.value("rocksdb.block-cache-usage", of: .meta, in: database)
        self.delayedWriteBytesPerSecond = Self.value("rocksdb.actual-delayed-write-rate", of: nil, in: database)
        self.isWriteStopped = Self.value("rocksdb.is-write-stopped", of: nil, in: database) != 0
        self.runningFlushes = Self.value("rocksdb.num-running-flushes", of: nil, in: database)
        self.runningCompactions = Self.value("rocksdb.num-running-compactions", of: nil, in: database)
        self.backgroundErrors = Self.value("rocksdb.background-errors", of: nil, in: database)
        self.liveSnapshots = Self.value("rocksdb.num-snapshots", of: nil, in: database)
        for family in ColumnFamily.allCases {
            self.estimatedKeys[family] = Self.value("rocksdb.estimate-num-keys", of: family, in: database)
            self.sortedFilesBytes += Self.value("rocksdb.total-sst-files-size", of: family, in: database)
            self.memoryTablesBytes += Self.value("rocksdb.cur-size-all-mem-tables", of: family, in: database)
            self.pendingCompactionBytes += Self.value(
                "rocksdb.estimate-pending-compaction-bytes",
                of: family,
                in: database
            )
        }
    }

    /// Zero when RocksDB does not know the property.
    private static func value(_ name: String, of family: ColumnFamily?, in database: RocksDatabase) -> UInt64 {
        var value = UInt64(0)
        let result =
            if let family {
                unsafe rocksdb_property_int_cf(database.handle, database.family(family), name, &value)
            } else {
                unsafe rocksdb_property_int(database.handle, name, &value)
            }
        return result == 0 ? value : 0
    }
}
