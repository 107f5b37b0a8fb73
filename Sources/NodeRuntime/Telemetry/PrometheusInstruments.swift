internal import CoreMetrics
internal import Synchronization

/// One labelled value of a family; renders itself as Prometheus sample lines.
protocol PrometheusSeries: AnyObject, Sendable {
    /// Appends the sample lines of this series, which belongs to the family `name` and has `labels`.
    func render(name: String, labels: [(String, String)], into text: inout String)
}

/// A count that only grows.
final class PrometheusCounter: CounterHandler, PrometheusSeries {
    private let value = Atomic<Int64>(0)

    func increment(by amount: Int64) {
        guard amount > 0 else { return }
        self.value.add(amount, ordering: .relaxed)
    }

    func reset() { self.value.store(0, ordering: .relaxed) }

    func render(name: String, labels: [(String, String)], into text: inout String) {
        PrometheusText.sample(name, labels, String(self.value.load(ordering: .relaxed)), into: &text)
    }
}

/// A count of fractions that only grows.
final class PrometheusFloatingPointCounter: FloatingPointCounterHandler, PrometheusSeries {
    private let value = Mutex(0.0)

    func increment(by amount: Double) {
        guard amount > 0, amount.isFinite else { return }
        self.value.withLock { $0 += amount }
    }

    func reset() { self.value.withLock { $0 = 0 } }

    func render(name: String, labels: [(String, String)], into text: inout String) {
        PrometheusText.sample(name, labels, PrometheusText.number(self.value.withLock { $0 }), into: &text)
    }
}

/// A value that goes up and down.
final class PrometheusGauge: MeterHandler, RecorderHandler, PrometheusSeries {
    private let value = Mutex(0.0)

    func set(_ value: Int64) { self.set(Double(value)) }
    func set(_ value: Double) { self.value.withLock { $0 = value } }
    func increment(by amount: Double) { self.value.withLock { $0 += amount } }
    func decrement(by amount: Double) { self.value.withLock { $0 -= amount } }
    func record(_ value: Int64) { self.set(Double(value)) }
    func record(_ value: Double) { self.set(value) }

    func render(name: String, labels: [(String, String)], into text: inout String) {
        PrometheusText.sample(name, labels, PrometheusText.number(self.value.withLock { $0 }), into: &text)
    }
}

/// Counts of observations at or below fixed bounds, their number and sum.
final class PrometheusHistogram: TimerHandler, RecorderHandler, PrometheusSeries {
    private struct State {
        var counts: [UInt64]
        var sum = 0.0
    }

    private let bounds: [Double]
    private let state: Mutex<State>

    /// - Parameter bounds: Upper bounds, strictly increasing; `+Inf` is added.
    init(bounds: [Double]) {
        self.bounds = bounds
        self.state = Mutex(State(counts: Array(repeating: 0, count: bounds.count + 1)))
    }

    func recordNanoseconds(_ duration: Int64) { self.record(Double(duration) / 1_000_000_000) }
    func record(_ value: Int64) { self.record(Double(value)) }

    func record(_ value: Double) {
        guard value.isFinite else { return }
        let bucket = self.bounds.firstIndex { value <= $0 } ?? self.bounds.count
        self.state.withLock { state in
            state.counts[bucket] += 1
            state.sum += value
        }
    }

    func render(name: String, labels: [(String, String)], into text: inout String) {
        let (counts, sum) = self.state.withLock { ($0.counts, $0.sum) }
        var total = UInt64(0)
        for (bucket, count) in counts.enumerated() {
            total += count
            let bound = bucket < self.bounds.count ? PrometheusText.number(self.bounds[bucket]) : "+Inf"
            PrometheusText.sample("\(name)_bucket", labels + [("le", bound)], String(total), into: &text)
        }
        PrometheusText.sample("\(name)_sum", labels, PrometheusText.number(sum), into: &text)
        PrometheusText.sample("\(name)_count", labels, String(total), into: &text)
    }
}

/// A value asked for at the moment of rendering.
final class PrometheusSampled: PrometheusSeries {
    private let sample: @Sendable () -> Double

    init(sample: @escaping @Sendable () -> Double) { self.sample = sample }

    func render(name: String, labels: [(String, String)], into text: inout String) {
        PrometheusText.sample(name, labels, PrometheusText.number(self.sample()), into: &text)
    }
}

/// Prometheus text exposition format, version 0.0.4.
enum PrometheusText {
    static func sample(_ name: String, _ labels: [(String, String)], _ value: String, into text: inout String) {
        text += name
        if !labels.isEmpty {
            text += "{" + labels.map { "\($0.0)=\"\(self.escaped($0.1))\"" }.joined(separator: ",") + "}"
        }
        text += " \(value)\n"
    }

    static func number(_ value: Double) -> String {
        if value.isNaN { return "NaN" }
        if value.isInfinite { return value < 0 ? "-Inf" : "+Inf" }
        if value == value.rounded(), abs(value) < 1e15 { return String(Int64(value)) }
        return String(value)
    }

    /// Label values escape backslash, quote and line feed.
    static func escaped(_ value: String) -> String {
        self.escapedHelp(value).split(separator: "\"", omittingEmptySubsequences: false).joined(separator: "\\\"")
    }

    /// Help texts escape backslash and line feed.
    static func escapedHelp(_ value: String) -> String {
        var result = ""
        for character in value.unicodeScalars {
            switch character {
            case "\\": result += "\\\\"
            case "\n": result += "\\n"
            default: result.unicodeScalars.append(character)
            }
        }
        return result
    }

    /// `text` with everything that a metric or label name may not have as `_`.
    static func name(_ text: String) -> String {
        var result = ""
        for (index, scalar) in text.unicodeScalars.enumerated() {
            switch scalar {
            case "a"..."z", "A"..."Z", "_": result.unicodeScalars.append(scalar)
            case "0"..."9":
                if index == 0 { result += "_" }
                result.unicodeScalars.append(scalar)
            default: result += "_"
            }
        }
        return result.isEmpty ? "_" : result
    }
}
