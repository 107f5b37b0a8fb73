package import Storage

/// How a ``RocksStore`` uses the machine: every choice that differs from RocksDB's own, or must not change with it.
///
/// Fixed, because correctness rests on them: paranoid checks and checksums are on; the write-ahead log recovers in the
/// mode «tolerate corrupted tail records», which cuts a torn tail off and refuses to open a log that is damaged before
/// its end; log files are never recycled (recycling excludes that mode).
package struct RocksOptions: Sendable {
    /// How blocks of sorted files are packed.
    package enum Compression: Sendable {
        case none
        case lz4
    }

    /// The choices for one column family.
    package struct Family: Sendable {
        /// Bytes of one memory table; a full one becomes a sorted file.
        package var writeBufferBytes: Int
        /// Memory tables, the one being filled included; when all are full, writes wait.
        package var writeBuffersMax: Int
        package var compression: Compression
        /// Bits of the Bloom filter for each key, over the whole key; 0 for none.
        package var bloomBitsPerKey: Int
        /// Bytes of one block of a sorted file before compression.
        package var blockBytes: Int
        /// Most keys that are asked for are absent: memory tables have a filter too.
        package var isAskedForAbsentKeys = false
    }

    /// Files of the youngest level that are merged into the next at once: keys come mostly in order, so that merging
    /// early gains little.
    static let youngFilesMerged: Int32 = 10
    /// The part of a memory table's room that its filter takes, where it has one.
    static let memoryFilterRatio = 0.05

    /// Memory tables of all families together; beyond it the largest is flushed. Far above what the applier lets gather before
    /// it asks for a flush, as are the limits of single tables: RocksDB's debug build takes a flush of its own beside a
    /// requested one for a mistake and aborts.
    package var writeBuffersBytesMax = 512 << 20
    /// Write-ahead log files together; beyond it the family that holds the oldest back is flushed. A new file takes as much
    /// room on the disk at once, or a little more than the largest memory table if that is less.
    package var walBytesMax = 64 << 20
    /// The block cache, shared by all families; index and filter blocks live in it too.
    package var blockCacheBytes = 128 << 20
    /// Files held open at once.
    package var openFilesMax = 512
    /// Flushes and compactions that run at once.
    package var backgroundJobsMax = 2
    /// Bytes of a sorted file that are written before the kernel is told to begin storing them.
    package var bytesPerSync = 1 << 20
    /// One file of RocksDB's own log, which lies next to the data under the name `LOG`.
    package var infoLogBytesMax = 1 << 20
    /// Files of RocksDB's own log that are kept.
    package var infoLogFilesMax = 4

    private var families: [Family]

    /// The defaults.
    package init() {
        self.families = ColumnFamily.allCases.map(Self.standard)
    }

    /// The choices for a family.
    package subscript(family: ColumnFamily) -> Family {
        get { self.families[family.number] }
        set { self.families[family.number] = newValue }
    }

    private static func standard(_ family: ColumnFamily) -> Family {
        switch family {
        case .records:
            Family(
                writeBufferBytes: 192 << 20,
                writeBuffersMax: 3,
                compression: .lz4,
                bloomBitsPerKey: 10,
                blockBytes: 16 << 10
            )
        case .treeNodes:
            // Hashes cannot be compressed.
            Family(
                writeBufferBytes: 32 << 20,
                writeBuffersMax: 3,
                compression: .none,
                bloomBitsPerKey: 10,
                blockBytes: 4 << 10
            )
        case .idempotency:
            // Most keys asked for are absent: the filter answers.
            Family(
                writeBufferBytes: 16 << 20,
                writeBuffersMax: 3,
                compression: .none,
                bloomBitsPerKey: 12,
                blockBytes: 4 << 10,
                isAskedForAbsentKeys: true
            )
        case .groupState:
            Family(
                writeBufferBytes: 16 << 20,
                writeBuffersMax: 2,
                compression: .lz4,
                bloomBitsPerKey: 10,
                blockBytes: 8 << 10
            )
        case .checkpoints, .sealedValues:
            Family(
                writeBufferBytes: 8 << 20,
                writeBuffersMax: 2,
                compression: .lz4,
                bloomBitsPerKey: 10,
                blockBytes: 8 << 10
            )
        case .meta, .ledgerHeads, .signedHeads, .forks, .scrubState, .subjectKeys:
            Family(
                writeBufferBytes: 4 << 20,
                writeBuffersMax: 2,
                compression: .none,
                bloomBitsPerKey: 0,
                blockBytes: 4 << 10
            )
        }
    }

    /// Refuses what RocksDB would take and do badly.
    /// - Throws: ``StorageError`` `.invalidArgument`, naming the option.
    package func validate() throws(StorageError) {
        let positive: [(name: String, value: Int, lowest: Int)] = [
            ("writeBuffersBytesMax", self.writeBuffersBytesMax, 1 << 20),
            ("walBytesMax", self.walBytesMax, 1 << 20),
            ("blockCacheBytes", self.blockCacheBytes, 1 << 20),
            ("openFilesMax", self.openFilesMax, 32),
            ("backgroundJobsMax", self.backgroundJobsMax, 2),
            ("bytesPerSync", self.bytesPerSync, 0),
            ("infoLogBytesMax", self.infoLogBytesMax, 64 << 10),
            ("infoLogFilesMax", self.infoLogFilesMax, 1),
        ]
        for option in positive where option.value < option.lowest {
            throw StorageError(
                code: .invalidArgument,
                message: "option \(option.name) is \(option.value), at least \(option.lowest) is needed"
            )
        }
        for family in ColumnFamily.allCases {
            let choices = self[family]
            guard
                choices.writeBufferBytes >= 64 << 10, choices.writeBuffersMax >= 2,
                (0...32).contains(choices.bloomBitsPerKey), choices.blockBytes >= 1 << 10
            else {
                throw StorageError(
                    code: .invalidArgument,
                    message: "an option of the family \(family.rawValue) is out of its range"
                )
            }
        }
    }
}
