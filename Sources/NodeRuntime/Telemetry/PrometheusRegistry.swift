package import CoreMetrics
internal import Synchronization

/// Keeps all metrics of a node and renders them for Prometheus.
///
/// A family has at most ``seriesMax`` label sets and the registry at most ``familiesMax`` families; what is beyond is
/// measured into nothing and counted in `ft_metrics_refused_total`. Safe from any thread.
package final class PrometheusRegistry: MetricsFactory {
    /// Most label sets of one family.
    package static let seriesMax = 512
    /// Most families.
    package static let familiesMax = 1024
    /// The content type of ``render()``.
    package static let contentType = "text/plain; version=0.0.4; charset=utf-8"
    /// Upper bounds, in seconds, of histograms made by timers.
    package static let secondsBounds: [Double] = [
        0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30,
    ]
    /// Upper bounds of histograms made by aggregating recorders: sizes and counts.
    package static let sizeBounds: [Double] = [
        1, 4, 16, 64, 256, 1024, 4096, 16_384, 65_536, 262_144, 1_048_576, 4_194_304, 16_777_216,
    ]

    private enum Kind: String {
        case counter
        case gauge
        case histogram
    }

    private struct Family {
        var kind: Kind
        var series: [String: (labels: [(String, String)], series: any PrometheusSeries)] = [:]
    }

    private struct State {
        var families: [String: Family] = [:]
        var help: [String: String] = [:]
        var refused = 0
    }

    private let state = Mutex(State())

    package init() {}

    /// Sets the `# HELP` text of the family `name`.
    package func describe(_ name: String, _ help: String) {
        self.state.withLock { $0.help[PrometheusText.name(name)] = help }
    }

    /// Adds a gauge whose value is asked for at each rendering; `sample` must be quick and may come from any thread.
    package func sampledGauge(
        _ name: String,
        labels: [(String, String)] = [],
        help: String,
        sample: @escaping @Sendable () -> Double
    ) {
        self.describe(name, help)
        _ = self.series(.gauge, name, labels) { PrometheusSampled(sample: sample) }
    }

    /// The text of `/metrics`: families by name, series by labels.
    package func render() -> String {
        let (families, help, refused) = self.state.withLock { ($0.families, $0.help, $0.refused) }
        var text = ""
        for (name, family) in families.sorted(by: { $0.key < $1.key }) {
            if let help = help[name] { text += "# HELP \(name) \(PrometheusText.escapedHelp(help))\n" }
            text += "# TYPE \(name) \(family.kind.rawValue)\n"
            for (_, series) in family.series.sorted(by: { $0.key < $1.key }) {
                series.series.render(name: name, labels: series.labels, into: &text)
            }
        }
        text += "# HELP ft_metrics_refused_total Instruments beyond the registry's bounds or of another kind.\n"
        text += "# TYPE ft_metrics_refused_total counter\nft_metrics_refused_total \(refused)\n"
        return text
    }

    /// The series of that name and labels, made on first use; a detached one when it may not exist.
    private func series<Series: PrometheusSeries>(
        _ kind: Kind,
        _ label: String,
        _ dimensions: [(String, String)],
        make: () -> Series
    ) -> Series {
        let name = PrometheusText.name(label)
        let labels = dimensions.map { (PrometheusText.name($0.0), $0.1) }.sorted { $0.0 < $1.0 }
        let key = labels.map { "\($0.0)=\(PrometheusText.escaped($0.1))" }.joined(separator: ",")
        return self.state.withLock { state in
            if let family = state.families[name] {
                if let existing = family.series[key]?.series as? Series { return existing }
                guard family.kind == kind, family.series[key] == nil, family.series.count < Self.seriesMax else {
                    state.refused += 1
                    return make()
                }
            } else if state.families.count >= Self.familiesMax {
                state.refused += 1
                return make()
            }
            let series = make()
            state.families[name, default: Family(kind: kind)].series[key] = (labels, series)
            return series
        }
    }

    package func makeCounter(label: String, dimensions: [(String, String)]) -> any CounterHandler {
        self.series(.counter, label, dimensions) { PrometheusCounter() }
    }

    package func makeFloatingPointCounter(
        label: String,
        dimensions: [(String, String)]
    ) -> any FloatingPointCounterHandler {
        self.series(.counter, label, dimensions) { PrometheusFloatingPointCounter() }
    }

    package func makeMeter(label: String, dimensions: [(String, String)]) -> any MeterHandler {
        self.series(.gauge, label, dimensions) { PrometheusGauge() }
    }

    package func makeRecorder(
        label: String,
        dimensions: [(String, String)],
        aggregate: Bool
    ) -> any RecorderHandler {
        guard aggregate else { return self.series(.gauge, label, dimensions) { PrometheusGauge() } }
        return self.series(.histogram, label, dimensions) { PrometheusHistogram(bounds: Self.sizeBounds) }
    }

    package func makeTimer(label: String, dimensions: [(String, String)]) -> any TimerHandler {
        self.series(.histogram, label, dimensions) { PrometheusHistogram(bounds: Self.secondsBounds) }
    }

    /// Series stay until the process ends, so that a scrape after their owner's end still sees them.
    package func destroyCounter(_ handler: any CounterHandler) {}
    package func destroyFloatingPointCounter(_ handler: any FloatingPointCounterHandler) {}
    package func destroyMeter(_ handler: any MeterHandler) {}
    package func destroyRecorder(_ handler: any RecorderHandler) {}
    package func destroyTimer(_ handler: any TimerHandler) {}
}
