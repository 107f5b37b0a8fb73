internal import CJemalloc

/// What the process's allocator holds, in bytes.
///
/// The node uses jemalloc for everything, also for what its libraries allocate: threads that hand buffers to each other
/// cost less there, and memory that was freed goes back to the system after some seconds (decision 0026).
enum HeapStatistics {
    /// The figures that the allocator keeps.
    enum Figure: String, CaseIterable {
        /// Handed out and not given back.
        case allocated = "stats.allocated"
        /// Held in physical memory, also what is free at the moment.
        case resident = "stats.resident"
    }

    /// Reads a figure as it is now; a few microseconds, from any thread.
    static func read(_ figure: Figure) -> UInt64 {
        shim_heap_refresh()
        return UInt64(shim_heap_statistic(figure.rawValue))
    }

    /// Shows the figures among the node's metrics.
    static func observe(in registry: PrometheusRegistry) {
        registry.sampledGauge("ft_heap_allocated_bytes", help: "Bytes that the process has allocated and not freed.") {
            Double(Self.read(.allocated))
        }
        registry.sampledGauge("ft_heap_resident_bytes", help: "Physical memory that the allocator holds, in bytes.") {
            Double(Self.read(.resident))
        }
    }
}
