/// Settings of one engine instance.
package struct ColumnarConfiguration: Sendable {
    /// Who writes the statements that the instance runs.
    package enum Access: Sendable {
        /// Users: files, settings, extensions and other databases are closed, and the configuration is locked.
        case sandboxed
        /// Our own planner only: files are open. Never pass user text.
        case trusted
    }

    /// Who writes the statements.
    package var access: Access
    /// Buffer memory of the instance, in bytes; at least ``memoryLimitBytesMin``.
    package var memoryLimitBytes: Int
    /// Threads that work on one query, including the calling one: of a file from ``parallelBytesMin`` on, and in memory.
    package var threads: Int
    /// Bytes of a file from which more than one thread work on a query. Each thread takes a few groups of some 120,000 rows;
    /// with fewer rows it would only wait, in each of the stores that are open.
    package var parallelBytesMin: Int
    /// Directory for spilled data, owned by this instance alone and wiped at open; nil: never spill.
    package var temporaryDirectory: String?
    /// Most bytes of spilled data.
    package var temporaryBytesMax: Int
    /// Longest time of one query, unless its ``QueryLimits`` say less.
    package var timeLimit: Duration

    /// Smallest useful ``memoryLimitBytes``.
    package static let memoryLimitBytesMin = 8 << 20
    /// Largest ``threads``.
    package static let threadsMax = 64

    /// Creates a configuration; every value has a default fit for one organization's store.
    package init(
        access: Access = .sandboxed,
        memoryLimitBytes: Int = 256 << 20,
        threads: Int = 1,
        parallelBytesMin: Int = 32 << 20,
        temporaryDirectory: String? = nil,
        temporaryBytesMax: Int = 1 << 30,
        timeLimit: Duration = .seconds(30)
    ) {
        self.access = access
        self.memoryLimitBytes = memoryLimitBytes
        self.threads = threads
        self.parallelBytesMin = parallelBytesMin
        self.temporaryDirectory = temporaryDirectory
        self.temporaryBytesMax = temporaryBytesMax
        self.timeLimit = timeLimit
    }

    /// Checks every value against its range.
    /// - Throws: ``ColumnarError`` `.invalidConfiguration`, naming the value.
    package func validate() throws {
        func check(_ holds: Bool, _ text: String) throws {
            guard holds else { throw ColumnarError(.invalidConfiguration, text) }
        }
        try check(
            self.memoryLimitBytes >= Self.memoryLimitBytesMin,
            "memoryLimitBytes must be at least \(Self.memoryLimitBytesMin)"
        )
        try check((1...Self.threadsMax).contains(self.threads), "threads must be 1 to \(Self.threadsMax)")
        try check(self.temporaryBytesMax >= 0, "temporaryBytesMax must not be negative")
        try check(self.timeLimit > .zero, "timeLimit must be positive")
    }
}

/// Limits of one query.
package struct QueryLimits: Sendable {
    /// Longest time from the call of `query` to the last batch; nil: the store's.
    package var timeLimit: Duration?
    /// Most rows of the result.
    package var rowsMax: Int
    /// Most Arrow bytes of the result.
    package var bytesMax: Int
    /// Chunks of the engine (2,048 rows) are joined until a batch has about this many bytes.
    package var batchBytesTarget: Int
    /// Rows that the statement does not see, whatever it says.
    package var hidden: [HiddenRows]

    /// Creates limits.
    package init(
        timeLimit: Duration? = nil,
        rowsMax: Int = 10_000_000,
        bytesMax: Int = 256 << 20,
        batchBytesTarget: Int = 1 << 20,
        hidden: [HiddenRows] = []
    ) {
        self.hidden = hidden
        self.timeLimit = timeLimit
        self.rowsMax = rowsMax
        self.bytesMax = bytesMax
        self.batchBytesTarget = batchBytesTarget
    }
}

/// Rows of a table that a query must not see.
///
/// The query's own connection gets a temporary view of the table's name without them, which stands before the table, also under
/// the name `main.TABLE` and in stored views: the statement's text is not touched.
package struct HiddenRows: Sendable, Hashable {
    /// The table; a name of ours, never a user's.
    package let table: String
    /// An SQL condition on its columns; rows for which it is true are hidden. A text of ours, never a user's.
    package let condition: String

    package init(table: String, condition: String) {
        self.table = table
        self.condition = condition
    }
}
