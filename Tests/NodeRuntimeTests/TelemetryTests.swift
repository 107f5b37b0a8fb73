internal import CoreMetrics
internal import Logging
internal import Primitives
internal import Synchronization
internal import Testing

@testable internal import NodeRuntime

@Suite("Log lines and metrics")
struct TelemetryTests {
    private struct Failure: CausedError, CustomStringConvertible {
        var description: String
        var cause: (any Error)?
    }

    private final class Lines: Sendable {
        let all = Mutex<[String]>([])
    }

    private func logger(_ format: NodeConfiguration.LogFormat, _ lines: Lines) -> Logger {
        Logger(label: "node") { label in
            LineLogHandler(
                label: label,
                level: .info,
                format: format,
                now: { Timestamp(microseconds: 123) },
                sink: { line in lines.all.withLock { $0.append(line) } }
            )
        }
    }

    @Test func textLinesHaveTimeLevelMessageAndFields() {
        let lines = Lines()
        var logger = self.logger(.text, lines)
        logger[metadataKey: "node.id"] = "1"
        logger.info("peer is back", metadata: ["peer.address": "a b", "raft.term": "7", "note": "x\ny\u{1b}[2J"])
        logger.debug("not written")
        let expected =
            "1970-01-01T00:00:00.000123Z info    peer is back node.id=1 note=\"x\\ny\\u001b[2J\" "
            + "peer.address=\"a b\" raft.term=7 logger=node\n"
        #expect(lines.all.withLock { $0 } == [expected])
    }

    @Test func jsonLinesAreOneObjectWithTheErrorChain() {
        let lines = Lines()
        let logger = self.logger(.json, lines)
        logger.error(
            "cannot \"open\"",
            error: Failure(description: "store", cause: Failure(description: "disk\u{1}")),
            metadata: ["message": "other", "list": ["a", "b"]]
        )
        let expected =
            "{\"time\":\"1970-01-01T00:00:00.000123Z\",\"level\":\"error\",\"message\":\"cannot \\\"open\\\"\","
            + "\"list\":\"[a,b]\",\"message_\":\"other\",\"error.chain\":\"store: disk\\u0001\",\"logger\":\"node\"}\n"
        #expect(lines.all.withLock { $0 } == [expected])
    }

    @Test func metricsRenderAsPrometheusText() {
        let registry = PrometheusRegistry()
        registry.describe("ft_api_requests_total", "Requests,\nby \\ route.")
        Counter(label: "ft.api.requests_total", dimensions: [("route", "a\"b\\c\nd")], factory: registry).increment(
            by: 2
        )
        Counter(label: "ft.api.requests_total", dimensions: [("route", "a\"b\\c\nd")], factory: registry).increment()
        Meter(label: "ft_store_open", factory: registry).set(1.5)
        let timer = Timer(label: "ft_api_request_seconds", dimensions: [("method", "GET")], factory: registry)
        timer.recordMilliseconds(2)
        timer.recordSeconds(100)
        registry.sampledGauge("ft_queue_length", help: "Waiting.") { 4 }
        let buckets = [
            ("0.0005", 0), ("0.001", 0), ("0.0025", 1), ("0.005", 1), ("0.01", 1), ("0.025", 1), ("0.05", 1),
            ("0.1", 1), ("0.25", 1), ("0.5", 1), ("1", 1), ("2.5", 1), ("5", 1), ("10", 1), ("30", 1), ("+Inf", 2),
        ].map { "ft_api_request_seconds_bucket{method=\"GET\",le=\"\($0.0)\"} \($0.1)\n" }.joined()
        #expect(
            registry.render() == """
                # TYPE ft_api_request_seconds histogram
                \(buckets)ft_api_request_seconds_sum{method="GET"} 100.002
                ft_api_request_seconds_count{method="GET"} 2
                # HELP ft_api_requests_total Requests,\\nby \\\\ route.
                # TYPE ft_api_requests_total counter
                ft_api_requests_total{route="a\\"b\\\\c\\nd"} 3
                # HELP ft_queue_length Waiting.
                # TYPE ft_queue_length gauge
                ft_queue_length 4
                # TYPE ft_store_open gauge
                ft_store_open 1.5
                # HELP ft_metrics_refused_total Instruments beyond the registry's bounds or of another kind.
                # TYPE ft_metrics_refused_total counter
                ft_metrics_refused_total 0

                """
        )
    }

    @Test func refusesLabelSetsBeyondTheBoundAndOtherKinds() {
        let registry = PrometheusRegistry()
        for number in 0...PrometheusRegistry.seriesMax {
            Counter(label: "ft_c_total", dimensions: [("n", String(number))], factory: registry).increment()
        }
        Meter(label: "ft_c_total", factory: registry).set(1)
        let text = registry.render()
        #expect(text.contains("ft_metrics_refused_total 2\n"))
        #expect(!text.contains("n=\"\(PrometheusRegistry.seriesMax)\""))
        #expect(text.split(separator: "\n").count == PrometheusRegistry.seriesMax + 4)
    }
}
