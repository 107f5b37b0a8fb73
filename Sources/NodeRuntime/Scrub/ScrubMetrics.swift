internal import CoreMetrics

/// What the scrub counts.
struct ScrubMetrics: Sendable {
    let bytes: Counter
    let passes: Counter
    let findings: Counter
    let repairs: Counter

    init(registry: PrometheusRegistry, register: DamageRegister) {
        registry.describe("ft_audit_scrub_bytes_total", "Bytes of records that were read again in the background.")
        registry.describe("ft_audit_scrub_passes_total", "Ledgers that were read again from end to end and are sound.")
        registry.describe("ft_audit_findings_total", "Organizations whose history was found damaged on this node.")
        registry.describe("ft_audit_repairs_total", "Organizations that were repaired on this node.")
        self.bytes = Counter(label: "ft_audit_scrub_bytes_total", dimensions: [], factory: registry)
        self.passes = Counter(label: "ft_audit_scrub_passes_total", dimensions: [], factory: registry)
        self.findings = Counter(label: "ft_audit_findings_total", dimensions: [], factory: registry)
        self.repairs = Counter(label: "ft_audit_repairs_total", dimensions: [], factory: registry)
        registry.sampledGauge(
            "ft_audit_damaged_organizations",
            help: "Organizations that this node does not serve because their history is damaged here."
        ) { Double(register.all.count) }
    }
}
