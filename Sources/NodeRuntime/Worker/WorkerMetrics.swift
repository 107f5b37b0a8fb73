/// Shows a node's worker processes among its metrics.
enum WorkerMetrics {
    static func observe(_ slots: [WorkerSlot], in registry: PrometheusRegistry) {
        registry.sampledGauge("ft_workers", help: "Worker processes that there should be.") { Double(slots.count) }
        registry.sampledGauge("ft_workers_alive", help: "Worker processes that run.") {
            Double(slots.count { $0.isAlive })
        }
        for slot in slots {
            registry.sampledGauge(
                "ft_worker_statements",
                labels: [("worker", slot.name)],
                help: "Statements that a worker process has not ended yet, those among them that were given up."
            ) { Double(slot.statements) }
            registry.sampledGauge(
                "ft_worker_resident_bytes",
                labels: [("worker", slot.name)],
                help: "Physical memory of a worker process, the shared parts of its libraries included."
            ) { Double(slot.pid.map(WorkerLaunch.residentBytes) ?? 0) }
        }
        for fault in WorkerLink.Fault.allCases {
            registry.sampledGauge(
                "ft_worker_restarts",
                labels: [("fault", fault.rawValue)],
                help: "Worker processes that were replaced since the start."
            ) { Double(slots.reduce(0) { $0 + ($1.counters.restarts[fault] ?? 0) }) }
        }
    }
}
